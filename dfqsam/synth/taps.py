"""What the encoder's attention gives while an image passes: tokens and received attention, as hooks."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from dfqsam.sam.sites import Site


class TokenTap:
    """Collects what the attention of every block gives (B x H x W x C, real tokens only) while it is entered."""

    def __init__(self, encoder: nn.Module, sites: list[Site]) -> None:
        self.modules = [
            encoder.get_submodule(site.name) for site in sites if site.kind == "linear" and site.source == "attention"
        ]
        self.tokens: list[Tensor] = []

    def __enter__(self) -> TokenTap:
        def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.tokens.append(inputs[0])

        self.hooks = [module.register_forward_pre_hook(keep) for module in self.modules]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()


class AttentionTap:
    """Collects, for the blocks that see farthest, the mean attention that each key receives, while it is entered.

    Global blocks where there are any, else those with the largest windows.

    Attributes:
        received: per block, windows x keys (a global block is one window an image); each row sums to 1.
        windows: per block, the side of its windows in tokens, 0 for global attention.
        grids: per block, height and width of the token grid.
    """

    def __init__(self, encoder: nn.Module, sites: list[Site]) -> None:
        owners: list[Any] = [
            encoder.get_submodule(s.name.rpartition(".")[0]) for s in sites if s.name.endswith("matmul_av")
        ]
        reach = [float("inf") if not owner.window else owner.window for owner in owners]
        self.owners = [owner for owner, far in zip(owners, reach, strict=True) if far == max(reach)]
        self.totals: list[Tensor] = []
        self.windows = [int(owner.window) for owner in self.owners]
        self.grids: list[tuple[int, int]] = []
        self._parts: list[Tensor] = []

    @property
    def received(self) -> list[Tensor]:
        return [total / total.sum(-1, keepdim=True) for total in self.totals]

    def __enter__(self) -> AttentionTap:
        def keep(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            # windows x heads x queries x keys; global blocks come in chunks of queries.
            self._parts.append(inputs[0].float().sum((1, 2)))

        def close(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            # Sums alone: blocks may be checkpointed, where a hook must save nothing for the backward pass.
            self.totals.append(sum(self._parts[1:], self._parts[0]))
            self._parts = []
            self.grids.append((output.shape[1], output.shape[2]))

        self.hooks = [owner.matmul_av.register_forward_pre_hook(keep) for owner in self.owners]
        self.hooks += [owner.register_forward_hook(close) for owner in self.owners]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()
