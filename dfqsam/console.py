"""What the verbs of the command line share."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dfqsam.errors import InputError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def print_json(document: Any) -> None:
    """A document for scripts, as people can read it too."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def two_columns(title: str, rows: dict[str, Any]) -> None:
    """Names and values, in words (:func:`_words`). No mark-up and no control character in them is followed, and long
    words are broken, not cut."""
    table = Table(title=Text(_printable(title)), show_header=False, title_justify="left")
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(Text(_printable(name)), Text(_printable(_words(value))))
    Console().print(table)


def _words(value: Any) -> str:
    """A value as people write it: sentences of a list on lines of their own, everything else on one."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        words = [_words(each) for each in value]
        return ("\n" if any(" " in word for word in words) else ", ").join(words) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not given" if value is None else str(value)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)


def need_torch() -> None:
    """Stops a verb that needs PyTorch where there is none.

    Raises:
        InputError: naming the extra that has it.
    """
    if find_spec("torch") is None:
        raise InputError("This command needs PyTorch; install it with: pip install 'dfqsam[quantize]'.")
