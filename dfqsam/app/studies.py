"""The folder of studies on the server: what is in it, and nothing that is not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dfqsam.errors import InputError
from dfqsam.imaging.dicom.reading import is_dicom

MOST = 500


@dataclass(frozen=True)
class Entry:
    """One name in a folder: a file, a folder to go into, or a folder that holds a DICOM series."""

    name: str
    folder: bool
    series: bool = False


def inside(root: Path, parts: tuple[str, ...]) -> Path:
    """The path of ``parts`` below ``root``; whatever they say, it lies below it, links followed.

    Raises:
        InputError: for names that lead elsewhere, or to nothing.
    """
    base = root.resolve()
    refused = InputError("This study is not in the folder that the viewer was started with; choose another.")
    if any(part in ("", ".", "..") or "/" in part or "\\" in part or "\0" in part for part in parts):
        raise refused
    try:
        path = base.joinpath(*parts).resolve(strict=True)
    except OSError as error:
        raise InputError("This study is no longer there; choose another.") from error
    if path != base and base not in path.parents:
        raise refused
    return path


def _holds_dicom(folder: Path) -> bool:
    """Whether one of the first files of a folder is DICOM."""
    for number, path in enumerate(sorted(folder.iterdir())):
        if number > 20:
            return False
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if is_dicom(file.read(132)):
                    return True
    return False


def entries(root: Path, parts: tuple[str, ...] = ()) -> list[Entry]:
    """What lies in a folder below ``root``: folders first, then files, by name; hidden ones are left out, and what
    a link leads out of the folder to. At most 500.

    Raises:
        InputError: when the folder cannot be read or lies elsewhere.
    """
    here = inside(root, parts)
    found: list[Entry] = []
    try:
        for path in sorted(here.iterdir()):
            if path.name.startswith("."):
                continue
            try:
                real = inside(root, (*parts, path.name))
                if real.is_dir():
                    found.append(Entry(path.name, True, _holds_dicom(real)))
                elif real.is_file():
                    found.append(Entry(path.name, False))
            except (InputError, OSError):
                continue
    except OSError as error:
        raise InputError(f"The folder of studies cannot be read ({error.strerror}).") from error
    return sorted(found, key=lambda one: not one.folder)[:MOST]
