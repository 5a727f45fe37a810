"""Pictures in a folder ``images`` with masks of the same names in a folder ``masks``."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.evaluate.matching import matched, patient_of, patients
from dfqsam.evaluate.samples import Mask, Sample
from dfqsam.imaging.raster import read_picture
from dfqsam.progress import track

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
MOST_LABELS = 20


def _values(path: Path) -> NDArray[np.uint8]:
    """The values of a mask, H x W."""
    pixels = read_picture(path)
    if not ((pixels[..., 0] == pixels[..., 1]) & (pixels[..., 0] == pixels[..., 2])).all():
        raise InputError(f"The mask {path} is coloured; save it as grey, 0 outside and one value for each object.")
    return pixels[..., 0]


def _labels(path: Path) -> list[int]:
    """The objects in a mask: values 1 to 20 are each an object of its own; [0] for a mask of 0 and a bright value."""
    values = _values(path)
    found = [int(value) for value in np.unique(values) if value]
    if not found:
        return []
    if found[-1] <= MOST_LABELS:
        return found
    between = int(((values > 0) & (values < found[-1])).sum())
    # Softened edges and the ringing of JPEG are few pixels; a map of labels with large values is something else.
    if len(found) > 1 and between > 0.1 * int((values == found[-1]).sum()):
        raise InputError(
            f"The mask {path} holds {len(found)} values besides 0; give 0 and 255, or labels from 1 to {MOST_LABELS}."
        )
    return [0]


def _object(path: Path, value: int) -> Mask:
    values = _values(path)
    return values == value if value else values > values.max() / 2


def pictures(folder: Path) -> list[Sample]:
    """One sample for every object in every mask of ``folder/masks``; a mask that is empty gives none.

    Raises:
        InputError: when names do not match, or a file cannot be read or understood.
    """
    known = patients(folder)
    found = []
    for name, image, about, mask in track(matched(folder, ENDINGS), "Reading the masks"):
        labels = _labels(mask)
        for value in labels:
            label = about or (f"label {value}" if value else "")
            found.append(
                Sample(
                    key=mask.relative_to(folder).as_posix() + (f"#{value}" if len(labels) > 1 else ""),
                    view=image.relative_to(folder).as_posix(),
                    dataset=folder.resolve().name,
                    modality="",
                    patient=patient_of(name, known, folder),
                    label=label,
                    files=(image, mask),
                    picture=partial(read_picture, image),
                    reference=partial(_object, mask, value),
                )
            )
    return found
