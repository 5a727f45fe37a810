"""An encoder taken apart into what images pass one after the other."""

from __future__ import annotations

from torch import Tensor, nn


def entering_unit(encoder: nn.Module, name: str, batch: Tensor) -> Tensor:
    """What enters the part ``name`` of ``encoder`` when it gets ``batch``; what comes after it is not computed."""
    seen: list[Tensor] = []

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])
        raise _Reached

    handle = encoder.get_submodule(name).register_forward_pre_hook(hook)
    try:
        encoder(batch)
    except _Reached:
        pass
    finally:
        handle.remove()
    return seen[0]


class _Reached(Exception):  # noqa: N818  (no error, a way out)
    pass
