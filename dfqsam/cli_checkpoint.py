"""The verb ``convert`` of the command line."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from dfqsam.console import AsJson, print_json
from dfqsam.errors import InputError


def convert(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .pth, .pt, .bin or .safetensors file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A .safetensors file that is not there yet.")],
    as_json: AsJson = False,
) -> None:
    """Turn a checkpoint into safetensors, once: tensors under SAM's names and nothing that could run.

    Prints the SHA-256 of both files as sha256sum does, ready for a list of allowed checkpoints (see docs/trust.md).

    Example: dfqsam convert sam_vit_b_01ec64.pth -o sam_vit_b.safetensors >> allowed.sha256
    """
    if find_spec("torch") is None:
        raise InputError("This command needs PyTorch; install it with: pip install 'dfqsam[quantize]'.")
    from dfqsam.sam.convert import convert as run

    made = run(checkpoint, output)
    if as_json:
        print_json({"source_sha256": made.source, "sha256": made.target, "tensors": made.tensors, "path": str(output)})
    else:
        print(f"{made.source}  {checkpoint}\n{made.target}  {output}")
