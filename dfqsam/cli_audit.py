"""The verbs ``audit verify`` and ``audit show`` of the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dfqsam.audit import AuditLog
from dfqsam.console import AsJson, print_json
from dfqsam.errors import ChainError
from dfqsam.judgement.chain import Entry, Head

ALTERED = 1
app = typer.Typer(no_args_is_help=True, help="Read an audit log of dfqsam: what was made, signed, verified, accepted.")
LogFile = Annotated[Path, typer.Argument(metavar="LOG", help="The file that --audit or DFQSAM_AUDIT named.")]
Noted = Annotated[str | None, typer.Option("--head", metavar="HEAD", help="A head that was noted before.")]


def _followed(path: Path, noted: str | None) -> tuple[Head, list[Entry]]:
    expected = None if noted is None else Head.parse(noted)
    try:
        log = AuditLog(path, write=False)
        try:
            return log.verify(expected), log.entries()
        finally:
            log.close()
    except ChainError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise typer.Exit(ALTERED) from None


@app.command()
def verify(log: LogFile, head: Noted = None, as_json: AsJson = False) -> None:
    """Follow the chain of hashes; with --head, prove that it goes on from there.

    Exit code: 0, or 1 where entries were altered, removed, moved, put in or (with --head) cut off, or 2 for a mistake
    in the call.

    Example: dfqsam audit verify audit.sqlite --head 12:9f86d0...
    """
    found, _ = _followed(log, head)
    if as_json:
        print_json({"entries": found.count, "head": str(found)})
        return
    print("The chain is whole" + (", and goes on from the head that was noted." if head else "."))
    print(f"Head, to be noted elsewhere: {found}")


@app.command()
def show(log: LogFile, as_json: AsJson = False) -> None:
    """Print every entry, oldest first, once the chain is whole.

    Example: dfqsam audit show audit.sqlite
    """
    found, entries = _followed(log, None)
    if as_json:
        listed = [{"sequence": entry.sequence, "kind": entry.kind, **entry.document} for entry in entries]
        print_json({"head": str(found), "entries": listed})
        return
    for entry in entries:
        about = entry.document
        time = about.pop("time")
        facts = " ".join(f"{name} {str(value)[:12]}" for name, value in about.items() if value is not None)
        print(f"{entry.sequence} {time} {entry.kind}: {facts}")
    print(f"Head, to be noted elsewhere: {found}")
