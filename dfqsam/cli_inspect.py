"""The verb ``inspect`` of the command line."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from dfqsam.console import AsJson, need_torch, print_json, two_columns
from dfqsam.errors import InputError


def inspect(
    path: Annotated[Path, typer.Argument(metavar="CHECKPOINT|BUNDLE|STUDY", help="A checkpoint, a bundle or a study.")],
    sensitivity: Annotated[
        Path | None, typer.Option(help="Quantize one site at a time; table and chart go into this folder.")
    ] = None,
    bits: Annotated[int, typer.Option(min=2, max=8, help="Of that one site.")] = 4,
    images: Annotated[int, typer.Option(min=1, max=64, help="Drawn pictures to measure on.")] = 2,
    kernels: Annotated[
        bool, typer.Option(help="Say which operator every quantized layer of a bundle runs on here.")
    ] = False,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Check that a bundle computes here what it did where it was made.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a checkpoint, a bundle or a study is. A bundle is verified on the way.

    With --sensitivity, measure where in a checkpoint's encoder bits matter, on synthetic images. With --kernels, list
    the operators that ONNX Runtime chooses for a bundle on this machine, and fail where one computes in floating point.
    With --self-test, fail where this machine's kernels give wrong results.
    Of a study (NIfTI, DICOM file, folder or zip, picture): shape, axes, spacing, orientation; nothing of the patient.

    Example: dfqsam inspect lite_medsam.pth --sensitivity report
    """
    if sensitivity is not None:
        if not path.is_file():
            raise InputError(f"{path} is no checkpoint file; sensitivity is measured on a checkpoint.")
        need_torch()
        from dfqsam.pipeline import measure_sensitivity

        table = measure_sensitivity(path, sensitivity, bits, images)
        print_json(table) if as_json else print((sensitivity / "sensitivity.md").read_text())
        return
    if kernels:
        _list_kernels(path, as_json)
        return
    if self_test:
        _test_device(path, as_json)
        return
    from dfqsam.imaging.describe import describe_study, is_study

    if is_study(path):
        document = describe_study(path)
        title = f"Study {path}"
    elif path.is_dir() or not path.exists():
        from dfqsam.bundle import open_bundle
        from dfqsam.bundle.facts import facts

        bundle = open_bundle(path)
        if as_json:
            document = json.loads(bundle.manifest.to_json()) | {"trust": bundle.trust.state}
        else:
            document = facts(bundle.manifest) | {"trust": bundle.trust.sentence}
        title = f"Bundle {path}: every file matches its hash"
    else:
        need_torch()
        from dfqsam.sam.checkpoint import read_state
        from dfqsam.sam.families import recognise

        state = read_state(path)
        family = recognise(state)
        document = {
            "family": family.name,
            "title": family.title,
            "image_size": family.image_size,
            "prompts": list(family.prompts),
            "preprocessing": family.preprocessing.to_json(),
            "parameters": sum(value.numel() for value in state.values() if value.is_floating_point()),
        }
        title = f"Checkpoint {path}"
    if as_json:
        print_json(document)
    else:
        two_columns(title, {name.replace("_", " "): value for name, value in document.items()})


def _test_device(path: Path, as_json: bool) -> None:
    from dfqsam.progress import stage
    from dfqsam.runtime import Predictor
    from dfqsam.runtime import self_test as run

    with stage("Running the self-test"):
        report = run(Predictor(path, check_device=False))
    if report is None:
        raise InputError(f"The bundle {path} has no self-test; make it again with this version of dfqsam.")
    rows = {"difference": report.error, "limit": report.limit, "mask Dice": report.dice}
    if as_json:
        print_json(rows | {"passed": report.passed})
    else:
        two_columns(f"Self-test of {path}", {name: f"{value:.4f}" for name, value in rows.items()})
    report.require()


def _list_kernels(path: Path, as_json: bool) -> None:
    from dfqsam.bundle import open_bundle
    from dfqsam.bundle.preflight import check_graph

    bundle = open_bundle(path)
    if find_spec("onnx") is None:
        raise InputError("Listing kernels needs onnx; install it with: pip install 'dfqsam[quantize]'.")
    from dfqsam.export.census import kernels, require_kernels

    check_graph(encoder := bundle.read("encoder.onnx"), "encoder.onnx")
    found = kernels(encoder)
    if as_json:
        print_json(found)
    else:
        two_columns(f"Bundle {path}: {len(found)} quantized layers", found)
    require_kernels(found, list(found), bundle.manifest.quantization.get("block"))
