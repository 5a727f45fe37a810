"""The verb ``bench`` of the command line."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from dfqsam.console import AsJson, print_json
from dfqsam.errors import InputError


def bench(
    path: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle.")],
    against: Annotated[str, typer.Option(help="What to compare with, with commas: fp32, dynamic, openvino.")] = "",
    threads: Annotated[int, typer.Option(min=1, help="Of every model.")] = 2,
    runs: Annotated[int, typer.Option(min=1, help="Of every model, besides those that warm it up.")] = 20,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for bench.md, bench.json and bench.png.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Time a bundle on this machine, each model in a process without torch, taking turns.

    Example: dfqsam bench bundle --against fp32,dynamic -o figures
    """
    from dfqsam.bench import report
    from dfqsam.bench.run import bench as timed
    from dfqsam.bench.run import machine
    from dfqsam.bundle import open_bundle

    bundle = open_bundle(path)
    if output is not None and find_spec("matplotlib") is None:
        raise InputError("The chart needs matplotlib; install it with: pip install 'dfqsam[quantize]'.")
    names = [name.strip() for name in against.split(",") if name.strip()]
    results, where = timed(bundle, names, threads, runs), machine(threads)
    command = f"dfqsam bench {path.name}" + (f" --against {','.join(names)}" if names else "")
    table = report.markdown(results, where, f"{command} --threads {threads} --runs {runs}")
    document = report.document(results, where)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / "bench.md").write_text(table)
        (output / "bench.json").write_text(json.dumps(document, indent=1) + "\n")
        report.chart(results, output / "bench.png", f"{bundle.manifest.model.title}, {threads} threads")
    print_json(document) if as_json else print(table)
