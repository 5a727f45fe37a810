"""Masks as they are sent: run lengths, PNG, COCO, DICOM SEG or NIfTI."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from dfqsam.imaging import Segment, coco
from dfqsam.imaging.coco import compressed, run_lengths
from dfqsam.imaging.dicom.segmentation import segmentation_bytes
from dfqsam.imaging.nifti_mask import nifti_bytes
from dfqsam.serve.cache import Encoded
from dfqsam.serve.problems import RequestError
from dfqsam.serve.prompts import Format, Prompt

MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "png": "image/png",
    "coco": "application/json",
    "seg": "application/dicom",
    "nifti": "application/gzip",
}
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True)
class Answer:
    """What is sent: bytes and their media type."""

    body: bytes
    media_type: str = "application/json"


@dataclass(frozen=True)
class Found:
    """A prompt and what came of it: H x W of bool, and the model's own estimate of its IoU (about 0 to 1)."""

    prompt: Prompt
    mask: NDArray[np.bool_]
    quality: float


def chosen_format(asked: str | None, accept: str) -> Format:
    """The format that a request asks for by name or, without one, by its header Accept.

    >>> chosen_format(None, "text/html, application/dicom;q=0.9, */*;q=0.1"), chosen_format("png", "*/*")
    ('seg', 'png')

    Raises:
        RequestError: 400 for an unknown name, 406 where nothing fits.
    """
    if asked is not None:
        for name in FORMATS:
            if name == asked:
                return name
        raise RequestError(400, "The format is unknown.", f"Give {', '.join(FORMATS)}.")
    wanted: list[tuple[float, str]] = []
    for part in accept.split(",") if accept.strip() else ["*/*"]:
        kind, *parameters = (text.strip().lower() for text in part.split(";"))
        weights = [text.removeprefix("q=") for text in parameters if text.startswith("q=")]
        try:
            wanted.append((float(weights[0]) if weights else 1.0, kind))
        except ValueError:
            continue
    for weight, kind in sorted(wanted, key=lambda one: -one[0]):
        for name, media_type in MEDIA_TYPES.items():
            if weight > 0 and kind in (media_type, "*/*", f"{media_type.partition('/')[0]}/*"):
                return name
    offered = ", ".join(dict.fromkeys(MEDIA_TYPES.values()))
    raise RequestError(406, "Nothing that Accept names can be sent.", f"Accept {offered}, or give a format.")


def make_answer(encoded: Encoded, found: Iterable[Found], kind: Format, about: dict[str, str]) -> Answer:
    """The answer in the format ``kind``; where objects overlap, the later one holds (not in ``json``).

    Args:
        encoded: the picture.
        found: at least one, in the order that was asked for; each is looked at once.
        kind: of :data:`FORMATS`.
        about: goes into ``json``: bundle and image.

    Raises:
        InputError: when the format cannot say the picture's geometry, or DICOM SEG has an empty mask.
    """
    if kind == "json":
        masks = [_run_lengths(one) for one in found]
        return Answer(json.dumps({**about, "size": list(encoded.shape), "masks": masks}).encode())
    shown = np.zeros(encoded.shape, np.uint16)
    names: dict[int, str] = {}
    for one in found:
        label = one.prompt.label
        shown[one.mask] = label
        names[label] = one.prompt.name or f"label {label}"
    if kind == "png":
        return Answer(_png(shown, max(names)), MEDIA_TYPES[kind])
    volume = encoded.volume
    whole = np.zeros(volume.shape, np.uint8 if max(names) < 256 else np.uint16)
    for label in names:
        volume.put(whole, encoded.slice, encoded.view, shown == label, label)
    if kind == "coco":
        return Answer(json.dumps(coco(volume, whole, names)).encode())
    if kind == "seg":
        segments = {label: Segment(name) for label, name in names.items()}
        return Answer(segmentation_bytes(whole, volume, segments), MEDIA_TYPES[kind])
    return Answer(gzip.compress(nifti_bytes(whole, volume, Path("The mask")), 6, mtime=0), MEDIA_TYPES[kind])


def _run_lengths(one: Found) -> dict[str, Any]:
    rows, columns = np.flatnonzero(one.mask.any(axis=1)), np.flatnonzero(one.mask.any(axis=0))
    box = [0, 0, 0, 0]
    if len(rows):
        box = [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0]) + 1, int(rows[-1] - rows[0]) + 1]
    return {
        "label": one.prompt.label,
        "name": one.prompt.name,
        "quality": round(one.quality, 4),
        "area": int(one.mask.sum()),
        "bbox": box,
        "segmentation": {"size": list(one.mask.shape), "counts": compressed(run_lengths(one.mask))},
    }


def _png(shown: NDArray[np.uint16], most: int) -> bytes:
    """255 inside where there is label 1 only, the labels themselves else."""
    values = shown * 255 if most == 1 else shown
    _, data = cv2.imencode(".png", values if most > 255 else values.astype(np.uint8))
    return data.tobytes()
