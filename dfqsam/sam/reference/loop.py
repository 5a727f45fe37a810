"""Computing a run: steps under a schedule, a moving average, a checkpoint and a log that fit together at any moment."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dfqsam.errors import InputError
from dfqsam.progress import stage
from dfqsam.sam.reference import keep
from dfqsam.sam.reference.optimisers import Optimisers
from dfqsam.sam.reference.settings import Settings

WARM_UP, CLIP = 0.03, 1.0
KEEP, LOGGED = 0.999, 10  # of the moving average; steps between two lines of the log
# The loss of the step of this number, and its parts.
LossOf = Callable[[int], tuple[Tensor, dict[str, Tensor]]]


@dataclass
class Run:
    """A training run in memory.

    Attributes:
        step: steps done.
        seconds: computed so far, all runs together.
        average: exponential moving average of the weights, by their names.
    """

    learner: nn.Module
    optimiser: Optimisers
    average: dict[str, Tensor]
    step: int = 0
    seconds: float = 0.0

    @classmethod
    def begun(cls, learner: nn.Module, lr: float, found: dict[str, Any] | None) -> Run:
        """A new run, or the one whose checkpoint was ``found``."""
        average = {name: value.detach().clone() for name, value in learner.state_dict().items()}
        run = cls(learner, Optimisers(learner, lr), average)
        if found is not None:
            run.restore(found)
        return run

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


def compute(
    run: Run, loss_of: LossOf, folder: Path, settings: Settings, save_every: float, stop_at: int | None = None
) -> None:
    """Steps until the schedule ends; then, and every ``save_every`` seconds, ``folder`` gets the checkpoint.

    Args:
        stop_at: step after which it stops as if killed, with a checkpoint.

    Raises:
        InputError: when the loss is no number any more.
    """
    before, begun, saved = run.seconds, time.monotonic(), time.monotonic()
    sums: dict[str, list[Tensor]] = {}
    total = settings.steps or settings.minutes * 60
    with stage("Training", total) as advance:
        advance(run.step if settings.steps else run.seconds)
        while (share := _share(run, settings)) < 1 and run.step != stop_at:
            _step(run, loss_of, settings, share, sums)
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
                advance(0, **{name: line[name] for name in ("loss", "dice_box") if name in line})
                # Only here, where the log is complete up to the step.
                if now - saved >= save_every:
                    keep.save(folder, run.content(settings))
                    saved = now
    keep.save(folder, run.content(settings))


def _share(run: Run, settings: Settings) -> float:
    return run.step / settings.steps if settings.steps else run.seconds / (60 * settings.minutes)


def _step(run: Run, loss_of: LossOf, settings: Settings, share: float, sums: dict[str, list[Tensor]]) -> None:
    now = rate((run.step + 1) / settings.steps if settings.steps else share)
    run.optimiser.scale(now)
    loss, parts = loss_of(run.step)
    run.optimiser.forget()
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
