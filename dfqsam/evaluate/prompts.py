"""The prompts that a reference mask is turned into; a case gets the same ones in every run and for every model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.evaluate.samples import Box, Mask

EXACT, JITTERED, CLICK, CLICKS = "exact", "jittered", "click", "clicks"
NEEDS = {EXACT: "box", JITTERED: "box", CLICK: "point", CLICKS: "point"}
# SAM's own noise on the boxes that it was trained with: a tenth of the side, at most 20 pixels.
JITTER, MOST_JITTER = 0.1, 20.0


@dataclass(frozen=True)
class Prompt:
    """A box (x0, y0, x1, y1), or points (N x 2, x and y) with their labels (1 inside, 0 outside), in pixels."""

    box: Box | None = None
    points: NDArray[np.float64] | None = None
    labels: NDArray[np.float64] | None = None


def offered(understood: Sequence[str], wanted: Sequence[str] | None = None) -> list[str]:
    """The kinds of prompt to ask with: all that the model was trained on, or those that are wanted.

    Args:
        understood: the manifest's ``prompts``.
        wanted: some of ``exact``, ``jittered``, ``click`` (one inside) and ``clicks`` (three inside, one outside).

    Raises:
        InputError: for an unknown kind, or one that the model was not trained on.
    """
    able = [name for name, needs in NEEDS.items() if needs in understood]
    for name in wanted or ():
        if name not in NEEDS:
            raise InputError(f"There is no prompt {name!r}; choose some of {', '.join(NEEDS)}.")
        if name not in able:
            raise InputError(f"The model was not trained on {NEEDS[name]} prompts; choose some of {', '.join(able)}.")
    if not able:
        raise InputError("The model was trained on neither boxes nor points; there is nothing to ask it with.")
    return [name for name in able if wanted is None or name in wanted]


def exact_box(mask: Mask) -> Box:
    """The indices of the outermost pixels of a mask that is not empty, widened where they would coincide."""
    rows, columns = np.nonzero(mask)
    x0, y0, x1, y1 = (float(value) for value in (columns.min(), rows.min(), columns.max(), rows.max()))
    return x0, y0, x1 if x1 > x0 else x0 + 1, y1 if y1 > y0 else y0 + 1


def _jittered(box: Box, shape: tuple[int, int], rng: np.random.Generator) -> Box:
    """Every side moved at random; kept inside the picture, and at least a pixel wide and high."""
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2)
    noise = np.clip(rng.normal(0, JITTER * sides), -MOST_JITTER, MOST_JITTER)
    x0, y0, x1, y1 = (float(value) for value in np.round(np.array(box) + noise, 2))
    height, width = shape
    x0, y0 = min(max(x0, 0.0), width - 1.0), min(max(y0, 0.0), height - 1.0)
    return x0, y0, min(max(x1, x0 + 1), float(width)), min(max(y1, y0 + 1), float(height))


def _inside(mask: Mask, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """``count`` x 2: centres of pixels at least half as deep inside as the deepest, where a person would click."""
    from scipy.ndimage import distance_transform_edt

    depth = np.asarray(distance_transform_edt(np.pad(mask, 1)))[1:-1, 1:-1]
    rows, columns = np.nonzero(depth >= depth.max() / 2)
    chosen = rng.integers(len(rows), size=count)
    return np.stack([columns[chosen], rows[chosen]], 1).astype(np.float64) + 0.5


def _outside(mask: Mask, box: Box, rng: np.random.Generator) -> NDArray[np.float64]:
    """1 x 2, or 0 x 2 where the object fills its box: the centre of a pixel of the box that is not the object."""
    x0, y0, x1, y1 = (int(value) for value in box)
    rows, columns = np.nonzero(~mask[y0 : y1 + 1, x0 : x1 + 1])
    if not len(rows):
        return np.zeros((0, 2))
    at = rng.integers(len(rows))
    return np.array([[columns[at] + x0 + 0.5, rows[at] + y0 + 0.5]])


def _generator(key: str, kind: str, seed: int) -> np.random.Generator:
    """Of one case and one kind of prompt, so that neither the order nor the number of cases matters."""
    digest = hashlib.sha256(f"{seed}/{kind}/{key}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def make(kind: str, key: str, seed: int, shape: tuple[int, int], mask: Mask | None, box: Box | None = None) -> Prompt:
    """The prompt of a case.

    Args:
        kind: of :data:`NEEDS`.
        key: names the case; with ``seed`` it decides every random draw.
        shape: of the picture (height, width).
        mask: H x W, not empty; None where there is no reference.
        box: in place of the exact box of ``mask``.

    Raises:
        InputError: for clicks without a reference mask.
    """
    corners = exact_box(mask) if box is None and mask is not None else box
    if corners is None or (mask is None and NEEDS[kind] == "point"):
        raise InputError(f"{key} has no reference mask to make a prompt {kind!r} from; give boxes and ask with them.")
    if kind == EXACT:
        return Prompt(corners)
    rng = _generator(key, kind, seed)
    if kind == JITTERED:
        return Prompt(_jittered(corners, shape, rng))
    assert mask is not None
    points = _inside(mask, 1 if kind == CLICK else 3, rng)
    labels = np.ones(len(points))
    if kind == CLICKS:
        outside = _outside(mask, corners, rng)
        points, labels = np.concatenate([points, outside]), np.concatenate([labels, np.zeros(len(outside))])
    return Prompt(points=points, labels=labels)
