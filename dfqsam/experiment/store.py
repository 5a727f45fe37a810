"""The finished cells of an experiment: one JSON object a line, written as soon as it is known."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dfqsam.errors import InputError
from dfqsam.experiment.rungs import CORRECTED

Cell = dict[str, Any]
FILE = "cells.jsonl"


def key(cell: Cell) -> tuple[str, int, str, str | None, str]:
    """What tells cells apart: row, seed, column, reparameterization, rung. Cells of before there were rungs are of the
    one that calibration sources are compared at."""
    return cell["row"], cell["seed"], cell["column"], cell["reparameterize"], cell.get("rung", CORRECTED)


def load_cells(folder: Path) -> list[Cell]:
    """The finished cells in ``folder``, in the order in which they were measured; none where there is no file.

    A last line without its end was cut off when the run was, and is left out.

    Raises:
        InputError: when another line is no cell.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    whole = path.read_bytes().rpartition(b"\n")[0]
    cells = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            cell = json.loads(line)
            key(cell)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"Line {number} of {path} is damaged; remove it, and the run measures it again."
            ) from error
        cells.append(cell)
    return cells


def append_cell(folder: Path, cell: Cell) -> None:
    """Adds a cell to those in ``folder`` and sees it onto the disk, in place of what a cut-off run left unfinished."""
    path = folder / FILE
    with open(path, "ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(cell).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
