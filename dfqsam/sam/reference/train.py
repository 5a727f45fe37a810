"""Trains a compact ViT SAM.

    python -m dfqsam.sam.reference.train --out DIR [--data FOLDER or FILE] [--steps N | --minutes M] [--width N] ...
    python -m dfqsam.sam.reference.train --data FOLDER --pack FILE

The run goes on where it was stopped when the same command is given again. Without ``--data`` it learns from drawn
pictures alone. ``--pack`` writes what ``--data`` and ``--drawn-pictures`` give to one file, for another machine.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dfqsam.errors import DfqsamError, InputError
from dfqsam.progress import stage
from dfqsam.sam.checkpoint import read_state
from dfqsam.sam.device import computing_on
from dfqsam.sam.known import get_model
from dfqsam.sam.reference import keep
from dfqsam.sam.reference.data import DRAWN, Bank, drawn, joined, real
from dfqsam.sam.reference.model import Learner, Sizes, published_form
from dfqsam.sam.reference.pack import pack, unpack
from dfqsam.sam.reference.settings import Settings
from dfqsam.sam.reference.step import loss_of
from dfqsam.sam.reference.teacher import Teacher

DESCRIPTION = "Trains a compact ViT SAM; a run that was stopped goes on."
WARM_UP, DECAY, CLIP = 0.03, 0.05, 1.0
LEARNED = 1 / 3  # learning rate of what LiteMedSAM has learned already, as a share of the encoder's
KEEP, LOGGED = 0.999, 10  # of the moving average; steps between two lines of the log
PARTS = ("box", "clicks", "teacher", "dice_box", "dice_clicks")


@dataclass
class Run:
    """A training run in memory.

    Attributes:
        step: steps done.
        seconds: computed so far, all runs together.
        average: exponential moving average of the weights, by their names.
    """

    learner: Learner
    optimiser: torch.optim.Optimizer
    average: dict[str, Tensor]
    step: int = 0
    seconds: float = 0.0

    def content(self, settings: Settings) -> dict[str, Any]:
        return {
            "settings": asdict(settings),
            "step": self.step,
            "seconds": self.seconds,
            "learner": self.learner.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, content: dict[str, Any]) -> None:
        self.step, self.seconds = content["step"], content["seconds"]
        self.learner.load_state_dict(content["learner"])
        self.optimiser.load_state_dict(content["optimiser"])
        for name, value in self.average.items():
            value.copy_(content["average"][name])


def rate(share: float) -> float:
    """Of the largest learning rate, after ``share`` (0 to 1) of the run: linear warm-up, then half a cosine.

    >>> rate(0.0), rate(0.015), rate(0.03), round(rate(0.515), 6), round(rate(1.0), 6)
    (0.0, 0.5, 1.0, 0.5, 0.0)
    """
    if share < WARM_UP:
        return share / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (share - WARM_UP) / (1 - WARM_UP))))


def optimiser_of(learner: Learner, lr: float) -> torch.optim.AdamW:
    """AdamW; matrices decay, vectors and tables of positions do not."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weights in learner.named_parameters():
        own = lr if name.startswith("image_encoder.") else lr * LEARNED
        plain = weights.dim() < 2 or "rel_pos" in name or "pos_embed" in name or "token" in name
        groups.setdefault((own, 0.0 if plain else DECAY), []).append(weights)
    return torch.optim.AdamW(
        [{"params": g, "lr": own, "highest": own, "weight_decay": decay} for (own, decay), g in groups.items()],
        betas=(0.9, 0.98),
    )


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
        start: SAM whose prompt encoder and mask decoder it starts with; random ones without.
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
    if start is not None:
        learner.start_from(start)
    with computing_on([learner, *([teacher] if teacher is not None else [])]) as device:
        average = {name: value.detach().clone() for name, value in learner.state_dict().items()}
        run = Run(learner, optimiser_of(learner, settings.lr), average)
        if found is not None:
            run.restore(found)
        _loop(run, folder, bank.to(device), teacher, settings, save_every, stop_at)
    path = keep.save_weights(folder, published_form(run.learner, run.average))
    keep.draw_curves(folder)
    return path


