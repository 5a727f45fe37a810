"""What the verbs of the command line share."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

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
