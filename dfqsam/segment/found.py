"""What was found in a study: a mask, how far each object was followed, and what objects share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.imaging import Volume, millilitres
from dfqsam.segment.prompt import Prompt
from dfqsam.segment.step import WORDS, Stop


@dataclass(frozen=True)
class Found:
    """What a prompt led to.

    Args:
        prompt: with slice and plane filled in.
        first, last: slices from where to where the object was found; None where nothing was.
        below, above: why it ends there, towards slice 0 and away from it.
        quality: the model's own estimate of the IoU on the prompt's slice, None where nothing was found.
        least_quality: the least on any slice.
    """

    prompt: Prompt
    first: int | None
    last: int | None
    below: Stop
    above: Stop
    quality: float | None
    least_quality: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "label": self.prompt.label,
            "plane": self.prompt.plane,
            "slice": self.prompt.slice,
            "box": None if self.prompt.box is None else list(self.prompt.box),
            "clicks": [
                [*point, int(inside)] for point, inside in zip(self.prompt.points, self.prompt.inside, strict=True)
            ],
            "first": self.first,
            "last": self.last,
            "stopped_below": str(self.below),
            "stopped_above": str(self.above),
            "predicted_iou": None if self.quality is None else round(self.quality, 4),
            "least_predicted_iou": None if self.least_quality is None else round(self.least_quality, 4),
        }

    def __str__(self) -> str:
        name = self.prompt.name or f"label {self.prompt.label}"
        asked = "clicks" if self.prompt.box is None else "box and clicks" if self.prompt.points else "box"
        where = f"{name}, {asked} on {self.prompt.plane} slice {self.prompt.slice}"
        if self.first is None:
            return f"{where}: the model finds nothing"
        if self.below is Stop.SINGLE:
            return f"{where}: that slice only, predicted IoU {self.quality:.2f}"
        return (
            f"{where}: slices {self.first} to {self.last}, predicted IoU {self.quality:.2f} (least "
            f"{self.least_quality:.2f}); below, {WORDS[self.below]}; above, {WORDS[self.above]}"
        )


@dataclass(frozen=True)
class Overlap:
    """Voxels that two objects claim.

    Args:
        label: of the object that was asked for earlier, which the mask does not show there.
        under: label that the mask has there, of the one that was asked for later.
        voxels: how many.
    """

    label: int
    under: int
    voxels: int


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The mask of a study.

    Args:
        volume: the study.
        mask: S x R x C of labels, uint8 or uint16; 0 is outside. Where objects overlap, the later prompt's holds; so it
            is written in every format, as the viewer does.
        names: of the labels, for people.
        found: for each prompt, in their order.
        encoded: how many times a picture went through the encoder.
        overlaps: what the mask does not show, as a label map has one label a voxel.
    """

    volume: Volume
    mask: NDArray[Any]
    names: dict[int, str]
    found: tuple[Found, ...]
    encoded: int
    overlaps: tuple[Overlap, ...] = ()

    def overlap_notes(self) -> list[str]:
        """A sentence for each pair of objects that overlap."""

        def name(label: int) -> str:
            return self.names[label] or f"label {label}"

        return [
            f"{name(one.label)}: {one.voxels} of its voxels are {name(one.under)}'s as well and written as "
            f"{name(one.under)}, which was asked for later"
            for one in self.overlaps
        ]

    def ml(self, label: int) -> float | None:
        """Volume of an object; None where the study does not say how large a voxel is."""
        try:
            return millilitres(self.volume, self.mask == label)
        except InputError:
            return None

    def to_json(self) -> dict[str, Any]:
        """Labels with their voxels, volumes and voxels that later ones cover, prompts with their slices and the reasons
        to stop; plain values."""
        labels = []
        for label, name in self.names.items():
            ml = self.ml(label)
            voxels = int((self.mask == label).sum())
            covered = sum(one.voxels for one in self.overlaps if one.label == label)
            size = {"voxels": voxels, "ml": None if ml is None else round(ml, 6), "covered_voxels": covered}
            labels.append({"label": label, "name": name, **size})
        return {
            "labels": labels,
            "prompts": [one.to_json() for one in self.found],
            "overlaps": [vars(one) for one in self.overlaps],
            "encoded_slices": self.encoded,
            "notes": list(self.volume.notes),
        }
