"""What attention's output is moved and divided by, folded into the values that it is a mean of: exact, and free.

The weights of a softmax sum to 1, so that (softmax v - c) / d = softmax ((v - c) / d), channel by channel; and the
scales and biases of the layer that makes v take c and d up.
"""

from __future__ import annotations

import torch
from torch import nn

from dfqsam.quant.layers import QuantizedLinear
from dfqsam.sam.sites import Product


@torch.no_grad()
def fold_into_values(encoder: nn.Module) -> int:
    """Rids the layers that read attention of their rescaling, in place, wherever values are not rounded themselves.

    An attention is a module with layers ``qkv`` (queries, then keys, then values) and ``proj``, a product ``matmul_av``
    and the vector ``qkv_pad`` of tokens that windows are padded with.

    Returns:
        How many layers were changed.
    """
    count = 0
    for module in encoder.modules():
        qkv, proj = getattr(module, "qkv", None), getattr(module, "proj", None)
        if not isinstance(qkv, QuantizedLinear) or not isinstance(proj, QuantizedLinear) or proj.divisor is None:
            continue
        if type(getattr(module, "matmul_av", None)) is not Product or proj.rotated:
            continue
        first, divisor = len(qkv.scale) * 2 // 3, proj.divisor
        center = torch.zeros_like(divisor) if proj.center is None else proj.center
        scale = qkv.scale.clone()
        scale[first:] /= divisor
        bias = torch.zeros(1, 1, len(scale)) if qkv.bias is None else qkv.bias.clone()
        bias[..., first:] = (bias[..., first:] - center) / divisor
        pad = module.qkv_pad.clone()  # type: ignore[operator]
        pad[first:] = (pad[first:] - center) / divisor
        qkv.scale, qkv.bias, module.qkv_pad = scale, bias, pad
        qkv.origin = qkv.origin.clone()
        qkv.origin[0, first:] /= divisor[:, None]
        proj.center = proj.divisor = None
        count += 1
    return count
