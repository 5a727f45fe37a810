"""The checkpoints that a site allows, by SHA-256: a text file as ``sha256sum`` writes it.

The site's own file counts where there is one, and one that ``DFQSAM_CHECKPOINTS`` names; where there are both, a
checkpoint must be on both. Without either, every checkpoint that holds tensors only is read.
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


def configured() -> dict[Path, frozenset[str]]:
    """The lists of this process by their files: the site's own, and the one of the variable.

    Raises:
        InputError: as :func:`read_list`; a list that is named and cannot be read is not passed over.
    """
    files, site = [], site_file()
    try:
        os.lstat(site)
        files.append(site)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InputError(f"The list of checkpoints {site} cannot be read ({error.strerror}).") from error
    files += [Path(named)] if (named := os.environ.get(VARIABLE)) else []
    return {path: read_list(path) for path in files}


def file_sha256(path: Path) -> str:
    """64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_allowed(path: Path) -> None:
    """Lets a checkpoint through that every list names, or every one where there is no list.

    Raises:
        CheckpointError: for any other.
        InputError: when a list cannot be read.
    """
    if not (known := configured()):
        return
    try:
        found = file_sha256(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}).") from error
    for place, hashes in known.items():
        if found not in hashes:
            raise CheckpointError(
                f"{path} is not on this site's list of checkpoints ({place}), and was not read; if it may be, put its "
                f"SHA-256 there: {found}."
            )
