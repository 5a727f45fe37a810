"""Clicks that mend a mask: where it is wrong, as a person would place them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 15  # side of the neighbourhood, in pixels, in which wrong pixels are counted
SHARE = 0.75  # of the largest count, from which on a pixel may be clicked


def corrective(found: Tensor, target: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One click a mask: a random pixel of the error, well inside it; of the target where nothing is wrong.

    Args:
        found, target: N x H x W bool; an empty ``found`` makes every target's pixel an error, as for a first click.

    Returns:
        Points N x 2 (x, y: indices of pixels) and labels N: 1 where the click is on the target, which was missed, and 0
        where the mask covers what it should not.
    """
    wrong = found ^ target
    whole = wrong | (~wrong.flatten(1).any(1)[:, None, None] & target)
    # Rows, then columns: a seventh of the work of a square.
    rows = F.avg_pool2d(whole.float()[:, None], (1, REACH), 1, (0, REACH // 2))
    counted = F.avg_pool2d(rows, (REACH, 1), 1, (REACH // 2, 0))[:, 0] * whole
    likely = counted >= SHARE * counted.amax((1, 2), keepdim=True)
    noise = torch.rand(whole.shape, generator=generator, device=whole.device) + 0.01
    chosen = (noise * (likely & whole)).flatten(1).argmax(1)
    labels = target.flatten(1).gather(1, chosen[:, None])[:, 0]
    width = target.shape[2]
    return torch.stack([chosen % width, chosen // width], 1).float(), labels.float()
