"""Prompts from a CSV file: a box or a click a row."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path, PurePath

from dfqsam.errors import InputError
from dfqsam.imaging import PLANES
from dfqsam.segment.prompt import Box, Point, Prompt
from dfqsam.segment.study import MAX_LABEL

NEEDED = ("study", "slice")
CORNERS, CLICK = ("x0", "y0", "x1", "y1"), ("x", "y")
OPTIONAL = ("inside", "plane", "label", "propagate", "first", "last", "series")
KNOWN = NEEDED + CORNERS + CLICK + OPTIONAL
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
        raise InputError(f"{path} has no rows; give one a box, below {','.join(NEEDED + CORNERS)}.")
    return rows


def _check_columns(columns: list[str], path: Path) -> None:
    wanted = NEEDED + (CLICK if {*columns}.intersection(CLICK) and not {*columns}.intersection(CORNERS) else CORNERS)
    missing = [name for name in wanted if name not in columns]
    missing += [name for name in CLICK if {*columns}.intersection(CLICK) and name not in columns + missing]
    if missing:
        raise InputError(
            f"{path} has no column {', '.join(missing)}; its first line names {','.join(NEEDED + CORNERS)} (or "
            f"{','.join(CLICK)} for clicks) and, where wanted, {', '.join(OPTIONAL)}."
        )
    for name in columns:
        if name not in KNOWN:
            raise InputError(f"{path} has a column {_shown(name)}; take {', '.join(KNOWN)}.")
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

    def _given(self, names: tuple[str, ...]) -> bool:
        return any(self.cells.get(name) for name in names)

    def _yes(self, name: str) -> bool:
        text = self.cells.get(name, "").lower()
        if text not in ("", *YES, *NO):
            raise self.refuse(f"{name} is {_shown(text)}; give yes or no")
        return text not in NO

    def box(self) -> Box | None:
        """The box; None in a row of a click."""
        if not self._given(CORNERS) and self._given(CLICK):
            return None
        x0, y0, x1, y1 = (self.number(name) for name in ("x0", "y0", "x1", "y1"))
        if not (0 <= x0 < x1 and 0 <= y0 < y1):
            raise self.refuse(f"the box {x0:g},{y0:g},{x1:g},{y1:g} is empty or below 0; give x0 < x1 and y0 < y1")
        return x0, y0, x1, y1

    def clicks(self) -> tuple[tuple[Point, ...], tuple[bool, ...]]:
        """The click of the row, if there is one, and whether it is on the object."""
        if not self._given(CLICK):
            if self.cells.get("inside"):
                raise self.refuse("inside belongs to a click; give x and y")
            return (), ()
        x, y = self.number("x"), self.number("y")
        if x < 0 or y < 0:
            raise self.refuse(f"the click {x:g},{y:g} is below 0; give pixels of the slice")
        return ((x, y),), (self._yes("inside"),)

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
        rest = self._yes("propagate"), self.whole("first"), self.whole("last"), self.where, *self.clicks()
        made = Prompt(self.box(), self.whole("slice"), plane, 1, "", *rest)
        return study, made, self.cells.get("label", "")


def _joined(prompts: list[Prompt], prompt: Prompt) -> bool:
    """Whether the click of ``prompt`` was put to the prompt that it belongs to: the last one before it of the same
    label on the same slice."""
    if prompt.box is not None:
        return False
    place = prompt.slice, prompt.plane, prompt.label
    for index in reversed(range(len(prompts))):
        one = prompts[index]
        if (one.slice, one.plane, one.label) == place:
            if (one.propagate, one.first, one.last) != (prompt.propagate, prompt.first, prompt.last):
                raise InputError(
                    f"{prompt.origin}: propagate, first and last differ from those of the row that this click belongs "
                    f"to ({one.origin}); make them agree."
                )
            more = {"points": one.points + prompt.points, "inside": one.inside + prompt.inside}
            prompts[index] = replace(one, **more)
            return True
    return False


def read_choices(path: str | Path) -> dict[str, int]:
    """Which series each study of a CSV file is to be, where its column ``series`` says so.

    Raises:
        InputError: naming the line, for a number that is none, or where rows of one study differ.
    """
    path = Path(path)
    found: dict[str, int] = {}
    for line, cells in _rows(path):
        row = _Row(cells, f"{path}, line {line}")
        number, study = row.whole("series"), PurePath(cells["study"]).as_posix()
        if number == 0:
            raise row.refuse("series is 0; they are counted from 1 on")
        if number is not None and found.setdefault(study, number) != number:
            raise row.refuse(f"series is {number}, and {found[study]} in another row of {study}; choose one")
    return found


def read_prompts(path: str | Path) -> dict[str, list[Prompt]]:
    """The prompts of each study in a CSV file, in the order of the rows.

    Columns are study (a path below the folder of studies), slice (from 0 on; empty for a picture), x0, y0, x1, y1 (in
    pixels of the slice as shown), or x, y for a click with inside (yes, or no for one beside the object), and, where
    wanted, plane, label, propagate (yes or no), first, last and series. Clicks belong to the last box, or click, before
    them of the same label on the same slice; without one they are a prompt of their own. A label is a number from 1 to
    65535, or a name; names are numbered in the order in which they first come, past the numbers that rows give
    themselves.

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
        mine = prompts.setdefault(PurePath(study).as_posix(), [])
        if not _joined(mine, prompt):
            mine.append(prompt)
    for prompt in (one for mine in prompts.values() for one in mine):
        if prompt.box is None and not any(prompt.inside):
            raise InputError(f"{prompt.origin}: no click is on the object; give one with inside: yes.")
    return prompts
