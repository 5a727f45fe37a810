"""Where what takes long computes: on a GPU where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


def device_of(module: nn.Module) -> torch.device:
    """Where the parameters of ``module`` are, or its buffers where it has none."""
    return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))


def quick_in_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 are computed as such there; other processors take far longer than in float32."""
    if device.type != "cpu":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    known = getattr(torch.cpu, "get_capabilities", dict)()  # older releases of torch cannot say
    return bool(known.get("avx512_bf16"))


@contextmanager
def computing_on(
    modules: Sequence[nn.Module], device: torch.device | None = None, tf32: bool = False
) -> Iterator[torch.device]:
    """Moves ``modules``, in place, to ``device`` and at the end back to where the first one was.

    By default that is the first GPU where there is one, and else where they are. A GPU rounds otherwise than a
    processor: what is made or learned differs between the two.

    Args:
        tf32: let a GPU round the factors of products to TF32 as long as the block runs.
    """
    home = device_of(modules[0])
    chosen = device or (torch.device("cuda") if torch.cuda.is_available() else home)
    precision = torch.get_float32_matmul_precision()
    if tf32 and chosen.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        for module in modules:
            module.to(chosen)
        yield chosen
    finally:
        torch.set_float32_matmul_precision(precision)
        for module in modules:
            module.to(home)
