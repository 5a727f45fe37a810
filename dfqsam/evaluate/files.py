"""What is written beside a report: the table of cases and documents in JSON, each replaced in one step."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dfqsam.errors import InputError
from dfqsam.evaluate.rows import COLUMNS, Row


def write(path: Path, data: bytes) -> None:
    """Write a file so that nobody sees half of it.

    Raises:
        InputError: when it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}).") from error


def _csv(head: Sequence[str], lines: Iterable[Sequence[Any]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return buffer.getvalue().encode()


def results_csv(rows: Sequence[Row]) -> bytes:
    """A line for every row, numbered from 1; what does not exist is empty."""
    lines = ([i, *row.to_json().values()] for i, row in enumerate(rows, 1))
    return _csv(("index", *COLUMNS), lines)


def patients_csv(names: Sequence[str], columns: dict[str, Sequence[float]]) -> bytes:
    """A line for every patient."""
    lines = zip(names, *([f"{value:.6f}" for value in values] for values in columns.values()), strict=True)
    return _csv(("patient", *columns), lines)


def document_json(document: Any) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
