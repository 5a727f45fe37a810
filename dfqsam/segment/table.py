"""Prompts from a CSV file: one box a row."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path, PurePath

from dfqsam.errors import InputError
from dfqsam.imaging import PLANES
from dfqsam.segment.prompt import Box, Prompt
from dfqsam.segment.study import MAX_LABEL

NEEDED = ("study", "slice", "x0", "y0", "x1", "y1")
OPTIONAL = ("plane", "label", "propagate", "first", "last")
MAX_BYTES = 1 << 26
YES, NO = ("yes", "true", "1"), ("no", "false", "0")


def _text(path: Path) -> str:
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    if data is None:
        raise InputError(f"{path} is larger than {MAX_BYTES >> 20} MB, which no table of boxes is; give another.")
    try:
        return data.decode("utf-8-sig")  # spreadsheets put a mark of three bytes first
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8; save it as CSV UTF-8.") from error


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Number of the line and cells by column, for every row that is not blank."""
    text = _text(path)
    head = text.split("\n", 1)[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","  # what spreadsheets of many countries write
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    columns: list[str] = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if not columns:
                columns = [cell.lower() for cell in cells]
                _check_columns(columns, path)
            elif len(cells) != len(columns):
                raise InputError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells in place of {len(columns)}; mend the row."
                )
            else:
                rows.append((reader.line_num, dict(zip(columns, cells, strict=True))))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}; mend the row.") from error
    if not rows:
        raise InputError(f"{path} has no rows; give one a box, below {','.join(NEEDED)}.")
    return rows


def _check_columns(columns: list[str], path: Path) -> None:
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise InputError(
            f"{path} has no column {', '.join(missing)}; its first line names {','.join(NEEDED)} "
            f"and, where wanted, {', '.join(OPTIONAL)}."
        )
    for name in columns:
        if name not in NEEDED + OPTIONAL:
            raise InputError(f"{path} has a column {_shown(name)}; take {', '.join(NEEDED + OPTIONAL)}.")
    if len({*columns}) < len(columns):
        raise InputError(f"{path} names a column twice; leave one.")


def _shown(text: str) -> str:
    """A cell in a message: a table may hold anything."""
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


class _Row:
    """Cells of one row, with messages that name its line."""

    def __init__(self, cells: dict[str, str], where: str) -> None:
        self.cells, self.where = cells, where

    def refuse(self, what: str) -> InputError:
        return InputError(f"{self.where}: {what}.")

    def number(self, name: str) -> float:
        try:
            value = float(self.cells[name])
        except ValueError:
            value = float("nan")
        if not abs(value) < float("inf"):
            raise self.refuse(f"{name} is {_shown(self.cells[name])}; give a number of pixels")
        return value

    def whole(self, name: str) -> int | None:
        text = self.cells.get(name, "")
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise self.refuse(f"{name} is {_shown(text)}; give a whole number from 0 on")
        return int(text)

    def box(self) -> Box:
        x0, y0, x1, y1 = (self.number(name) for name in ("x0", "y0", "x1", "y1"))
        if not (0 <= x0 < x1 and 0 <= y0 < y1):
            raise self.refuse(f"the box {x0:g},{y0:g},{x1:g},{y1:g} is empty or below 0; give x0 < x1 and y0 < y1")
        return x0, y0, x1, y1

    def prompt(self) -> tuple[str, Prompt, str]:
        """Study, prompt (label 1) and the text of its label."""
        study = self.cells["study"]
        if not PurePath(study).name:
            raise self.refuse("study is empty; give the name of a file or folder")
        if ".." in PurePath(study.replace("\\", "/")).parts or PurePath(study).is_absolute():
            raise self.refuse(f"study is {_shown(study)}; give a path below the folder of studies")
        plane = self.cells.get("plane", "").lower() or None
        if plane is not None and plane not in PLANES:
            raise self.refuse(f"plane is {_shown(plane)}; give one of {', '.join(PLANES)}")
        asked = self.cells.get("propagate", "").lower()
        if asked not in ("", *YES, *NO):
            raise self.refuse(f"propagate is {_shown(asked)}; give yes or no")
        limits = self.whole("first"), self.whole("last")
        made = Prompt(self.box(), self.whole("slice"), plane, 1, "", asked not in NO, *limits, self.where)
        return study, made, self.cells.get("label", "")


def read_prompts(path: str | Path) -> dict[str, list[Prompt]]:
    """The prompts of each study in a CSV file, in the order of the rows.

    Columns are study (a path below the folder of studies), slice (from 0 on; empty for a picture), x0, y0, x1, y1 (in
    pixels of the slice as shown), and, where wanted, plane, label, propagate (yes or no), first and last. A label is a
    number from 1 to 65535, or a name; names are numbered in the order in which they first come, past the numbers that
    rows give themselves.

    Raises:
        InputError: naming the line, for a row that cannot be used.
    """
    path = Path(path)
    found: list[tuple[str, Prompt, str]] = []
    for line, cells in _rows(path):
        row = _Row(cells, f"{path}, line {line}")
        study, prompt, label = row.prompt()
        if len(label) > 64 or "\\" in label or not label.isprintable():
            raise row.refuse("label is no name of at most 64 printable characters; shorten it")
        if label.isascii() and label.isdigit() and not 1 <= int(label) <= MAX_LABEL:
            raise row.refuse(f"label is {label[:60]}; give 1 to {MAX_LABEL}, or a name")
        found.append((study, prompt, label))
    numbers = {int(label or 1) for _, _, label in found if not label or (label.isascii() and label.isdigit())}
    names: dict[str, int] = {}
    prompts: dict[str, list[Prompt]] = {}
    for study, prompt, label in found:
        if label.isascii() and label.isdigit():
            prompt = replace(prompt, label=int(label))
        elif label:
            if label not in names:
                names[label] = next(n for n in range(1, MAX_LABEL + 1) if n not in numbers and n not in names.values())
            prompt = replace(prompt, label=names[label], name=label)
        prompts.setdefault(PurePath(study).as_posix(), []).append(prompt)
    return prompts
