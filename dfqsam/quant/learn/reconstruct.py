"""Block reconstruction: the quantized weights, steps and biases of a block are fitted until it gives what it gave.

Blocks are taken in the order of execution, each fed with what the finished ones before it give, so that it can make up
for their errors. Sources: AdaRound (Nagel et al., ICML 2020), BRECQ (Li et al., ICLR 2021), QDrop (Wei et al., ICLR
2022). A code moves between two neighbouring integers and is driven to one of them; projection onto that interval stands
in for AdaRound's rectified sigmoid. After half of the steps codes are integers and stay, and steps and biases are
fitted to them. What is judged, on images that were kept out of the fit, is the hardened block.

Codes start near the weights that they stand for where that is better than the integers. It is not where they came of
compensation and depend on each other: moved towards their weights, each by itself, they made the error of a block of
LiteMedSAM (w4a8) 0.0090 in place of 0.0052, and what was fitted to that never served the integers (0.0076). With
integers from the first step on and gradients passed straight through none turned over before many did at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dfqsam.quant.learn.fit import Learning, groups_of, parameters_of, restore, state_of
from dfqsam.quant.learn.interaction import prompt_loss
from dfqsam.quant.learn.layers import LearnedLayer, learning
from dfqsam.quant.learn.resume import KeptUnits, fit_key
from dfqsam.quant.learn.steps import dropped, undecided
from dfqsam.quant.units import entering_unit
from dfqsam.sam.device import quick_in_bfloat16
from dfqsam.sam.prompter import Prompter

WARM = 0.2  # share of the steps with soft codes before these are driven to decide
JUDGED = 4  # parts of each held-out image that judge, where parts are taken


@dataclass(frozen=True)
class Fit(Learning):
    """How a block is fitted; see :class:`Learning`.

    Attributes:
        drop: QDrop's share of unrounded activations while fitting.
        soft: share of the steps in which codes move; then they are fixed, and nothing is dropped any more.
        decide: weight of AdaRound's regulariser, after a fifth of these, relative to the error at the start.
        prompts: random prompts a step in the prompt-aware term, all about one of its images; two about each took longer
            than LiteMedSAM's last blocks themselves.
        prompt_weight: of that term beside the block's own error.
        patience: checks in a row, once codes are fixed, after which it is enough where none was better.
    """

    steps: int = 120
    batch: int = 2
    codes: float = 1e-2
    ranges: float = 2e-3
    biases: float = 2e-3
    drop: float = 0.5
    soft: float = 0.5
    decide: float = 0.1
    prompts: int = 1
    prompt_weight: float = 0.1
    patience: int = 2
    checks: int = 6


@dataclass(frozen=True)
class Reconstruction:
    """What became of one unit: its relative squared error on held-out images, before and after.

    ``after`` equals ``before`` where no state was better; the unit is then as it was.
    """

    before: float
    after: float


def reconstruct(
    reference: nn.Module,
    encoder: nn.Module,
    units: Sequence[str],
    batches: Sequence[Tensor],
    fit: int,
    settings: Fit = Fit(),
    prompter: Prompter | None = None,
    crop: int | None = None,
    seed: int = 0,
    keep: Path | None = None,
    advance: Callable[[], object] = lambda: None,
) -> dict[str, Reconstruction]:
    """Fits the quantized modules of ``encoder``, in place, unit after unit.

    Args:
        reference: the encoder in full precision.
        units: names of parts of both that images pass one after the other; the last one is the neck.
        batches: normalised images, each 1 x 3 x S x S; the first ``fit`` are fitted on, the others judge.
        prompter: None for no prompt-aware term. Where given, units whose output the neck can read, and the neck, have
            one: what the full-precision neck and decoder make of the output for random prompts.
        crop: side, in tokens, of the random parts of larger grids that are fitted on; only where the units take grids
            of any size. None for whole images.
        keep: folder that keeps finished units, so that a fit that was stopped goes on.
        advance: called after every unit.
    """
    first = units[0]
    with torch.no_grad():
        true = [entering_unit(reference, first, batch) for batch in batches]
        ours = [entering_unit(encoder, first, batch) for batch in batches]
    kept = KeptUnits(keep, fit_key(encoder, batches, settings, fit, crop, prompter is None, seed) if keep else "")
    report: dict[str, Reconstruction] = {}
    neck = reference.get_submodule(units[-1])
    for number, name in enumerate(units):
        plain, unit = reference.get_submodule(name), encoder.get_submodule(name)
        with torch.no_grad():
            wanted = [plain(x) for x in true]
        tail = None if prompter is None else _tail(neck, name == units[-1], wanted[0])
        task = _Task(plain, ours, true, wanted, fit, crop, None if tail is None else prompter, tail)
        errors = kept.take(number, unit)
        entry = None if errors is None else Reconstruction(*errors)
        if entry is None:
            with torch.enable_grad():
                entry = _fit_unit(unit, task, settings, seed + number)
            if entry is not None:
                kept.put(number, unit, (entry.before, entry.after))
        if entry is not None:
            report[name] = entry
        with torch.no_grad():
            true, ours = wanted, [unit(x) for x in ours]
        advance()
    return report


@dataclass
class _Task:
    """Of a unit: what enters it, quantized (``ours``) and true, what it should give, and who reads that."""

    plain: nn.Module
    ours: list[Tensor]
    true: list[Tensor]
    wanted: list[Tensor]
    fit: int
    crop: int | None
    prompter: Prompter | None
    tail: Callable[[Tensor], Tensor] | None

    @torch.no_grad()
    def sample(self, i: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Of image ``i``: what enters, quantized and true, and what should come out; of a random part of it, where the
        grid is larger than ``crop``."""
        ours, true = self.ours[i], self.true[i]
        height, width = ours.shape[1:3]
        if self.crop is None or max(height, width) <= self.crop:
            return ours, true, self.wanted[i]
        side = self.crop
        top, left = (int(torch.randint(max(n - side, 0) + 1, (), generator=generator)) for n in (height, width))
        part = (slice(None), slice(top, top + side), slice(left, left + side))
        return ours[part], true[part], self.plain(true[part])

    @torch.no_grad()
    def error(self, unit: nn.Module) -> float:
        """Relative squared error on the held-out images, the same parts of them every time."""
        generator = torch.Generator().manual_seed(0)
        wrong, size = 0.0, 0.0
        for i in range(self.fit, len(self.ours)):
            for _ in range(JUDGED):
                x, _, y = self.sample(i, generator)
                wrong += float((unit(x) - y).double().square().sum())
                size += float((y - y.mean((0, 1, 2))).double().square().sum())
                if x.shape == self.ours[i].shape:
                    break
        return wrong / max(size, 1e-30)

    def batch(self, images: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`sample` of several images, which are alike in size."""
        ours, true, wanted = zip(*(self.sample(i, generator) for i in images), strict=True)
        return torch.cat(ours), torch.cat(true), torch.cat(wanted)

    def prompt_term(self, output: Tensor, wanted: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """What ``count`` random prompts miss of one image, 1 x E x E x C; 0 where the decoder cannot be asked."""
        if self.prompter is None:
            return output.new_zeros(())
        assert self.tail is not None
        prompts = self.prompter.draw(count, generator).to(output.device)
        with torch.no_grad():
            answers = self.prompter.ask(self.tail(wanted), prompts)
        return prompt_loss(self.prompter.ask(self.tail(output), prompts), answers)


def _fit_unit(unit: nn.Module, task: _Task, settings: Fit, seed: int) -> Reconstruction | None:
    """Fits ``unit`` in place; None where it holds nothing quantized."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.cat([y.flatten(0, 2) for y in task.wanted[: task.fit]]).var(0).mean().clamp_min(1e-12)
    with learning(unit, settings.drop) as learned, torch.random.fork_rng():
        if not learned:
            return None
        torch.manual_seed(seed)  # of what is dropped
        parameters = parameters_of(learned)
        optimiser = torch.optim.Adam(groups_of(learned, settings))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
        layers = [module for module in learned.values() if isinstance(module, LearnedLayer)]
        before = least = task.error(unit.eval())
        best, price = state_of(parameters), 0.0
        for layer in layers:
            layer.soft = True
            layer.lean()
        if task.error(unit) >= before:
            for layer in layers:
                layer.straighten()
        moving, stale = round(settings.soft * settings.steps), 0
        every = max(1, settings.steps // settings.checks)
        device = best[0].device
        for taken in range(1, settings.steps + 1):
            soft = taken <= moving
            if taken == moving + 1:
                # Steps and biases are fitted to the best codes that were seen, which may be those of the beginning.
                restore(parameters, best)
                optimiser.state.clear()
                for layer in layers:
                    layer.fix()
            unit.train(soft)
            images = torch.randint(task.fit, (settings.batch,), generator=generator).tolist()
            ours, true, wanted = task.batch(images, generator)
            # Gradients bear it; what judges is computed in full.
            with torch.autocast(device.type, torch.bfloat16, quick_in_bfloat16(device)):
                output = unit(dropped(ours, true, settings.drop) if soft else ours)
                loss = (output - wanted).square().mean() / spread
                price = price or float(loss.detach())
                term = task.prompt_term(output[:1], wanted[:1], settings.prompts, generator)
            (loss + settings.prompt_weight * term).backward()
            progress = (taken / max(moving, 1) - WARM) / (1 - WARM)
            if soft and progress > 0 and settings.decide and layers:
                sharpness = 2 + 18 * (1 - progress)
                unsure = [undecided(layer.latent - layer.lower, sharpness) for layer in layers]
                (settings.decide * price * torch.stack(unsure).mean()).backward()
            optimiser.step()
            for layer in layers:
                layer.project()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
            if taken % every == 0 or taken == moving:
                now, stale = _hard_error(unit.eval(), task, layers), stale + (not soft)
                if now < least:
                    least, best, stale = now, state_of(parameters), 0
                if stale >= settings.patience:
                    break
        unit.eval()
        restore(parameters, best)
    return Reconstruction(before, least)


def _hard_error(unit: nn.Module, task: _Task, layers: list[LearnedLayer]) -> float:
    """The error with codes as integers, whatever they are while they are fitted."""
    states = [layer.soft for layer in layers]
    for layer in layers:
        layer.soft = False
    error = task.error(unit)
    for layer, state in zip(layers, states, strict=True):
        layer.soft = state
    return error


def _tail(neck: nn.Module, is_neck: bool, output: Tensor) -> Callable[[Tensor], Tensor] | None:
    """From a unit's output to an embedding, 1 x 256 x E x E; None where the neck cannot read it."""
    if is_neck:
        return lambda y: y.permute(0, 3, 1, 2)
    reader = neck.get_submodule("0")
    if getattr(reader, "in_features", None) != output.shape[-1]:
        return None
    return lambda y: neck(y).permute(0, 3, 1, 2)
