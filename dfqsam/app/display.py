"""What the picture component is told: a picture, masks as run lengths, and how to show them. Pure functions."""

from __future__ import annotations

import base64
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfqsam.app.compare import Pair
from dfqsam.app.prompts import Prompts
from dfqsam.app.sent import Sent, key_of
from dfqsam.imaging import View
from dfqsam.runtime.overlay import GREEN, ORANGE, SKY_BLUE, Colour

# Longest side of what is sent to the browser; larger pictures are reduced for the eye, prompts and masks never.
SHOWN = 2048


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


FULL, QUANTIZED, BOTH = (_hex(colour) for colour in (ORANGE, SKY_BLUE, GREEN))


def runs(mask: ArrayLike) -> list[int]:
    """Row-major run lengths of an H x W mask, zeros first.

    >>> runs([[0, 0, 1], [1, 1, 0]])
    [2, 3, 1]
    """
    flat = np.asarray(mask, bool).reshape(-1)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *lengths] if flat.size and flat[0] else lengths


def grid(shape: tuple[int, int]) -> tuple[int, int]:
    """Height and width of what is sent for a picture of ``shape``: at most 2048 pixels on the longest side.

    >>> grid((3000, 4096))
    (1500, 2048)
    """
    scale = min(1.0, SHOWN / max(shape))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def _reduced(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = grid((array.shape[0], array.shape[1]))
    if (height, width) == array.shape[:2]:
        return array
    return np.asarray(cv2.resize(array, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def reduced_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask on the grid that is sent: where at least half of a pixel was inside."""
    return _reduced(mask.astype(np.uint8) * 255) >= 128


@functools.lru_cache(maxsize=8)  # of at most 12 MB each, and their PNG
def _encoded(data: bytes, shape: tuple[int, ...]) -> str:
    picture = np.frombuffer(data, np.uint8).reshape(shape)
    grey = bool((picture[..., 0] == picture[..., 1]).all() and (picture[..., 1] == picture[..., 2]).all())
    packed = cv2.imencode(".png", picture[..., 0] if grey else picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
    return "data:image/png;base64," + base64.b64encode(packed.tobytes()).decode()


def picture_url(picture: NDArray[np.uint8]) -> str:
    """An H x W x 3 uint8 RGB picture as a PNG in a data URL, reduced where it is very large."""
    shown = np.ascontiguousarray(_reduced(picture))
    return _encoded(shown.tobytes(), shown.shape)


def picture_once(picture: NDArray[np.uint8], sent: Sent | None) -> dict[str, str | None]:
    """``key`` of a picture, and ``picture``, its data URL, None where the browser has it."""
    key = key_of(picture)
    if sent is None:
        return {"key": key, "picture": picture_url(picture)}
    return {"key": key, "picture": sent.offer(key, lambda: picture_url(picture))}


def layer(
    mask: NDArray[np.bool_], colour: str, filled: bool = False, strong: bool = False, dashed: bool = False
) -> dict[str, Any]:
    """A mask as the component draws it: ``filled`` as an area in every mode, ``strong`` whatever the opacity, and with
    a ``dashed`` outline, through which one below is seen."""
    return {"runs": runs(reduced_mask(mask)), "colour": colour, "filled": filled, "strong": strong, "dashed": dashed}


def panels(pairs: Sequence[Pair], has_full: bool, title: str) -> list[dict[str, Any]]:
    """The panels, left to right: full precision, quantized, difference; the quantized alone where nothing compares.

    Args:
        pairs: of the objects, in their order.
        has_full: whether there is a full-precision model.
        title: of the quantized panel.
    """
    quantized = [layer(pair.quantized.mask, QUANTIZED) for pair in pairs]
    shown = {"title": title, "layers": quantized, "legend": [[QUANTIZED, "mask"]], "prompts": True}
    if not has_full:
        return [shown]
    both = [(pair.full.mask, pair.quantized.mask) for pair in pairs if pair.full is not None]
    apart = []
    if both:
        full = np.logical_or.reduce([one for one, _ in both])
        other = np.logical_or.reduce([two for _, two in both])
        apart = [
            layer(full & other, BOTH, filled=True),
            layer(full & ~other, FULL, filled=True, strong=True),
            layer(other & ~full, QUANTIZED, filled=True, strong=True),
        ]
    legend = [[BOTH, "both"], [FULL, "full only"], [QUANTIZED, "quantized only"]]
    return [
        {
            "title": "Full precision",
            "layers": [layer(full, FULL) for full, _ in both],
            "legend": [[FULL, "mask"]],
            "prompts": True,
        },
        shown,
        {"title": "Difference", "layers": apart, "legend": legend, "prompts": False},
    ]


@dataclass(frozen=True)
class Look:
    """How masks are drawn: ``contour`` or ``fill``, and the opacity of areas, 0 to 1."""

    mode: str = "contour"
    opacity: float = 0.45


def scene(
    picture: NDArray[np.uint8],
    view: View,
    slice_index: int,
    epoch: str,
    prompts: Prompts,
    shown: list[dict[str, Any]],
    look: Look,
    understood: Sequence[str],
    hint: str = "",
    sent: Sent | None = None,
) -> dict[str, Any]:
    """All that the component needs, as JSON.

    Args:
        picture: H x W x 3 uint8, windowed.
        view: gives the pixels' aspect, the letters of orientation and the scale.
        slice_index: counted from 0 as ``view`` shows them.
        epoch: names study, plane and slice; prompts drawn under one never count for another.
        prompts: those that ``shown`` answers.
        shown: what :func:`panels` made.
        look: how masks are drawn.
        understood: kinds of prompt that the model was trained on.
        hint: a sentence below the panels.
        sent: what the browser has already; a picture that it has is named, not sent.
    """
    height, width = picture.shape[:2]
    rows, columns = grid((height, width))
    sides = view.sides
    return {
        "epoch": epoch,
        **picture_once(picture, sent),
        "width": width,
        "height": height,
        "grid": {"width": columns, "height": rows},
        "aspect": view.aspect,
        "mm": None if view.spacing is None else view.spacing[1],
        "sides": None if sides is None else vars(sides),
        "slice": {"index": slice_index, "count": view.count},
        "panels": shown,
        "style": {"mode": look.mode, "opacity": look.opacity},
        "prompts": prompts.document(),
        "answered": prompts.revision,
        "boxes": "box" in understood,
        "points": "point" in understood,
        "hint": hint,
    }
