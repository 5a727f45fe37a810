"""Which attention an exported encoder computes, shape by shape, and why.

Both products of attention can run on integers or in floating point. Which is faster depends on the shape, so it was
measured (``python -m dfqsam.bench.products``); the figures are kept in the package, and the manifest of every bundle
names them. Over a whole grid of tokens integers are taken where they were faster
(:mod:`dfqsam.sam.integer_attention`). In windows they take between three quarters of the time and twice as long, and
would win a hundredth of an encoder's time at best, so that floating point stays there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from dfqsam.assets import attention_products
from dfqsam.sam.fused import deployed_forms
from dfqsam.sam.vit import Attention

Shape = tuple[int, int, int, int, int]  # windows, queries, keys, heads, channels a head
WORTH = 0.95  # of the time in floating point: what integers may take at most to be taken


class _Watch(TorchDispatchMode):
    """Writes down what the attention operators are called with."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[Shape, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shape: Shape | None = None
        if func is torch.ops.dfqsam.attention.default:
            query, key, heads = args[0], args[1], args[4]
            shape = (query.shape[0], query.shape[1], key.shape[1], heads, query.shape[2] // heads)
        elif func is torch.ops.dfqsam.attention_on_integers.default:
            heads, tokens, channels = args[0].shape
            shape = (1, tokens, tokens, heads, channels)
        if shape is not None:
            self.found[shape] = self.found.get(shape, 0) + 1
        return func(*args, **(kwargs or {}))


def _whole(encoder: nn.Module) -> list[Attention]:
    """The attentions over the whole grid."""
    return [module for module in encoder.modules() if isinstance(module, Attention) and not module.window]


@contextmanager
def _in_one_piece(encoder: nn.Module) -> Iterator[None]:
    """Attention over the whole grid is one call of one operator within the block."""
    before = [(module, module.on_integers) for module in _whole(encoder)]
    try:
        for module, _ in before:
            module.on_integers = True
        yield
    finally:
        for module, was in before:
            module.on_integers = was


@torch.no_grad()
def attention_shapes(encoder: nn.Module, size: int) -> dict[Shape, int]:
    """The attentions that ``encoder`` computes in its deployed form on one picture of ``size`` x ``size``, and how
    often each. Nothing is computed: only shapes go through."""

    def without_values(value: Tensor) -> Tensor:
        return torch.empty_like(value, device="meta")

    state = {**dict(encoder.named_parameters()), **dict(encoder.named_buffers())}
    image = torch.empty(1, 3, size, size, device="meta")
    with deployed_forms(encoder), _in_one_piece(encoder), _Watch() as watch:
        functional_call(encoder, {name: without_values(value) for name, value in state.items()}, (image,))
    return watch.found


def choose_products(encoder: nn.Module) -> None:
    """Lets ``encoder`` compute attention over the whole grid on integers where that is faster, in place."""
    measured = _measured()
    for module in _whole(encoder):
        tokens, channels = module.side**2, module.rel_pos_h.shape[1]
        ratio = measured.get((1, tokens, tokens, module.heads, channels))
        module.on_integers = ratio is not None and ratio <= WORTH


def whole_on_integers(encoder: nn.Module) -> bool:
    """Whether ``encoder`` computes attention over the whole grid so, anywhere."""
    return any(module.on_integers for module in _whole(encoder))


def decision(encoder: nn.Module, size: int) -> dict[str, Any]:
    """What a manifest says of an encoder's attention products: for each shape how they are computed, and how many times
    as long integers took where that was measured (None for a shape that was not)."""
    path = attention_products()
    data = path.read_bytes()
    document = json.loads(data)
    measured = _measured()
    on_integers = {(1, m.side**2, m.side**2, m.heads) for m in _whole(encoder) if m.on_integers}
    shapes = [
        {
            "windows": b,
            "queries": m,
            "keys": k,
            "heads": h,
            "channels": c,
            "count": n,
            "integer_over_float": measured.get(s),
            "computed_in": "8 bits" if s[:4] in on_integers else "float32",
        }
        for s, n in attention_shapes(encoder, size).items()
        for b, m, k, h, c in [s]
    ]
    return {
        "decided_by": {"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "command": document["command"]},
        "measured_on": document["machine"],
        "shapes": shapes,
    }


def _measured() -> dict[Shape, float]:
    rows = json.loads(attention_products().read_bytes())["shapes"]
    return {(row["batch"], row["queries"], row["keys"], row["heads"], row["size"]): row["ratio"] for row in rows}
