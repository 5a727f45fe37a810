"""What LiteMedSAM's encoder says of many views, asked once and kept: views and embeddings, in files of 64 views.

An embedding of 64 x 64 places is kept twice: as means over the 4 x 4 places of each token of the model that learns, and
place by place in the few directions in which embeddings differ most, so that a token learns what lies inside of it too.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dfqsam.errors import InputError
from dfqsam.progress import stage
from dfqsam.sam.reference.augment import Draw
from dfqsam.sam.reference.data import Bank
from dfqsam.sam.reference.settings import Settings
from dfqsam.sam.reference.step import batch_of
from dfqsam.sam.reference.teacher import Teacher

EACH, BATCH = 64, 16  # views of a file, and of one draw
DIRECTIONS = 32  # kept of the 256 channels


@dataclass(frozen=True)
class Lessons:
    """Views with what their teacher said; T tokens along a side, P places along a token's side.

    Attributes:
        images: N x 3 x S x S uint8.
        valid: N x 1 x S x S bool.
        means: N x 256 x T x T float16, standardised by channel.
        details: N x D x PT x PT float16, standardised by direction.
        centre, spread: 256, what was subtracted from means, and what they were then divided by.
    """

    images: Tensor
    valid: Tensor
    means: Tensor
    details: Tensor
    centre: Tensor
    spread: Tensor

    def __len__(self) -> int:
        return len(self.images)


@torch.no_grad()
def learn_from(folder: Path, teacher: Teacher, bank: Bank, settings: Settings, count: int, tokens: int) -> Lessons:
    """Asks for what is not in ``folder`` yet, and reads all of it.

    Args:
        count: of views, at least 1; whole files are asked.
        tokens: along a side of the model that learns.

    Raises:
        InputError: for no views, or when ``folder`` holds lessons on other pictures or of another seed.
    """
    if count < 1:
        raise InputError(f"{count} views teach nothing; ask about at least 1.")
    folder.mkdir(parents=True, exist_ok=True)
    _own(folder / "about.json", bank, settings)
    chances, parts = bank.chances(), []
    basis = folder / "directions.pt"
    with stage("Asking LiteMedSAM", count) as advance:
        for number in range(-(-count // EACH)):
            path = folder / f"{number:04}.pt"
            if not path.is_file():
                # Numbers that no step of a training has.
                seen = [_seen(bank, chances, settings, 1_000_000 + number * EACH + i) for i in range(0, EACH, BATCH)]
                images, valid = (torch.cat(one) for one in zip(*seen, strict=True))
                found = torch.cat(
                    [teacher.embedding(*pair) for pair in zip(images.split(8), valid.split(8), strict=True)]
                )
                if not basis.is_file():
                    _save(_directions(found), basis)
                mean, axes, spread = torch.load(basis, weights_only=True)
                centred = found - mean[:, None, None]
                pooled = F.adaptive_avg_pool2d(centred, tokens)
                details = torch.einsum("nchw,cd->ndhw", centred, axes) / spread[:, None, None]
                content = (images * 255).round().byte(), valid, pooled.half(), details.half()
                _save(content, path)
            parts.append(torch.load(path, weights_only=True))
            advance(min(EACH, count - number * EACH))
    images, valid, means, details = (torch.cat(one) for one in zip(*parts, strict=True))
    centre, spread = torch.load(basis, weights_only=True)[0], means.float().std((0, 2, 3)).clamp_min(1e-6)
    return Lessons(images, valid, (means.float() / spread[:, None, None]).half(), details, centre, spread)


def _own(path: Path, bank: Bank, settings: Settings) -> None:
    digest = hashlib.sha256(bank.pictures.numpy().tobytes() + bank.masks.numpy().tobytes()).hexdigest()
    about = {"seed": settings.seed, "data_sha256": digest}
    if not path.is_file():
        path.write_text(json.dumps(about) + "\n")
    elif json.loads(path.read_text()) != about:
        raise InputError(f"{path.parent} holds lessons on other data or of another seed; give another folder.")


def _seen(bank: Bank, chances: tuple[Tensor, Tensor], settings: Settings, number: int) -> tuple[Tensor, Tensor]:
    draw = Draw(settings.seed * 10_000_019 + number, bank.pictures.device)
    found = batch_of(bank, chances, replace(settings, batch=BATCH), draw)
    return found.images, found.valid


def _directions(found: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means of the channels (C), the D directions of largest variance (C x D), and the spread along each."""
    flat = found.permute(1, 0, 2, 3).flatten(1)
    mean = flat.mean(1)
    values, vectors = torch.linalg.eigh((flat - mean[:, None]) @ (flat - mean[:, None]).T / flat.shape[1])
    # All by the largest one: what differs little matters little.
    return mean, vectors[:, -DIRECTIONS:], values[-DIRECTIONS:].clamp_min(1e-12).sqrt()


def _save(content: object, path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(content, part)
    os.replace(part, path)
