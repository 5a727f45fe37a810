"""What modules of an encoder gave last, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn


class Taps:
    """Keeps in ``seen`` what the modules ``names`` of ``encoder`` gave last, for as long as the block runs."""

    def __init__(self, encoder: nn.Module, names: Sequence[str]) -> None:
        self.encoder, self.names = encoder, names
        self.seen: dict[str, Tensor] = {}

    def __enter__(self) -> Taps:
        self.handles = [self.encoder.get_submodule(n).register_forward_hook(self._hook(n)) for n in self.names]
        return self

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self.seen[name] = output

        return hook

    def __exit__(self, *_error: object) -> None:
        for handle in self.handles:
            handle.remove()
