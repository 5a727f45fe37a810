"""Makes the activations of a ViT SAM as uneven as those of a large pretrained one, without changing what it computes.

    python -m dfqsam.sam.reference.harden CHECKPOINT OUTPUT.safetensors [--spread 1.0] [--seed 0]

A small model trained for an hour is far easier to quantize than SAM, in which some channels reach over a hundred times
as far as others. Here channels are multiplied by lognormal factors, and what reads them is divided by the same: the
gains and biases of both LayerNorms of a block against the columns of qkv and lin1, values against the columns of proj,
queries against keys and the tables of relative positions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from dfqsam.errors import DfqsamError, InputError
from dfqsam.sam.checkpoint import read_state
from dfqsam.sam.families import recognise

DESCRIPTION = "Uneven ranges for a ViT SAM, the same function."
LARGEST_SPREAD = 3.0  # beyond it, single precision no longer holds both ends


def harden(state: Mapping[str, Tensor], spread: float = 1.0, seed: int = 0) -> dict[str, Tensor]:
    """The same function with uneven ranges.

    Args:
        state: of a SAM with a ViT, under SAM's names; not changed.
        spread: standard deviation of the factors' logarithms; 0 leaves the weights as they are.
        seed: of the factors.

    Returns:
        A state dict in single precision.

    Raises:
        InputError: for another kind of encoder, adapters (they read the second norm too), or another spread.
    """
    if not 0 <= spread <= LARGEST_SPREAD:
        raise InputError(f"{spread} is no spread of logarithms; give one between 0 and {LARGEST_SPREAD:g}.")
    family = recognise(state)
    if not family.is_vit:
        raise InputError(f"{family.title} has no ViT; only encoders of SAM's own kind are hardened.")
    if any(".Adapter." in key for key in state):
        raise InputError("The checkpoint has adapters, which read what would be rescaled; give one without.")
    # Twice the precision, so that the function is kept to the rounding of the result.
    found = {key: value.double() if value.is_floating_point() else value.clone() for key, value in state.items()}
    generator = torch.Generator().manual_seed(seed)

    def factors(count: int) -> Tensor:
        return (spread * torch.randn(count, generator=generator, dtype=torch.float64)).exp()

    for i in range(family.depth):
        block = f"image_encoder.blocks.{i}"
        for norm, reader in (("norm1", "attn.qkv"), ("norm2", "mlp.lin1")):
            by = factors(family.width)
            found[f"{block}.{norm}.weight"] *= by
            found[f"{block}.{norm}.bias"] *= by
            found[f"{block}.{reader}.weight"] /= by
        # All heads share the tables of relative positions, which are multiplied with queries.
        by = factors(family.width // family.heads)
        heads, value = by.repeat(family.heads), factors(family.width)
        rows = torch.cat([heads, 1 / heads, value])
        found[f"{block}.attn.qkv.weight"] *= rows[:, None]
        found[f"{block}.attn.qkv.bias"] *= rows
        for table in ("rel_pos_h", "rel_pos_w"):
            found[f"{block}.attn.{table}"] /= by
        found[f"{block}.attn.proj.weight"] /= value
    return {key: value.float() if value.is_floating_point() else value for key, value in found.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m dfqsam.sam.reference.harden", description=DESCRIPTION)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--spread", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        if given.output.suffix != ".safetensors" or given.output.exists():
            raise InputError(f"{given.output} is there already or is no .safetensors by its name; name another file.")
        from safetensors.torch import save_file

        save_file(harden(read_state(given.checkpoint), given.spread, given.seed), given.output)
    except DfqsamError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
