"""Gradients through deep transformers in bounded memory: blocks are computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def checkpointed(blocks: list[nn.Module]) -> Iterator[None]:
    """Keeps nothing of what ``blocks`` compute in between, as long as the context lasts, but their inputs.

    Hooks inside the blocks must not save tensors for the backward pass: the second time they are gone.
    """
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
