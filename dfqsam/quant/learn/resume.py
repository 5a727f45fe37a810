"""Units that are reconstructed already, on the disk, so that a fit that was stopped goes on where it was."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dfqsam.quant.grid import Affine
from dfqsam.quant.layers import QuantizedLayer
from dfqsam.quant.product import QuantizedProduct


def fit_key(encoder: nn.Module, batches: Sequence[Tensor], *settings: object) -> str:
    """Tells a fit from every other, by what it starts from, the images and the settings; 24 hex digits."""
    digest = hashlib.sha256(repr(settings).encode())
    for name, value in encoder.state_dict().items():
        digest.update(name.encode() + value.contiguous().cpu().numpy().tobytes())
    for name, module in encoder.named_modules():
        if isinstance(module, QuantizedLayer | QuantizedProduct):
            digest.update(f"{name} {module.extra_repr()} {getattr(module, 'grid', None)}".encode())
    for batch in batches:
        digest.update(batch.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:24]


class KeptUnits:
    """What the quantized modules of finished units are, below ``folder``; with None nothing is kept."""

    def __init__(self, folder: Path | None, key: str) -> None:
        self.folder = None if folder is None else folder / key
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)

    def take(self, number: int, unit: nn.Module) -> tuple[float, float] | None:
        """Puts back what was kept of the unit and returns its errors before and after; None where there is nothing, or
        a damaged file."""
        if self.folder is None:
            return None
        try:
            kept = torch.load(self.folder / f"{number}.pt", weights_only=True)
            errors, found = kept["errors"], [(m, kept["modules"][name]) for name, m in _quantized(unit).items()]
        except (OSError, KeyError, EOFError, RuntimeError, pickle.UnpicklingError):
            return None
        for module, state in found:
            _put_back(module, state)
        return errors

    def put(self, number: int, unit: nn.Module, errors: tuple[float, float]) -> None:
        """Keeps the unit; whoever is stopped while it is written finds the file before or none."""
        if self.folder is None:
            return
        modules = {name: _state(module) for name, module in _quantized(unit).items()}
        path = self.folder / f"{number}.pt"
        torch.save({"errors": errors, "modules": modules}, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)


def _quantized(unit: nn.Module) -> dict[str, QuantizedLayer | QuantizedProduct]:
    return {n: m for n, m in unit.named_modules() if isinstance(m, QuantizedLayer | QuantizedProduct)}


def _state(module: QuantizedLayer | QuantizedProduct) -> dict[str, Any]:
    if isinstance(module, QuantizedLayer):
        own = {"codes": module.codes, "scale": module.scale, "bias": module.bias}
        own = {name: None if value is None else value.cpu() for name, value in own.items()}
        return {**own, "grid": dataclasses.astuple(module.grid)}
    return {"left": dataclasses.astuple(module.left), "right": dataclasses.astuple(module.right)}


def _put_back(module: QuantizedLayer | QuantizedProduct, kept: dict[str, Any]) -> None:
    if isinstance(module, QuantizedLayer):
        for name in ("codes", "scale", "bias"):
            value = kept[name]
            setattr(module, name, None if value is None else value.to(module.codes.device))
        module.grid = Affine(*kept["grid"])
    else:
        module.left, module.right = type(module.left)(*kept["left"]), Affine(*kept["right"])
