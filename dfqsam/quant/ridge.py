"""Weights refitted to inputs that carry rounding errors: pure maths.

Source: ERQ (Zhong et al., 2024, arXiv 2407.06794), section 4.1, the closed-form reduction of the activation error.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ridge(missing: Tensor, moment: Tensor, penalty: float) -> Tensor:
    """What to add to the weights so that they give what is missing, as far as it follows from the inputs.

    The least of E |missing - change x|² + penalty m |change|², with m the mean diagonal of ``moment``.

    Args:
        missing: G x N x K, mean of (wanted output - output) xᵀ.
        moment: G x K x K, mean of x xᵀ.
        penalty: share of the mean diagonal, positive; the larger, the smaller the change.

    Returns:
        G x N x K.
    """
    weight = (penalty * moment.diagonal(dim1=-2, dim2=-1).mean(-1)).clamp_min(1e-12)
    square = moment + torch.eye(moment.shape[-1], dtype=moment.dtype) * weight[:, None, None]
    factor = torch.linalg.cholesky(square.double())
    return torch.cholesky_solve(missing.mT.double(), factor).mT.to(missing.dtype)
