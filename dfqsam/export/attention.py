"""Which attention an exported encoder computes, shape by shape, and why in floating point.

Products of activations could run on integers too. Whether that is faster depends on the shape, so it was measured
(``python -m dfqsam.bench.products``); the figures are kept in the package, and the manifest of every bundle names them.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from dfqsam.assets import attention_products
from dfqsam.sam.fused import deployed_forms

Shape = tuple[int, int, int, int, int]  # windows, queries, keys, heads, channels a head


class _Watch(TorchDispatchMode):
    """Writes down what the attention operator is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[Shape, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.dfqsam.attention.default:
            query, key, heads = args[0], args[1], args[4]
            shape = (query.shape[0], query.shape[1], key.shape[1], heads, query.shape[2] // heads)
            self.found[shape] = self.found.get(shape, 0) + 1
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def attention_shapes(encoder: nn.Module, size: int) -> dict[Shape, int]:
    """The attentions that ``encoder`` computes in its deployed form on one picture of ``size`` x ``size``, and how
    often each. Nothing is computed: only shapes go through."""

    def without_values(value: Tensor) -> Tensor:
        return torch.empty_like(value, device="meta")

    state = {**dict(encoder.named_parameters()), **dict(encoder.named_buffers())}
    image = torch.empty(1, 3, size, size, device="meta")
    with deployed_forms(encoder), _Watch() as watch:
        functional_call(encoder, {name: without_values(value) for name, value in state.items()}, (image,))
    return watch.found


def decision(encoder: nn.Module, size: int) -> dict[str, Any]:
    """What a manifest says of an encoder's attention products: how they are computed, and for each shape how many times
    as long integers took where that was measured (None for a shape that was not)."""
    path = attention_products()
    data = path.read_bytes()
    document = json.loads(data)
    measured = {_key(row): row["ratio"] for row in document["shapes"]}
    shapes = [
        {
            "windows": b,
            "queries": m,
            "keys": k,
            "heads": h,
            "channels": c,
            "count": n,
            "integer_over_float": measured.get(s),
        }
        for s, n in attention_shapes(encoder, size).items()
        for b, m, k, h, c in [s]
    ]
    return {
        "computed_in": "float32",
        "decided_by": {"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "command": document["command"]},
        "measured_on": document["machine"],
        "shapes": shapes,
    }


def _key(row: dict[str, Any]) -> Shape:
    return row["batch"], row["queries"], row["keys"], row["heads"], row["size"]
