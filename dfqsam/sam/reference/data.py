"""What is trained on: pictures with masks of a folder's split ``train``, and drawn pictures whose objects are known."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfqsam.errors import InputError
from dfqsam.evaluate.medseg import Case, cases
from dfqsam.progress import stage
from dfqsam.sam.geometry import as_rgb, resize_longest_side
from dfqsam.synth.layouts import random_layouts
from dfqsam.synth.shapes import paint, shapes

SIDE = 320  # longest side that pictures are kept at, so that parts of them can be enlarged
DRAWN = "drawn"
SMALLEST = 16  # pixels of an object


@dataclass(frozen=True)
class Bank:
    """Pictures and masks, all in memory.

    Attributes:
        pictures: N x 3 x S x S uint8 RGB, padded with zeros at the bottom and right.
        shapes: N x 2, height and width of each picture within its square.
        masks: K x S x S bool, none of them empty; those of a picture stand together.
        owners: K, the picture that each mask is of.
        datasets: the N names of the data sets.
    """

    pictures: Tensor
    shapes: Tensor
    masks: Tensor
    owners: Tensor
    datasets: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    def to(self, device: torch.device) -> Bank:
        tensors = (self.pictures, self.shapes, self.masks, self.owners)
        pictures, shapes, masks, owners = (tensor.to(device) for tensor in tensors)
        return Bank(pictures, shapes, masks, owners, self.datasets)

    def starts(self) -> tuple[Tensor, Tensor]:
        """Number of the first mask of each picture, and how many it has."""
        counts = torch.bincount(self.owners, minlength=len(self))
        return counts.cumsum(0) - counts, counts

    def chances(self) -> tuple[Tensor, Tensor]:
        """The real pictures' and the drawn ones' chances to be taken, N each: real data sets by the square root of
        their number of pictures, so that large ones do not drown small ones."""
        counts = {name: self.datasets.count(name) for name in set(self.datasets)}
        weights = torch.tensor([counts[name] ** -0.5 for name in self.datasets])
        drawn = torch.tensor([name == DRAWN for name in self.datasets])
        return weights * ~drawn, weights * drawn


def bank_of(
    pictures: Sequence[NDArray[np.uint8]], masks: Sequence[Sequence[NDArray[np.bool_]]], datasets: Sequence[str]
) -> Bank:
    """A bank of pictures (h x w x 3, no side above S) with the masks (h x w) of each; what has no mask of at least 16
    pixels is left out.

    Raises:
        InputError: when nothing is left.
    """
    kept = [[mask for mask in group if mask.sum() >= SMALLEST] for group in masks]
    chosen = [i for i, group in enumerate(kept) if group]
    if not chosen:
        raise InputError("There is no picture with a mask to train on; give a folder with a split train, or draw some.")
    squares = torch.zeros(len(chosen), 3, SIDE, SIDE, dtype=torch.uint8)
    sides = torch.zeros(len(chosen), 2, dtype=torch.long)
    owners = torch.tensor([row for row, i in enumerate(chosen) for _ in kept[i]])
    layers, k = torch.zeros(len(owners), SIDE, SIDE, dtype=torch.bool), 0
    for row, i in enumerate(chosen):
        height, width = pictures[i].shape[:2]
        squares[row, :, :height, :width] = torch.from_numpy(np.array(pictures[i])).permute(2, 0, 1)
        sides[row] = torch.tensor([height, width])
        for mask in kept[i]:
            layers[k, :height, :width] = torch.from_numpy(mask)
            k += 1
    return Bank(squares, sides, layers, owners, tuple(datasets[i] for i in chosen))


def real(folder: Path) -> Bank:
    """The split ``train`` of a folder, see :func:`dfqsam.evaluate.medseg.cases`; no other split is ever read.

    Raises:
        InputError: when there is no manifest, or a file cannot be read.
    """
    groups: dict[tuple[str, Path], list[Case]] = {}
    for case in cases(folder, "train"):
        groups.setdefault((case.dataset, case.image), []).append(case)
    pictures, masks = [], []
    with stage("Reading pictures", len(groups)) as advance:
        for group in groups.values():
            picture = resize_longest_side(as_rgb(group[0].picture()), SIDE)
            shape = picture.shape[1], picture.shape[0]
            pictures.append(picture)
            masks.append([_resized(case.reference(), shape) for case in group])
            advance()
    return bank_of(pictures, masks, [name for name, _ in groups])


def _resized(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    return cv2.resize(mask.astype(np.uint8) * 255, shape, interpolation=cv2.INTER_LINEAR) > 127


def drawn(count: int, seed: int) -> Bank:
    """``count`` drawn pictures with one to three objects each; no picture is read."""

    def one(i: int) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
        own = seed * 1_000_003 + i
        layout = random_layouts(1, SIDE, own)
        picture = paint(shapes(1, SIDE, own), layout, own)[0]
        return (picture.permute(1, 2, 0) * 255).round().byte().numpy(), [mask.numpy() for mask in layout[0]]

    made = []
    with stage("Drawing pictures", count) as advance, ThreadPoolExecutor() as pool:
        for pair in pool.map(one, range(count)):
            made.append(pair)
            advance()
    return bank_of([picture for picture, _ in made], [group for _, group in made], [DRAWN] * count)


def joined(banks: Sequence[Bank]) -> Bank:
    """Several banks as one."""
    owners, before = [], 0
    for bank in banks:
        owners.append(bank.owners + before)
        before += len(bank)
    return Bank(
        torch.cat([bank.pictures for bank in banks]),
        torch.cat([bank.shapes for bank in banks]),
        torch.cat([bank.masks for bank in banks]),
        torch.cat(owners),
        tuple(name for bank in banks for name in bank.datasets),
    )
