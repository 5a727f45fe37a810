"""A reference mask that was loaded beside a study, and how far the models' masks agree with it. Knows no Streamlit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.app.compare import Pair
from dfqsam.app.display import layer
from dfqsam.evaluate.metrics import dice
from dfqsam.imaging import View, Volume, read_uploaded_mask
from dfqsam.runtime.overlay import YELLOW

COLOUR = "#{:02x}{:02x}{:02x}".format(*YELLOW)


@dataclass(frozen=True, eq=False)
class Reference:
    """A mask on the voxels of a study.

    Args:
        name: of the file.
        voxels: S x R x C labels; 0 is background.
        labels: those in it, ascending.
    """

    name: str
    voxels: NDArray[np.uint16]
    labels: tuple[int, ...]

    def on(self, k: int, view: View, label: int | None = None) -> NDArray[np.bool_]:
        """H x W on slice ``k`` of ``view``: where ``label`` is, or any of them."""
        index: list[int | slice] = [slice(None)] * 3
        index[view.axis] = k
        shown = view.show(self.voxels[tuple(index)])
        return shown > 0 if label is None else shown == label


def load(name: str, data: bytes, volume: Volume) -> Reference:
    """A NIfTI, DICOM SEG or picture as the reference of ``volume``; it has to cover the study.

    Raises:
        InputError: for a file that is no mask, has another shape, lies elsewhere, or holds nothing but background.
    """
    voxels = read_uploaded_mask(name, data, volume, whole=True)
    labels = tuple(int(value) for value in np.unique(voxels) if value)
    return Reference(name, voxels, labels)


def agreement(mask: NDArray[np.bool_], pair: Pair) -> tuple[float | None, float | None]:
    """Dice of the full-precision and of the quantized mask with a reference (all H x W), 0 to 1.

    None where there is no such mask, and where the reference is empty, as then there is nothing to find.
    """
    if not mask.any():
        return None, None
    return None if pair.full is None else dice(mask, pair.full.mask), dice(mask, pair.quantized.mask)


def drawn(panels: Sequence[dict[str, Any]], mask: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """The panels of :func:`dfqsam.app.display.panels` with the reference's outline in those that take prompts."""
    outline = layer(mask, COLOUR, dashed=True) | {"line": True}
    made = []
    for panel in panels:
        if panel["prompts"]:
            panel = {
                **panel,
                "layers": [*panel["layers"], outline],
                "legend": [*panel["legend"], [COLOUR, "reference"]],
            }
        made.append(panel)
    return made
