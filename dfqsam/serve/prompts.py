"""What is asked about a picture, as JSON; the only place that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from dfqsam.serve.problems import RequestError

MOST_PROMPTS, MOST_POINTS = 64, 64
EXAMPLE = (10, 12, 30, 40)
Format = Literal["json", "png", "coco", "seg", "nifti"]
PLURALS = {"box": "boxes", "point": "points"}
Model = TypeVar("Model")


def _whole(value: object) -> object:
    """JSON has one kind of number: 1.0 is as whole as 1."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Prompt(BaseModel):
    """A box, points or both around one object, in pixels of the picture as its plane shows it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    box: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat] | None = Field(
        None,
        description="x0, y0, x1, y1 with 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height.",
        examples=[EXAMPLE],
    )
    point_coords: list[tuple[FiniteFloat, FiniteFloat]] | None = Field(
        None, min_length=1, max_length=MOST_POINTS, description="x, y of each point."
    )
    point_labels: list[Annotated[Literal[0, 1], BeforeValidator(_whole)]] | None = Field(
        None, min_length=1, max_length=MOST_POINTS, description="1 inside the object, 0 outside; one a point."
    )
    label: Annotated[int, BeforeValidator(_whole)] = Field(1, ge=1, le=65_535, description="Of the object in the mask.")
    name: str = Field("", max_length=64, description="Of the object, for DICOM SEG and COCO.")

    @model_validator(mode="after")
    def _printable(self) -> Self:
        if self.name and (not self.name.strip() or "\\" in self.name or not self.name.isprintable()):
            raise RequestError(422, "A name holds what DICOM does not take.", "Give printable characters without \\.")
        return self

    @property
    def kinds(self) -> list[str]:
        """Of prompt, as bundles name them."""
        return [kind for kind, given in (("box", self.box), ("point", self.point_coords)) if given is not None]


Prompts = Annotated[list[Prompt], Field(min_length=1, max_length=MOST_PROMPTS)]


class Question(BaseModel):
    """Prompts on a picture that was sent before."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    prompts: Prompts = Field(examples=[[{"box": EXAMPLE}]])
    format: Format | None = Field(None, description="Of the answer; without one, what the header Accept asks for.")


PROMPTS: TypeAdapter[list[Prompt]] = TypeAdapter(Prompts)
QUESTION = TypeAdapter(Question)


def parse(kind: TypeAdapter[Model], data: bytes, what: str) -> Model:
    """JSON as ``kind``.

    Args:
        kind: :data:`PROMPTS` or :data:`QUESTION`.
        data: as it was sent; no message repeats any of it.
        what: for messages: ``prompts``, ``body``.

    Raises:
        RequestError: 400 for what is no JSON or of another form, with the place of the first mistake.
    """
    try:
        return kind.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        # Names of fields that are not known were sent by the client, and so are not said.
        steps = first["loc"][:-1] if first["type"] == "extra_forbidden" else first["loc"]
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
        reason = "It is no JSON" if first["type"] == "json_invalid" else first["msg"]
        raise RequestError(400, f"{what}{place}: {reason}.") from None


def check_kinds(prompts: Sequence[Prompt], understood: Sequence[str], title: str) -> None:
    """Raises:
    RequestError: 422 for a prompt without box and points, and for kinds that the model was not trained on.
    """
    known = " and ".join(PLURALS[kind] for kind in PLURALS if kind in understood)
    for number, prompt in enumerate(prompts):
        if not prompt.kinds:
            raise RequestError(422, f"prompts[{number}] asks for nothing.", f"Give {known}.")
        for kind in prompt.kinds:
            if kind not in understood:
                raise RequestError(
                    422,
                    f"{title} was trained on {known} only, and prompts[{number}] has a {kind}, which gives worthless "
                    "masks.",
                    f"Give {known}.",
                )
