"""Images and masks that belong together by their names, and the patients they are of."""

from __future__ import annotations

import csv
from pathlib import Path

from dfqsam.errors import InputError

BETWEEN = "__"  # in the name of a mask: image__label
PATIENTS = "patients.csv"

Match = tuple[str, Path, str, Path]


def stem(path: Path, below: Path) -> str:
    """The name that an image and its mask share: the path below their folder without its endings."""
    name = path.relative_to(below).as_posix()
    for ending in (".nii.gz", *([path.suffix] if path.suffix else [])):
        if name.lower().endswith(ending.lower()):
            return name[: -len(ending)]
    return name


def files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """Every file below ``folder`` with one of the endings, sorted; hidden ones are left out."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name.lower().endswith(endings))
    return sorted(path for path in found if not path.name.startswith("."))


def matched(folder: Path, endings: tuple[str, ...]) -> list[Match]:
    """Name, image, label and mask of every mask: ``images/A.png`` goes with ``masks/A.png`` and ``masks/A__LABEL.png``.

    Names of nnU-Net (``A_0000.nii.gz`` with ``A.nii.gz``) match too.

    Raises:
        InputError: when an image has no mask, a mask no image, or two images have one name.
    """
    images: dict[str, Path] = {}
    for path in files(folder / "images", endings):
        name = stem(path, folder / "images")
        if name in images:
            raise InputError(f"{path} and {images[name]} have one name; which one has the mask cannot be told.")
        images[name] = path
    found: list[Match] = []
    for path in files(folder / "masks", endings):
        name = stem(path, folder / "masks")
        cut, _, label = name.rpartition(BETWEEN)
        for image, about in ((name, ""), (f"{name}_0000", ""), (cut, label)):
            if image in images:
                found.append((image, images[image], about, path))
                break
        else:
            raise InputError(f"{path} has no image of that name in {folder / 'images'}; add it, or move the mask away.")
    alone = images.keys() - {name for name, *_ in found}
    if alone:
        first = images[min(alone)]
        raise InputError(f"{first} has no mask of that name in {folder / 'masks'}; add it, or move the image away.")
    if not found:
        raise InputError(f"{folder} has no {', '.join(endings)} files in its folders images and masks.")
    return sorted(found)


def patients(folder: Path) -> dict[str, str]:
    """Image name to patient, from ``patients.csv`` with the columns image and patient; empty without that file.

    Raises:
        InputError: when the file lacks a column.
    """
    path = folder / PATIENTS
    if not path.is_file():
        return {}
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV ({error}); save it as plain CSV in UTF-8.") from error
    if any(not row.get("image") or not row.get("patient") for row in rows):
        raise InputError(f"{path} needs the columns image and patient, filled in every row.")
    below = folder / "images"
    return {stem(below / row["image"], below): row["patient"] for row in rows}


def patient_of(name: str, known: dict[str, str], folder: Path) -> str:
    """Who an image is of: as ``patients.csv`` says; else the sub-folder that it lies in; else itself.

    Raises:
        InputError: when there is a ``patients.csv`` that does not name the image.
    """
    if known:
        if name not in known:
            raise InputError(f"{folder / PATIENTS} does not name the image {name}; add a row for it.")
        return known[name]
    return name.split("/")[0]
