"""Which pictures an experiment is judged on, and the real pictures that its upper bound is calibrated with."""

from __future__ import annotations

import random
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dfqsam.errors import InputError
from dfqsam.evaluate.medseg import Case, cases
from dfqsam.sam.geometry import as_rgb, resize_longest_side

# More masks of one picture say little that is new.
MOST_OF_ONE_PICTURE = 8


def by_picture(chosen: list[Case]) -> list[list[Case]]:
    """The cases of each picture together, sorted by data set and picture."""

    def picture(case: Case) -> tuple[str, str]:
        return case.dataset, str(case.image)

    return [list(group) for _, group in groupby(sorted(chosen, key=picture), key=picture)]


def search_subset(folder: Path, split: str = "validation", masks: int | None = 150) -> list[Case]:
    """A subset that is quick to judge on: few pictures, for these cost the time, and at least ``masks`` masks.

    From every data set the picture with the most masks; then, until there are enough, the pictures with the most masks
    of those left, in turn from different data sets. No draw is involved: a folder always gives the same subset.

    Args:
        folder: with a ``manifest.csv``, see :func:`dfqsam.evaluate.medseg.cases`.
        masks: None for the whole split. Fewer come back only where the split has no more (at most 8 of a picture).

    Raises:
        InputError: when there is no manifest, it lists nothing for the split, or ``masks`` is no positive number.
    """
    whole = cases(folder, split)
    if masks is None:
        return [case for group in by_picture(whole) for case in group]
    if masks < 1:
        raise InputError(f"{masks} masks were asked for; give at least 1, or none for the whole split.")
    ranked: dict[str, list[list[Case]]] = {}
    for group in by_picture(whole):
        count = min(len(group), MOST_OF_ONE_PICTURE)
        spread = [group[i * len(group) // count] for i in range(count)]
        ranked.setdefault(group[0].dataset, []).append(spread)
    for groups in ranked.values():
        groups.sort(key=lambda group: -len(group))  # stable, so that names break ties
    chosen = [case for groups in ranked.values() for case in groups[0]]
    rest = [(-len(g), rank, name, g) for name, gs in ranked.items() for rank, g in enumerate(gs) if rank]
    for _, _, _, group in sorted(rest, key=lambda entry: entry[:3]):
        if len(chosen) >= masks:
            break
        chosen += group
    return [case for group in by_picture(chosen) for case in group]


def training_pictures(folder: Path, count: int, seed: int, size: int) -> list[Tensor]:
    """Real pictures, each 3 x h x w in [0, 1] with its longest side ``size``: what calibration without data has to do
    without. This is the only place where pictures are read to calibrate.

    One picture of each data set of the split ``train`` in turn, drawn with ``seed``, until there are ``count``.

    Raises:
        InputError: when the split has fewer pictures.
    """
    draw = random.Random(seed)
    by_set: dict[str, list[Case]] = {}
    for group in by_picture(cases(folder, "train")):
        by_set.setdefault(group[0].dataset, []).append(group[0])
    available = sum(map(len, by_set.values()))
    if available < count:
        raise InputError(f"{folder} has {available} training pictures; ask for at most so many, not {count}.")
    for group in by_set.values():
        draw.shuffle(group)
    turns = [(rank, draw.random(), case) for group in by_set.values() for rank, case in enumerate(group)]
    turns.sort(key=lambda turn: turn[:2])
    return [picture_tensor(resize_longest_side(as_rgb(case.picture()), size)) for _, _, case in turns[:count]]


def picture_tensor(picture: np.ndarray) -> Tensor:
    """h x w x 3 uint8 to 3 x h x w in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255
