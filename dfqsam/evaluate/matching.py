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


def named(folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """The files below ``folder`` by their names without endings.

    Raises:
        InputError: when two have one name.
    """
    found: dict[str, Path] = {}
    for path in files(folder, endings):
        add(found, stem(path, folder), path)
    return found


def add(found: dict[str, Path], name: str, path: Path) -> None:
    """Raises:
    InputError: when there is another of that name.
    """
    if found.setdefault(name, path) != path:
        raise InputError(f"{path} and {found[name]} have one name; which one has the mask cannot be told.")


def candidates(name: str) -> list[tuple[str, str]]:
    """Names of images that a mask of this name may be of, each with the label that the rest of the name then is."""
    cut, _, label = name.rpartition(BETWEEN)
    return [(name, ""), (f"{name}_0000", ""), (cut, label)]


def paired(folder: Path, images: dict[str, Path], masks: list[tuple[str, Path]]) -> list[Match]:
    """Name, image, label and mask of every mask.

    Raises:
        InputError: when an image has no mask or a mask no image.
    """
    found: list[Match] = []
    for name, path in masks:
        for image, label in candidates(name):
            if image in images:
                found.append((image, images[image], label, path))
                break
        else:
            raise InputError(f"{path} has no image of that name in {folder / 'images'}; add it, or move the mask away.")
    alone = images.keys() - {name for name, *_ in found}
    if alone:
        first = images[min(alone)]
        raise InputError(f"{first} has no mask of that name in {folder / 'masks'}; add it, or move the image away.")
    return sorted(found)


def matched(folder: Path, endings: tuple[str, ...]) -> list[Match]:
    """Name, image, label and mask of every mask: ``images/A.png`` goes with ``masks/A.png`` and ``masks/A__LABEL.png``.

    Raises:
        InputError: when there is none, an image has no mask, a mask no image, or two images have one name.
    """
    masks = folder / "masks"
    found = paired(folder, named(folder / "images", endings), [(stem(p, masks), p) for p in files(masks, endings)])
    if not found:
        raise InputError(f"{folder} has no {', '.join(endings)} files in its folders images and masks.")
    return found


def _table(folder: Path) -> list[dict[str, str]]:
    """The rows of ``patients.csv``; none without that file."""
    path = folder / PATIENTS
    if not path.is_file():
        return []
    try:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV ({error}); save it as plain CSV in UTF-8.") from error
    if any(not row.get("image") or not row.get("patient") for row in rows):
        raise InputError(f"{path} needs the columns image and patient, filled in every row.")
    return rows


def patients(folder: Path) -> dict[str, str]:
    """Image name to patient, from ``patients.csv`` with the columns image and patient; empty without that file.

    Raises:
        InputError: when the file lacks a column.
    """
    below = folder / "images"
    return {stem(below / row["image"], below): row["patient"] for row in _table(folder)}


def series_of(folder: Path) -> dict[str, int]:
    """Image name to the number of its series, from 1 on, where ``patients.csv`` has a column series that is filled.

    Raises:
        InputError: when the file lacks a column, or a series is no such number.
    """
    below, found = folder / "images", {}
    for row in _table(folder):
        text = (row.get("series") or "").strip()
        if text and not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
            raise InputError(f"{folder / PATIENTS} has the series {text!r} of {row['image']}; give a number from 1 on.")
        if text:
            found[stem(below / row["image"], below)] = int(text)
    return found


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
