"""Trains a compact ViT SAM.

    python -m dfqsam.sam.reference.train --out DIR [--data FOLDER or FILE] [--steps N | --minutes M] [--width N] ...
    python -m dfqsam.sam.reference.train --data FOLDER --pack FILE

The run goes on where it was stopped when the same command is given again. Without ``--data`` it learns from drawn
pictures alone. ``--pack`` writes what ``--data`` and ``--drawn-pictures`` give to one file, for another machine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from dfqsam.errors import DfqsamError, InputError
from dfqsam.sam.checkpoint import read_state
from dfqsam.sam.device import computing_on
from dfqsam.sam.known import get_model
from dfqsam.sam.reference import keep
from dfqsam.sam.reference.data import DRAWN, Bank, drawn, joined, real
from dfqsam.sam.reference.loop import Run, compute
from dfqsam.sam.reference.model import Learner, Sizes, published_form
from dfqsam.sam.reference.pack import pack, unpack
from dfqsam.sam.reference.settings import Settings
from dfqsam.sam.reference.step import loss_of
from dfqsam.sam.reference.teacher import Teacher

VIT = "image_encoder.blocks.0.norm1.weight"  # which a TinyViT has not
DESCRIPTION = "Trains a compact ViT SAM; a run that was stopped goes on."


def train(
    folder: Path,
    bank: Bank,
    settings: Settings,
    start: dict[str, Tensor] | None = None,
    teacher: Teacher | None = None,
    save_every: float = 60.0,
    stop_at: int | None = None,
) -> Path:
    """Trains, or goes on with the run in ``folder``, until the schedule ends.

    Args:
        bank: what it learns from.
        start: SAM whose weights it starts with, as far as they fit; random ones without.
        teacher: asked besides the masks.
        save_every: seconds between two checkpoints.
        stop_at: step after which it stops as if killed, with a checkpoint.

    Returns:
        The weights, averaged and in half precision, which :func:`dfqsam.sam.model.load_sam` reads.

    Raises:
        InputError: for sizes that cannot be, or a folder that holds another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = keep.resume(folder, settings)
    learner = Learner(Sizes(settings.width, settings.depth), settings.seed)
    if start is not None and not learner.start_from(start) and VIT in start:
        print(
            "The encoder to start with has other sizes and is left out; --width and --depth set ours.", file=sys.stderr
        )
    with computing_on([learner, *([teacher] if teacher is not None else [])]) as device:
        run, own = Run.begun(learner, settings.lr, found), bank.to(device)
        chances = own.chances()
        compute(
            run,
            lambda number: loss_of(learner, teacher, own, chances, settings, number),
            folder,
            settings,
            save_every,
            stop_at,
        )
    path = keep.save_weights(folder, published_form(learner, run.average))
    keep.draw_curves(folder)
    return path


def bank_from(data: Path | None, pictures: int, seed: int) -> Bank:
    """A packed file as it is; or the training split of a folder, or nothing, with drawn pictures added.

    Raises:
        InputError: when it cannot be read, or nothing is left to train on.
    """
    if pictures < 0:
        raise InputError(f"{pictures} is no number of pictures; give 0 or more.")
    if data is not None and not data.is_dir():
        return unpack(data)
    banks = [real(data)] if data is not None else []
    banks += [drawn(pictures, seed)] if pictures else []
    if not banks:
        raise InputError("There is nothing to train on; give --data, or drawn pictures.")
    return joined(banks)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """What every run is told: its data, its length, its sizes, its teacher."""
    default = Settings()
    parser.add_argument("--data", type=Path, help="folder with manifest.csv (its split train), or a packed file")
    parser.add_argument("--drawn-pictures", type=int, default=256)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help=f"default {default.steps}")
    length.add_argument("--minutes", type=float)
    for name in ("width", "depth", "batch", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name))
    parser.add_argument("--lr", type=float, default=default.lr)
    parser.add_argument("--teacher", type=Path, help="checkpoint of LiteMedSAM; fetched by default")


def settings_of(given: argparse.Namespace, **more: Any) -> Settings:
    """The settings that :func:`add_run_arguments` asked for, and ``more``."""
    steps = 0 if given.minutes is not None else Settings.steps if given.steps is None else given.steps
    own = {name: getattr(given, name) for name in ("width", "depth", "batch", "seed", "lr")}
    return Settings(**own, steps=steps, minutes=given.minutes or 0.0, **more)


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    default = Settings()
    parser = argparse.ArgumentParser(prog="python -m dfqsam.sam.reference.train", description=DESCRIPTION)
    parser.add_argument("--out", type=Path, help="folder of the run; given again, it goes on")
    parser.add_argument("--pack", type=Path, help="write the data to this file and stop")
    add_run_arguments(parser)
    parser.add_argument("--objects", type=int, default=default.objects)
    parser.add_argument("--teach-every", type=int, default=default.teach_every, help="0 for no teacher")
    parser.add_argument("--drawn-share", type=float, default=default.drawn)
    parser.add_argument(
        "--start", type=Path, help="weights to start with, such as those of dfqsam.sam.reference.distil"
    )
    parser.add_argument("--from-scratch", action="store_true", help="without LiteMedSAM, as teacher and as a start")
    parser.add_argument("--save-every", type=float, default=60.0, help="seconds between two checkpoints")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    given = _arguments(arguments)
    try:
        _main(given)
    except DfqsamError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _main(given: argparse.Namespace) -> None:
    if (given.out is None) == (given.pack is None):
        raise InputError("Give --out for a run, or --pack to write the data to a file.")
    if given.pack is not None:
        bank = bank_from(given.data, given.drawn_pictures, given.seed)
        size = pack(bank, given.pack)
        count = sum(name != DRAWN for name in bank.datasets)
        print(f"{given.pack}: {count} pictures and {len(bank) - count} drawn, {len(bank.masks)} masks, {size:,} bytes")
        return
    teach_every = 0 if given.from_scratch else given.teach_every
    settings = settings_of(given, objects=given.objects, teach_every=teach_every, drawn=given.drawn_share)
    checkpoint = None if given.from_scratch else given.teacher or get_model("lite-medsam")
    begin = given.start or checkpoint
    start = read_state(begin) if begin is not None else None
    teacher = Teacher(checkpoint) if checkpoint is not None and settings.teach_every else None
    bank = bank_from(given.data, given.drawn_pictures, given.seed)
    print(train(given.out, bank, settings, start, teacher, given.save_every))


if __name__ == "__main__":
    main()
