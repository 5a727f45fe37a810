"""Teaches a compact ViT the embeddings of LiteMedSAM, before it learns masks.

    python -m dfqsam.sam.reference.distil --out DIR --data FOLDER or FILE [--views N] [--steps N | --minutes M] ...

From masks alone a ViT that starts with random weights first learns the shape that fills a box, and stays there long:
masks say little about what a token holds, an embedding says it all (as MobileSAM was trained: Zhang et al., 2023,
section 3). What LiteMedSAM says is asked once and kept in ``DIR/lessons``. The run goes on where it was stopped;
``DIR/model.safetensors`` is then what :mod:`dfqsam.sam.reference.train` takes as ``--start``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dfqsam.errors import DfqsamError
from dfqsam.sam.checkpoint import read_state
from dfqsam.sam.device import computing_on, quick_in_bfloat16
from dfqsam.sam.known import get_model
from dfqsam.sam.model import scale
from dfqsam.sam.preprocessing import SAM
from dfqsam.sam.reference import keep
from dfqsam.sam.reference.augment import Draw
from dfqsam.sam.reference.lessons import DIRECTIONS, Lessons, learn_from
from dfqsam.sam.reference.loop import Run, compute
from dfqsam.sam.reference.model import Learner, Sizes, published_form
from dfqsam.sam.reference.settings import Settings
from dfqsam.sam.reference.teacher import Teacher
from dfqsam.sam.reference.train import add_run_arguments, bank_from, settings_of

DESCRIPTION = "Teaches a compact ViT the embeddings of LiteMedSAM; a run that was stopped goes on."


class Pupil(nn.Module):
    """The encoder that learns, and a linear map from each of its tokens to what the teacher says within it, which is
    not kept.

    Attributes:
        places: of the teacher's along a token's side.
    """

    def __init__(self, image_encoder: nn.Module, width: int, places: int) -> None:
        super().__init__()
        self.image_encoder, self.places = image_encoder, places
        self.details = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, DIRECTIONS * places**2))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """B x 3 x S x S, normalised, to means B x 256 x T x T and details B x D x PT x PT."""
        seen: list[Tensor] = []
        neck: Any = self.image_encoder.neck
        with neck.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0])):
            embedding = self.image_encoder(images)
        details = self.details(seen[0]).permute(0, 3, 1, 2)
        return embedding, nn.functional.pixel_shuffle(details, self.places)


def distil(
    folder: Path,
    lessons: Lessons,
    learner: Learner,
    settings: Settings,
    save_every: float = 60.0,
    stop_at: int | None = None,
) -> Path:
    """Teaches ``learner``, or goes on with the run in ``folder``.

    Args:
        stop_at: step after which it stops as if killed, with a checkpoint.

    Returns:
        The weights, averaged and in half precision, which :func:`dfqsam.sam.model.load_sam` reads.

    Raises:
        InputError: for a folder that holds another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = keep.resume(folder, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        places = lessons.details.shape[-1] // lessons.means.shape[-1]
        pupil = Pupil(learner.image_encoder, settings.width, places)
    with computing_on([learner, pupil]) as device:
        run = Run.begun(pupil, settings.lr, found)
        compute(
            run, lambda number: _loss(pupil, lessons, settings, number, device), folder, settings, save_every, stop_at
        )
    state = {**learner.state_dict(), **{k: v for k, v in run.average.items() if k.startswith("image_encoder.")}}
    path = keep.save_weights(folder, published_form(learner, state))
    keep.draw_curves(folder)
    return path


def _loss(
    pupil: Pupil, lessons: Lessons, settings: Settings, number: int, device: torch.device
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean squared errors of standardised embeddings, of means and of details, for a batch turned and mirrored."""
    draw = Draw(settings.seed * 10_000_019 + number, torch.device("cpu"))
    chosen = torch.randint(len(lessons), (settings.batch,), generator=draw.generator)
    turn, mirror = int(torch.randint(4, (1,), generator=draw.generator)), bool(draw.chance(0.5, 1))

    def turned(values: Tensor) -> Tensor:
        values = torch.rot90(values[chosen].to(device), turn, (2, 3))
        return values.flip(3) if mirror else values

    valid = turned(lessons.valid)
    images = scale(turned(lessons.images).float() / 255, SAM) * valid
    with torch.autocast(device.type, torch.bfloat16, quick_in_bfloat16(device)):
        embedding, details = pupil(images)
    centre, spread = (value.to(device)[:, None, None] for value in (lessons.centre, lessons.spread))
    parts = {
        "means": ((embedding.float() - centre) / spread - turned(lessons.means).float()).square().mean(),
        "details": (details.float() - turned(lessons.details).float()).square().mean(),
    }
    return torch.stack(list(parts.values())).sum(), {name: value.detach() for name, value in parts.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m dfqsam.sam.reference.distil", description=DESCRIPTION)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; given again, it goes on")
    add_run_arguments(parser)
    parser.add_argument("--views", type=int, default=2048, help="that LiteMedSAM is asked about")
    given = parser.parse_args(arguments)
    try:
        sizes = Sizes(given.width, given.depth)
        settings = settings_of(given, teach_every=0)
        checkpoint = given.teacher or get_model("lite-medsam")
        learner = Learner(sizes, settings.seed)
        learner.start_from(read_state(checkpoint))
        bank = bank_from(given.data, given.drawn_pictures, given.seed)
        tokens = sizes.config().grid
        lessons = learn_from(given.out / "lessons", Teacher(checkpoint), bank, settings, given.views, tokens)
        print(distil(given.out, lessons, learner, settings))
    except DfqsamError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
