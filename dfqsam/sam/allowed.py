"""The checkpoints that a site allows, by SHA-256: a text file as ``sha256sum`` writes it.

``DFQSAM_CHECKPOINTS`` names the file; without it, the site's own is taken where there is one. Without either, every
checkpoint that holds tensors only is read.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path

from dfqsam.errors import CheckpointError, InputError

VARIABLE = "DFQSAM_CHECKPOINTS"
LINE = re.compile(r"\\?([0-9a-fA-F]{64})([ \t].*)?")
MAX_BYTES = 1 << 20


def site_file() -> Path:
    """Where an administrator puts the list for everybody on this machine."""
    if sys.platform == "win32":
        return Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "dfqsam" / "checkpoints.sha256"
    return Path("/etc/dfqsam/checkpoints.sha256")


def read_list(path: Path) -> frozenset[str]:
    """The hashes in a list: 64 hexadecimal digits at the beginning of a line, and a name behind; ``#`` begins a remark.

    Raises:
        InputError: when it cannot be read, or a line is none of these.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode()
    except (OSError, ValueError) as error:
        raise InputError(f"The list of checkpoints {path} cannot be read ({error}).") from error
    found = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = LINE.fullmatch(line)
        if match is None:
            raise InputError(f"Line {number} of {path} is no SHA-256 with a name; write it as sha256sum does.")
        found.add(match[1].lower())
    return frozenset(found)


def configured() -> tuple[Path, frozenset[str]] | None:
    """The list of this process and its file; None where there is none.

    Raises:
        InputError: as :func:`read_list`; a list that is named and cannot be read is not passed over.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named), read_list(Path(named))
    return (path, read_list(path)) if (path := site_file()).exists() else None


def file_sha256(path: Path) -> str:
    """64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_allowed(path: Path) -> None:
    """Lets a checkpoint through that the site's list names, or every one where there is no list.

    Raises:
        CheckpointError: for any other.
        InputError: when the list cannot be read.
    """
    if (known := configured()) is None:
        return
    try:
        found = file_sha256(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}).") from error
    if found not in known[1]:
        raise CheckpointError(
            f"{path} is not on this site's list of checkpoints ({known[0]}), and was not read; if it may be, put its "
            f"SHA-256 there: {found}."
        )
