"""What the answers and forms of the service look like, for its OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from dfqsam.imaging import PLANES
from dfqsam.imaging import PRESETS as WINDOWS
from dfqsam.serve.answers import FORMATS, MEDIA_TYPES
from dfqsam.serve.problems import Problem
from dfqsam.serve.prompts import EXAMPLE, MOST_PROMPTS, Prompt, Question

PROBLEMS = {
    400: "The request is malformed.",
    401: "There is no token, or none that is known (where the service has tokens).",
    403: "The request comes from a page of another site.",
    404: "There is no such image for this client.",
    406: "Nothing that Accept names can be sent.",
    408: "The body did not come in time.",
    413: "The body or the image is larger than what is taken.",
    415: "Another kind of body or of image is needed.",
    422: "The image or the prompts are understood, and cannot be used.",
    429: "Too many requests; Retry-After says when to come again.",
    500: "The service failed.",
    503: "The service stops, cannot write its audit log, or took too long.",
}


class Health(BaseModel):
    """Whether the service runs (health) and takes requests (ready)."""

    status: Literal["ok", "stopping", "cannot record"]


class Served(BaseModel):
    """The bundle that is served."""

    bundle: str = Field(description="SHA-256 of its manifest.")
    title: str
    family: str
    profile: str
    image_size: int = Field(description="Side of the square that the model sees, in pixels.")
    prompts: list[str] = Field(description="Kinds that the model understands.")
    trust: str = Field(description="verified, unsigned, foreign or unchecked.")
    version: str = Field(description="Of dfqsam.")
    max_body: int = Field(description="Bytes of a request.")
    max_pixels: int = Field(description="Of an image, in all its slices.")


class Kept(BaseModel):
    """An image that was encoded, and is kept for prompts until room is needed."""

    id: str = Field(description="For /v1/images/ID/segment; the same content has the same id, for this client only.")
    height: int
    width: int
    slice: int
    slices: int
    plane: str


class RunLengths(BaseModel):
    """A mask as COCO's compressed run lengths."""

    size: tuple[int, int] = Field(description="Height and width.")
    counts: str


class Mask(BaseModel):
    """The mask of one prompt."""

    label: int
    name: str
    quality: float = Field(description="The model's own estimate of the mask's IoU, about 0 to 1.")
    area: int = Field(description="Pixels.")
    bbox: tuple[int, int, int, int] = Field(description="Left, top, width, height in pixels; zeros for an empty mask.")
    segmentation: RunLengths


class Masks(BaseModel):
    """The masks of all prompts, in their order."""

    bundle: str
    image: str
    size: tuple[int, int]
    masks: list[Mask]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Those answers, for a route."""
    return {status: {"model": Problem, "description": PROBLEMS[status]} for status in statuses}


COCO = {
    "type": "object",
    "title": "COCO",
    "properties": {name: {"type": "array"} for name in ("images", "annotations", "categories")},
    "required": ["images", "annotations", "categories"],
}


def masks(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that segments."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    content = {kind: binary for kind in dict.fromkeys(MEDIA_TYPES.values()) if kind != "application/json"}
    document = {"schema": {"anyOf": [{"$ref": "#/components/schemas/Masks"}, COCO]}}
    said = "The masks: run lengths or COCO (JSON), PNG, DICOM SEG or NIfTI (.nii.gz)."
    good = {200: {"description": said, "content": {"application/json": document, **content}}}
    return {**good, **problems(*statuses)}


_SHOWN = {
    "slice": {"type": "integer", "minimum": 0, "maximum": 999_999_999, "description": "From 0 on."},
    "plane": {"type": "string", "enum": list(PLANES)},
    "window": {
        "type": "string",
        "pattern": rf"^(percentiles|{'|'.join(WINDOWS)}|-?[0-9]{{1,5}},[1-9][0-9]{{0,4}})$",
        "description": f"Of grey levels: percentiles, {', '.join(WINDOWS)}, or CENTRE,WIDTH.",
    },
}
_IMAGE = {"type": "string", "format": "binary", "description": "PNG, JPEG, TIFF, DICOM or NIfTI."}


def _form(properties: dict[str, Any], required: list[str], encoding: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema, **encoding}}}}


IMAGE_FORM = _form({"image": _IMAGE, **_SHOWN}, ["image"], {})
SEGMENT_FORM = _form(
    {
        "image": _IMAGE,
        "prompts": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/Prompt"},
            "minItems": 1,
            "maxItems": MOST_PROMPTS,
            "description": "A JSON list of prompts, as a text or a file.",
            "examples": [[{"box": EXAMPLE}]],
        },
        "format": {"type": "string", "enum": list(FORMATS)},
        **_SHOWN,
    },
    ["image", "prompts"],
    {"encoding": {"prompts": {"contentType": "application/json"}}},
)
QUESTION_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Question"}}},
    }
}

_SAME = {"parameters": {"image": "$response.body#/id"}}
LINKS = {
    "segment_image": {
        "operationId": "segment_image",
        "description": "Prompts on the image.",
        "requestBody": {"prompts": [{"box": list(EXAMPLE)}]},
        **_SAME,
    },
    "forget_image": {"operationId": "forget_image", "description": "Forget the image.", **_SAME},
}


def with_schemas(document: dict[str, Any], tokens: bool) -> dict[str, Any]:
    """FastAPI's document with what forms and bodies refer to, and the token where there is one."""
    from pydantic.json_schema import models_json_schema

    pairs: list[tuple[type[BaseModel], Literal["validation"]]] = [
        (one, "validation") for one in (Prompt, Question, Masks)
    ]
    _, found = models_json_schema(pairs, ref_template="#/components/schemas/{model}")
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.update(found["$defs"])
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own answers, which are not given here
        schemas.pop(name, None)
    for methods in document["paths"].values():
        for operation in methods.values():
            said = operation["responses"]
            for status in [status for status, one in said.items() if "HTTPValidationError" in str(one)]:
                del said[status]
    if tokens:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, methods in document["paths"].items():
            for operation in methods.values():
                if path.startswith("/v1/") or path == "/metrics":
                    operation["security"] = [{"token": []}]
    return document
