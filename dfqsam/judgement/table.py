"""Judgements as CSV, for a spreadsheet that takes no cell for a formula."""

from __future__ import annotations

import csv
import io
import os
import re
import secrets
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dfqsam.errors import InputError
from dfqsam.judgement.history import Stored
from dfqsam.judgement.record import COLUMNS

HEAD = ("sequence", *COLUMNS, "preferred")
INVISIBLE = "".join(map(chr, range(33))) + "\x7f\xa0\u200b\ufeff"
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def safe_cell(value: Any) -> str:
    """A cell's text; one that a spreadsheet would compute gets an apostrophe before it, which spreadsheets do not show.

    >>> safe_cell("=1+1"), safe_cell(-1.5), safe_cell(None)
    ("'=1+1", '-1.5', '')
    """
    text = "" if value is None else str(value)
    # Spreadsheets skip what is blank at the beginning, and read full-width signs as plain ones in some locales.
    start = unicodedata.normalize("NFKC", text).lstrip(INVISIBLE)
    dangerous = text[:1] in ("\t", "\r", "\n") or start[:1] in tuple("=+-@|%")
    return f"'{text}" if dangerous and not NUMBER.fullmatch(text) else text


def to_csv(stored: Iterable[Stored]) -> str:
    """A head and a line for every judgement; what does not exist is empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEAD)
    for item in stored:
        values = item.judgement.to_json()
        cells = (item.sequence, *(values[name] for name in COLUMNS), item.preferred)
        writer.writerow([safe_cell(cell) for cell in cells])
    return buffer.getvalue()


def write_csv(path: str | Path, stored: Iterable[Stored]) -> None:
    """Write :func:`to_csv` to a file, so that nobody sees half of it.

    Raises:
        InputError: when it cannot be written.
    """
    path = Path(path)
    new = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        new.write_text(to_csv(stored), encoding="utf-8", newline="")
        os.replace(new, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}).") from error
    finally:
        new.unlink(missing_ok=True)
