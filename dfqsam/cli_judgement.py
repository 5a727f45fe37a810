"""The verb ``judgements`` of the command line."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from dfqsam.console import AsJson, print_json
from dfqsam.errors import ChainError, InputError
from dfqsam.judgement.review import Pair, agreement, counts, preference
from dfqsam.judgement.store import JudgementStore
from dfqsam.judgement.table import write_csv
from dfqsam.progress import stage

ALTERED = 1


def judgements(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A store of judgements.")],
    verify: Annotated[str | None, typer.Option(metavar="HEAD", help="A head that was noted before.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="OUT", help="Write every judgement as CSV.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what clinicians judged, once the store's chain of hashes is whole; print the head, to be noted elsewhere.

    Exit code: 0, or 1 where entries were altered, removed, moved, added or (with --verify) cut off, or 2 for a mistake
    in the call. Nothing is written to FILE.

    Example: dfqsam judgements judgements.sqlite --verify 57:9f86d0... --csv judgements.csv
    """
    if csv is not None and csv.absolute().resolve() == file.absolute().resolve():
        raise InputError(f"{csv} is the store itself; name another file for the CSV.")
    try:
        with stage("Following the chain"), JudgementStore(file, key=None) as store:
            head = store.verify(verify)
            stored, waiting = store.judgements(), store.open_draws()
    except ChainError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise typer.Exit(ALTERED) from None
    if csv is not None:
        write_csv(csv, stored)
    document = {"head": str(head), **counts(stored), "open_draws": waiting, "preference": asdict(preference(stored))}
    pairs = {what: agreement(stored, what) for what in ("verdict", "preference")}
    document["agreement"] = {what: [asdict(pair) for pair in found] for what, found in pairs.items()}
    if as_json:
        print_json(document)
        return
    _show(document, pairs)
    if csv is not None:
        print(f"{csv}: {len(stored)} judgements")
    print("The chain is whole" + (", and goes on from the head that was noted." if verify else "."))
    print(f"Head, to be noted elsewhere: {head}")


def _range(limits: tuple[float, float]) -> str:
    return f"{100 * limits[0]:.1f} to {100 * limits[1]:.1f} %"


def _show(document: dict[str, Any], pairs: dict[str, list[Pair]]) -> None:
    verdicts, votes = document["verdicts"], document["preference"]
    print(", ".join(f"{name} {document[name]}" for name in ("judgements", "raters", "studies")))
    reasons = ", ".join(f"{name} {count}" for name, count in document["reasons"].items())
    print(f"accepted {verdicts['accept']}, rejected {verdicts['reject']}" + (f" ({reasons})" if reasons else ""))
    if verdicts["prefer"] or document["open_draws"]:
        print(
            f"preferred, blinded: quantized {votes['quantized']}, full precision {votes['full']}, neither "
            f"{votes['equal']}; for the left side {votes['left']}; draws without a vote {document['open_draws']}"
        )
    if votes["share"] is not None:
        print(
            f"quantized in {100 * votes['share']:.1f} % of votes for either; 95 % interval {_range(votes['exact'])} "
            f"(Clopper-Pearson), {_range(votes['wilson'])} (Wilson)"
        )
    for what, found in pairs.items():
        for pair in found:
            kappa = "undefined" if pair.kappa.kappa is None else f"{pair.kappa.kappa:.2f}"
            share = f"{100 * pair.kappa.observed:.0f} % of {pair.kappa.n} the same"
            print(f"{pair.one[:14]} and {pair.two[:14]}: kappa {kappa} of {what}, {share}")
