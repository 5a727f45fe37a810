"""Masks as COCO JSON, with run lengths compressed as pycocotools does or as plain lists."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfqsam.errors import InputError
from dfqsam.imaging.files import write_whole
from dfqsam.imaging.volume import Volume

# Compressed counts: five bits a character from "0" on, the sixth says that more follow.
FIRST, BITS, MORE = 48, 5, 32


def run_lengths(mask: ArrayLike) -> list[int]:
    """Lengths of the runs of an H x W mask, column by column, alternately outside and inside, outside first.

    >>> run_lengths([[0, 1], [1, 1]])
    [1, 3]
    >>> run_lengths([[1]])
    [0, 1]
    """
    inside = np.asarray(mask) != 0
    if inside.ndim != 2 or not inside.size:
        raise InputError(f"The mask has shape {inside.shape}; give height x width.")
    flat = inside.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return ([0] if flat[0] else []) + runs.tolist()


def from_run_lengths(counts: Sequence[int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The inverse of :func:`run_lengths`, for a mask of ``shape`` (height, width).

    Raises:
        InputError: when the lengths do not make such a mask.
    """
    total = shape[0] * shape[1]
    if any(count < 0 for count in counts) or sum(counts) != total:
        raise InputError(f"The run lengths do not make a mask of {shape[1]} x {shape[0]} pixels.")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(shape, order="F")


def compressed(counts: Sequence[int]) -> str:
    """Run lengths as COCO's text: differences to the length two before, from the fourth on, in base 32.

    >>> compressed([1, 3])
    '13'
    """
    text = bytearray()
    for i, count in enumerate(counts):
        left = count - counts[i - 2] if i > 2 else count
        while True:
            part, left = left & 31, left >> BITS
            done = left == (-1 if part & 16 else 0)
            text.append(FIRST + (part if done else part | MORE))
            if done:
                break
    return text.decode("ascii")


def decompressed(text: str) -> list[int]:
    """The inverse of :func:`compressed`.

    Raises:
        InputError: when the text is no such code.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        part = ord(character) - FIRST
        if not 0 <= part < 2 * MORE or shift > 60:
            raise InputError("The text is no compressed COCO mask.")
        value |= (part & 31) << shift
        shift += BITS
        if part & MORE:
            continue
        if part & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise InputError("The text is no compressed COCO mask: it breaks off.")
    return counts


def _annotation(number: int, image: int, category: int, inside: NDArray[np.bool_], compress: bool) -> dict[str, Any]:
    rows, columns = np.nonzero(inside.any(axis=1))[0], np.nonzero(inside.any(axis=0))[0]
    counts = run_lengths(inside)
    top, left = int(rows[0]), int(columns[0])
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": {"size": list(inside.shape), "counts": compressed(counts) if compress else counts},
        "area": int(inside.sum()),
        "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
        "iscrowd": 1,  # COCO's mark of run lengths, as against polygons
    }


def coco(
    volume: Volume, mask: ArrayLike, labels: Mapping[int, str] | None = None, name: str = "", compress: bool = True
) -> dict[str, Any]:
    """A mask as a COCO document: an image for every slice that holds any of it, an annotation for every label there.

    Slices are pictures as stored (``volume.view("stored")``); image ids are their numbers, from 0 on.

    Args:
        volume: what the mask lies on.
        mask: S x R x C labels, 0 outside.
        labels: names of labels; without one, ``label N``.
        name: file name of a single picture, to be found in the document. A volume's slices are called slice-0000.png
            and so on: names of studies may name a patient, so none is taken from the study.
        compress: text in place of lists of numbers.

    Raises:
        InputError: when the mask has another shape.
    """
    array = np.asarray(mask)
    if array.shape != volume.shape:
        raise InputError(f"The mask has shape {array.shape}; the volume has {volume.shape} (slices, rows, columns).")
    found = [int(label) for label in np.unique(array) if label]
    names = {label: f"label {label}" for label in found} | {int(label): text for label, text in (labels or {}).items()}
    images, annotations = [], []
    for k in np.flatnonzero(array.any(axis=(1, 2))):
        file_name = name if name and volume.shape[0] == 1 else f"slice-{k:04d}.png"
        images.append({"id": int(k), "file_name": file_name, "height": volume.shape[1], "width": volume.shape[2]})
        for label in np.unique(array[k]):
            if label:
                number = len(annotations) + 1
                annotations.append(_annotation(number, int(k), int(label), array[k] == label, compress))
    categories = [{"id": label, "name": text} for label, text in sorted(names.items())]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(
    path: str | Path,
    volume: Volume,
    mask: ArrayLike,
    labels: Mapping[int, str] | None = None,
    name: str = "",
    compress: bool = True,
) -> None:
    """Write :func:`coco`'s document as JSON.

    Raises:
        InputError: when the mask has another shape or the file cannot be written.
    """
    write_whole(Path(path), json.dumps(coco(volume, mask, labels, name, compress), indent=1).encode())
