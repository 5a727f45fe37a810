"""Acceptance on a site's own patients: is the quantized model as good as the original, within a margin?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.evaluate.medseg import THIN
from dfqsam.evaluate.rows import Row
from dfqsam.evaluate.statistics import RESAMPLES
from dfqsam.evaluate.summary import grouped
from dfqsam.evaluate.verdict import Criterion, Verdict, decide, mean_criterion, tail_criterion

AS_GOOD = "The quantized model is as good as the original within the margins."
AGREES = (
    "The quantized model draws what the original draws, within the margin; without reference masks nothing is said "
    "about whether either is right."
)
DICE, SURFACE, TAIL, AGREEMENT = "Dice", "Surface Dice", "Large losses of Dice", "Disagreement"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """What is allowed, set before the study.

    Attributes:
        margin: of the mean loss of Dice, 0 to 1.
        nsd_margin: of the mean loss of surface Dice at 2 mm (or 2 pixels); None for ``margin``.
        agreement: without reference masks, the Dice of the two models' masks that the mean has to reach.
        per_label: judge every kind of object by itself, too; each must pass.
        seed: of the bootstrap.
        resamples: of the bootstrap.
    """

    margin: float = 0.02
    nsd_margin: float | None = None
    agreement: float = 0.97
    per_label: bool = False
    seed: int = 0
    resamples: int = RESAMPLES

    def __post_init__(self) -> None:
        for name, value in (("margin", self.margin), ("nsd-margin", self.nsd_margin), ("agreement", self.agreement)):
            if value is not None and not 0 < value < 1:
                raise InputError(f"The {name} {value} is not between 0 and 1; 0.02 means two points of Dice.")

    @property
    def surface_margin(self) -> float:
        return self.margin if self.nsd_margin is None else self.nsd_margin


@dataclass(frozen=True)
class Patients:
    """Each patient's mean over cases, in one order. Never leaves the site.

    Attributes:
        names: of the patients.
        dice, surface: loss of Dice and of surface Dice, -1 to 1 (above 0: quantized is worse); None without references.
        dice_fp, dice_q: Dice with the reference.
        agreement: Dice of the two models' masks, 0 to 1.
    """

    names: list[str]
    agreement: Floats
    dice: Floats | None = None
    surface: Floats | None = None
    dice_fp: Floats | None = None
    dice_q: Floats | None = None

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Judgement:
    """A verdict on some rows, what it rests on, and the patients' values, which never leave the site."""

    verdict: Verdict
    criteria: list[Criterion]
    patients: Patients
    rows: list[Row]
    by_label: dict[str, Judgement] = field(default_factory=dict)


def by_patient(rows: Sequence[Row]) -> Patients:
    """Means over the cases of each patient; losses where every row has a reference."""
    groups = grouped(rows, lambda row: row.patient)

    def means(name: str) -> Floats:
        return np.array([fmean(getattr(row, name) for row in group) for group in groups.values()])

    agreement = means("agreement")
    if any(row.dice_fp is None for row in rows):
        return Patients(list(groups), agreement)
    full, quantized = means("dice_fp"), means("dice_q")
    return Patients(list(groups), agreement, full - quantized, means("nsd_fp") - means("nsd_q"), full, quantized)


def _criteria(patients: Patients, rules: Rules) -> tuple[list[Criterion], str]:
    chance = {"seed": rules.seed, "resamples": rules.resamples}
    if patients.dice is None or patients.surface is None:
        return [mean_criterion(AGREEMENT, 1 - patients.agreement, round(1 - rules.agreement, 9), **chance)], AGREES
    return [
        mean_criterion(DICE, patients.dice, rules.margin, **chance),
        mean_criterion(SURFACE, patients.surface, rules.surface_margin, **chance),
        tail_criterion(TAIL, patients.dice),
    ], AS_GOOD


def accept(rows: Sequence[Row], rules: Rules) -> Judgement:
    """Judge the rows of one kind of prompt. Thin structures, about which a box says nothing, are left out.

    Raises:
        InputError: when no row is left.
    """
    counted = [row for row in rows if row.dataset not in THIN]
    if not counted:
        raise InputError("There is no case to judge by; vessels and thin bleedings do not count.")
    patients = by_patient(counted)
    criteria, claim = _criteria(patients, rules)
    parts: dict[str, Judgement] = {}
    if rules.per_label:
        single = Rules(**{**asdict(rules), "per_label": False})
        parts = {label: accept(group, single) for label, group in grouped(counted, lambda row: row.label).items()}
        for label, part in parts.items():
            named = [{**asdict(criterion), "name": f"{label}: {criterion.name}"} for criterion in part.criteria]
            criteria += [Criterion(**{**facts, "sentence": f"{label}: {facts['sentence']}"}) for facts in named]
    return Judgement(decide(criteria, claim), criteria, patients, counted, parts)


def settings(rules: Rules, prompt: str) -> dict[str, Any]:
    """The rules as they are recorded."""
    return {**asdict(rules), "nsd_margin": rules.surface_margin, "prompt": prompt}
