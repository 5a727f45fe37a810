"""Where long passes compute: on a GPU where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def computing_on(modules: Sequence[nn.Module], device: torch.device | None = None) -> Iterator[torch.device]:
    """Moves ``modules``, in place, to ``device`` and at the end back to where the first one was.

    By default that is the first GPU where there is one, with products in TF32 as long as the block runs, and else
    where they are. A GPU rounds otherwise than a processor: what is learned differs between the two.
    """
    home = next((tensor.device for tensor in (*modules[0].parameters(), *modules[0].buffers())), torch.device("cpu"))
    chosen = device or (torch.device("cuda") if torch.cuda.is_available() else home)
    precision = torch.get_float32_matmul_precision()
    if chosen.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        for module in modules:
            module.to(chosen)
        yield chosen
    finally:
        torch.set_float32_matmul_precision(precision)
        for module in modules:
            module.to(home)
