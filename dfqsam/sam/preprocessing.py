"""How each family scales pixel values before its encoder; nothing but numbers, so that every room can read it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Preprocessing:
    """Scaling of an RGB picture whose longest side is already the input size, before zeros pad it to the square.

    Attributes:
        kind: ``minmax``, each picture's own smallest and largest value to 0 and 1 (LiteMedSAM); or ``meanstd``, minus
            ``mean`` and over ``std`` (SAM).
        mean, std: per channel, in units of 0 to 255; unused with ``minmax``.
    """

    kind: Literal["minmax", "meanstd"]
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)

    def to_json(self) -> dict[str, Any]:
        """Plain values for a manifest; only those that mean something for this kind."""
        values = asdict(self)
        if self.kind == "minmax":
            return {"kind": self.kind}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


SAM = Preprocessing("meanstd")
MIN_MAX = Preprocessing("minmax")
