"""DICOM files: from a path to datasets without pixels, with what is dangerous refused first."""

from __future__ import annotations

import os
import stat
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from dfqsam.errors import InputError
from dfqsam.imaging.extra import studies
from dfqsam.imaging.files import opened, size_of
from dfqsam.imaging.quiet import unlogged

MAX_FILES = 20_000
DEFLATED = {"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1"}
DICOMDIR = "1.2.840.10008.1.3.10"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


@dataclass(frozen=True)
class Item:
    """One file that may be DICOM: its name for messages, how to open it, and the folder it lies in (None in memory)."""

    name: str
    open: Callable[[], BinaryIO]
    folder: Path | None = None


@contextmanager
def tolerant(name: str, doing: str = "read") -> Iterator[None]:
    """Turn whatever pydicom and its decoders raise over a damaged file into one sentence, and keep them quiet:
    their warnings quote identifiers.
    """
    try:
        with warnings.catch_warnings(), unlogged("pydicom"), unlogged("highdicom"):
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Exception as error:  # pydicom reports damage by whatever its converters raise: KeyError, struct.error ...
        raise InputError(
            f"{name} is damaged or no proper DICOM file and cannot be {doing}; export it again."
        ) from error


def bare(head: bytes) -> bool:
    """Whether the bytes begin like DICOM without its preamble: a first element of group 8 or 2 of a sane length."""
    if len(head) < 16 or head[:2] not in (b"\x08\x00", b"\x02\x00"):
        return False
    element, length = struct.unpack_from("<HI", head, 2)
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return element <= 0x0070 and (explicit or 0 < length <= 256)


def is_dicom(head: bytes) -> bool:
    """Whether the first 132 bytes or more are those of a DICOM file."""
    return head[128:132] == b"DICM" or bare(head)


def _regular(path: Path) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size > 0


def walk(folder: Path) -> list[Item]:
    """All files below a folder, in the order of their names; hidden ones and folders behind links are left out.

    Raises:
        InputError: when there are more than 20 000 of them.
    """
    found: list[Path] = []
    for root, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(root, name) for name in sorted(names) if not name.startswith(".") and name != "DICOMDIR"]
        if len(found) > MAX_FILES:
            raise InputError(f"{folder} holds more than {MAX_FILES} files; give the folder of one study.")
    return [Item(path.name, lambda path=path: opened(path)) for path in found if _regular(path)]


def _syntax(file: BinaryIO) -> tuple[str, str]:
    """Transfer syntax and SOP class from the file's meta information alone; empty where it does not say."""
    from pydicom.filereader import data_element_generator

    found = {0x00020010: "", 0x00020002: ""}
    elements = data_element_generator(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    for _, element in zip(range(64), elements, strict=False):
        if int(element.tag) in found:
            found[int(element.tag)] = bytes(element.value or b"").decode("ascii", "replace").strip("\0 ")
    return found[0x00020010], found[0x00020002]


def read_dataset(file: BinaryIO, name: str, pixels: bool = False) -> Any:
    """A pydicom dataset, without its pixels unless asked for. Private elements are dropped.

    Raises:
        InputError: for a damaged file, a DICOMDIR, or a deflated transfer syntax (whose size nothing tells beforehand).
    """
    pydicom = studies("pydicom")
    with tolerant(name):
        file.seek(0)
        preamble = file.read(132)[128:] == b"DICM"
        file.seek(132 if preamble else 0)
        syntax, storage = _syntax(file)
        if storage == DICOMDIR:
            raise InputError(f"{name} is a DICOMDIR, a list of files; give the folder or the files themselves.")
        if syntax in DEFLATED:
            raise InputError(
                f"{name} is deflated as a whole, which is not opened; export it in another transfer syntax."
            )
        file.seek(0)
        dataset = pydicom.dcmread(file, stop_before_pixels=not pixels, force=not preamble)
        dataset.remove_private_tags()
        if not dataset.file_meta.get("TransferSyntaxUID"):
            implicit, little = dataset.original_encoding
            if not little:
                raise InputError(f"{name} does not say how it is encoded; export it again.")
            dataset.file_meta.TransferSyntaxUID = IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE
        return dataset


def file_size(item: Item) -> int:
    """Bytes of the file."""
    with item.open() as file:
        return size_of(file)