def _loop(
    run: Run,
    folder: Path,
    bank: Bank,
    teacher: Teacher | None,
    settings: Settings,
    save_every: float,
    stop_at: int | None,
) -> None:
    chances = bank.chances()
    before, begun, saved = run.seconds, time.monotonic(), time.monotonic()
    sums: dict[str, list[Tensor]] = {}
    total = settings.steps or settings.minutes * 60
    with stage("Training", total) as advance:
        advance(run.step if settings.steps else run.seconds)
        while (share := _share(run, settings)) < 1 and run.step != stop_at:
            _step(run, teacher, bank, chances, settings, share, sums)
            now = time.monotonic()
            ahead, run.seconds = before + now - begun - run.seconds, before + now - begun
            advance(1 if settings.steps else ahead)
            if run.step % LOGGED == 0:
                line = {name: float(torch.stack(values).mean()) for name, values in sums.items()}
                sums.clear()
                if not math.isfinite(line["loss"]):
                    raise InputError(
                        f"The loss is {line['loss']} at step {run.step}; begin anew with a smaller --lr, for the last "
                        f"checkpoint is from before."
                    )
                line |= {"lr": settings.lr * rate(share), "seconds": round(run.seconds, 1)}
                keep.add_line(folder, {"step": run.step, **line})
                advance(0, loss=line["loss"], dice=line["dice_box"])
                # Only here, where the log is complete up to the step.
                if now - saved >= save_every:
                    keep.save(folder, run.content(settings))
                    saved = now
    keep.save(folder, run.content(settings))


def _share(run: Run, settings: Settings) -> float:
    return run.step / settings.steps if settings.steps else run.seconds / (60 * settings.minutes)


def _step(
    run: Run,
    teacher: Teacher | None,
    bank: Bank,
    chances: tuple[Tensor, Tensor],
    settings: Settings,
    share: float,
    sums: dict[str, list[Tensor]],
) -> None:
    now = rate((run.step + 1) / settings.steps if settings.steps else share)
    for group in run.optimiser.param_groups:
        group["lr"] = group["highest"] * now
    loss, parts = loss_of(run.learner, teacher, bank, chances, settings, run.step)
    run.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(run.learner.parameters(), CLIP)
    run.optimiser.step()
    run.step += 1
    kept = min(KEEP, run.step / (run.step + 10))
    with torch.no_grad():
        for name, value in run.learner.state_dict().items():
            run.average[name].lerp_(value, 1 - kept)
    for name, value in {"loss": loss.detach(), **parts}.items():
        sums.setdefault(name, []).append(value)


def bank_from(data: Path | None, pictures: int, seed: int) -> Bank:
    """A packed file as it is; or the training split of a folder, or nothing, with drawn pictures added.

    Raises:
        InputError: when it cannot be read, or nothing is left to train on.
    """
    if data is not None and not data.is_dir():
        return unpack(data)
    banks = [real(data)] if data is not None else []
    banks += [drawn(pictures, seed)] if pictures else []
    if not banks:
        raise InputError("There is nothing to train on; give --data, or drawn pictures.")
    return joined(banks)


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    default = Settings()
    parser = argparse.ArgumentParser(prog="python -m dfqsam.sam.reference.train", description=DESCRIPTION)
    parser.add_argument("--out", type=Path, help="folder of the run; given again, it goes on")
    parser.add_argument("--data", type=Path, help="folder with manifest.csv (its split train), or a packed file")
    parser.add_argument("--pack", type=Path, help="write the data to this file and stop")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help=f"default {default.steps}")
    length.add_argument("--minutes", type=float)
    for name in ("width", "depth", "batch", "objects", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name))
    parser.add_argument("--lr", type=float, default=default.lr)
    parser.add_argument("--teach-every", type=int, default=default.teach_every, help="0 for no teacher")
    parser.add_argument("--drawn-share", type=float, default=default.drawn)
    parser.add_argument("--drawn-pictures", type=int, default=256)
    parser.add_argument("--teacher", type=Path, help="checkpoint of LiteMedSAM; fetched by default")
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
    if given.drawn_pictures < 0:
        raise InputError(f"{given.drawn_pictures} is no number of pictures; give 0 or more.")
    if given.pack is not None:
        bank = bank_from(given.data, given.drawn_pictures, given.seed)
        size = pack(bank, given.pack)
        count = sum(name != DRAWN for name in bank.datasets)
        print(f"{given.pack}: {count} pictures and {len(bank) - count} drawn, {len(bank.masks)} masks, {size:,} bytes")
        return
    settings = Settings(
        width=given.width,
        depth=given.depth,
        batch=given.batch,
        objects=given.objects,
        steps=0 if given.minutes is not None else Settings.steps if given.steps is None else given.steps,
        minutes=given.minutes or 0.0,
        lr=given.lr,
        teach_every=0 if given.from_scratch else given.teach_every,
        drawn=given.drawn_share,
        seed=given.seed,
    )
    checkpoint = None if given.from_scratch else given.teacher or get_model("lite-medsam")
    start = read_state(checkpoint) if checkpoint is not None else None
    teacher = Teacher(checkpoint) if checkpoint is not None and settings.teach_every else None
    bank = bank_from(given.data, given.drawn_pictures, given.seed)
    print(train(given.out, bank, settings, start, teacher, given.save_every))


if __name__ == "__main__":
    main()
