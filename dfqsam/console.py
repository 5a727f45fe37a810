"""What the verbs of the command line share."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dfqsam.errors import InputError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def print_json(document: Any) -> None:
    """A document for scripts, as people can read it too."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def two_columns(title: str, rows: dict[str, Any]) -> None:
    """Names and values."""
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in rows.items():
        table.add_row(name, str(value))
    Console().print(table)


def need_torch() -> None:
    """Stops a verb that needs PyTorch where there is none.

    Raises:
        InputError: naming the extra that has it.
    """
    if find_spec("torch") is None:
        raise InputError("This command needs PyTorch; install it with: pip install 'dfqsam[quantize]'.")
