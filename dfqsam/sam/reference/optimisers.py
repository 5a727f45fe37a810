"""Muon for the matrices of the encoder's blocks, AdamW for all else, under one schedule.

Muon (Jordan et al., 2024) makes the update of a matrix orthogonal, so that directions that gradients seldom take are
learned too. With it the embeddings of LiteMedSAM came as close after 70 steps as with AdamW alone after 110.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

LEARNED = 0.3  # learning rate of what LiteMedSAM has learned already, as a share of that of all else
MATRICES = 20.0  # Muon's learning rate, as a multiple
DECAY, MATRIX_DECAY = 0.05, 0.01


class Optimisers:
    """Both of a learner, ``lr`` being AdamW's largest learning rate. Vectors and tables of positions do not decay."""

    def __init__(self, learner: nn.Module, lr: float) -> None:
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        matrices: list[nn.Parameter] = []
        for name, weights in learner.named_parameters():
            plain = weights.dim() < 2 or "rel_pos" in name or "pos_embed" in name or "token" in name
            if name.startswith("image_encoder.blocks.") and not plain:
                matrices.append(weights)
                continue
            own = lr * LEARNED if name.startswith(("prompt_encoder.", "mask_decoder.")) else lr
            groups.setdefault((own, 0.0 if plain else DECAY), []).append(weights)
        rest = [{"params": g, "lr": own, "highest": own, "weight_decay": decay} for (own, decay), g in groups.items()]
        block = {"params": matrices, "lr": lr * MATRICES, "highest": lr * MATRICES}
        self.all: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.AdamW(rest, betas=(0.9, 0.98)),
            torch.optim.Muon([block], weight_decay=MATRIX_DECAY),
        )

    def scale(self, share: float) -> None:
        """Learning rates at ``share`` (0 to 1) of the largest ones."""
        for one in self.all:
            for group in one.param_groups:
                group["lr"] = group["highest"] * share

    def forget(self) -> None:
        """Gradients."""
        for one in self.all:
            one.zero_grad(set_to_none=True)

    def step(self) -> None:
        for one in self.all:
            one.step()

    def state_dict(self) -> list[dict[str, Any]]:
        return [one.state_dict() for one in self.all]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        for one, own in zip(self.all, state, strict=True):
            one.load_state_dict(own)
