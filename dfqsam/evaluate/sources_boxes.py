"""Pictures without reference masks, and a CSV file of boxes to ask with."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

from dfqsam.errors import InputError
from dfqsam.evaluate.samples import Box, Sample
from dfqsam.imaging.raster import read_picture

CORNERS = ("x0", "y0", "x1", "y1")


def _corners(row: dict[str, str], where: str) -> Box:
    try:
        x0, y0, x1, y1 = (float(row[name]) for name in CORNERS)
    except (TypeError, ValueError):
        raise InputError(f"{where}: the box needs a number in each of x0, y0, x1, y1, in pixels.") from None
    return x0, y0, x1, y1


def boxed(folder: Path, path: Path) -> list[Sample]:
    """A sample for every row of ``path``, a CSV file with the columns image (below ``folder``), x0, y0, x1 and y1.

    The columns patient, modality, dataset and label are used where they are there; without a patient, a picture counts
    as one.

    Raises:
        InputError: when the file lacks a column, names a picture that is not there, or a box is not made of numbers.
    """
    try:
        with open(path, newline="") as file:
            reader = csv.DictReader(file)
            names, rows = reader.fieldnames or (), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV ({error}); save it as plain CSV in UTF-8.") from error
    missing = [name for name in ("image", *CORNERS) if name not in names]
    if missing:
        raise InputError(f"{path} has no column {', '.join(missing)}; it needs image, {', '.join(CORNERS)}.")
    found = []
    for number, row in enumerate(rows, 2):
        image = folder / row["image"]
        if not image.is_file():
            raise InputError(f"{path}, line {number}: there is no picture {image}.")
        found.append(
            Sample(
                key=f"{row['image']}#{number}",
                view=row["image"],
                dataset=row.get("dataset") or folder.resolve().name,
                modality=row.get("modality") or "",
                patient=row.get("patient") or row["image"],
                label=row.get("label") or "",
                files=(image,),
                picture=partial(read_picture, image),
                box=_corners(row, f"{path}, line {number}"),
            )
        )
    return sorted(found, key=lambda sample: sample.view)
