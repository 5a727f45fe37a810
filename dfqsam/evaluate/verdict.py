"""PASS, FAIL or INCONCLUSIVE, and why.

Every criterion has a hypothesis that must be shown. It is *met* when the limit of the loss lies within what is allowed;
*broken* when the opposite is shown, at the same confidence; *open* when the patients show neither. PASS needs every
criterion met, so that several criteria make a false PASS no likelier; one that is broken is a FAIL.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dfqsam.evaluate.statistics import (
    RESAMPLES,
    mean_limits,
    patients_for_mean,
    patients_for_share,
    share_limits,
)

PASS, FAIL, INCONCLUSIVE = "PASS", "FAIL", "INCONCLUSIVE"
EXIT = {PASS: 0, FAIL: 1, INCONCLUSIVE: 3}
MET, BROKEN, OPEN = "met", "broken", "open"
TAIL_LOSS, TAIL_SHARE = 0.10, 0.05
POWER = 0.9
MOST_SAID = 6  # criteria in words; all are in the table


@dataclass(frozen=True)
class Criterion:
    """One thing to be shown.

    Attributes:
        name: what is lost.
        state: ``met``, ``broken`` or ``open``.
        value: what was seen: mean loss, or share of patients.
        lower, upper: its one-sided limits (97.5 % for a mean, 95 % for a share); infinite where there are none.
        allowed: what ``upper`` has to stay below.
        patients: how many there were.
        sentence: the finding, for people.
        needed: of an open criterion, how many patients would probably close it with what was seen so far; None where no
            number would.
    """

    name: str
    state: str
    value: float
    lower: float
    upper: float
    allowed: float
    patients: int
    sentence: str
    needed: int | None = None


def _plain(value: float) -> str:
    """Four digits behind the point, and no minus sign before a zero."""
    return f"{round(value, 4) + 0.0:.4f}"


def _percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def _said(criteria: Sequence[Criterion]) -> str:
    """The sentences of the first criteria, and how many more there are."""
    more = len(criteria) - MOST_SAID
    return " ".join(c.sentence for c in criteria[:MOST_SAID]) + (
        f" And {more} more, which the report lists." if more > 0 else ""
    )


def _state(lower: float, upper: float, allowed: float) -> str:
    if upper < allowed:
        return MET
    return BROKEN if lower > allowed else OPEN


def mean_criterion(name: str, losses: ArrayLike, margin: float, seed: int = 0, resamples: int = RESAMPLES) -> Criterion:
    """The mean loss of patients (n, each -1 to 1) stays below ``margin``."""
    values = np.asarray(losses, np.float64)
    limits = mean_limits(values, seed, resamples)
    mean, lower, upper, n = float(values.mean()), float(limits.lower), float(limits.upper), len(values)
    state, needed = _state(lower, upper, margin), None
    if not math.isfinite(upper):
        sentence = f"{name}: one patient tells nothing about others."
        needed = 2
    else:
        said = f"{name}: mean loss {_plain(mean)}, with 97.5 % confidence at"
        shown = f"{said} most {_plain(upper)}; allowed {margin:g}"
        sentence = {
            MET: f"{shown}.",
            BROKEN: f"{said} least {_plain(lower)}; allowed {margin:g}.",
            OPEN: f"{shown}, which is neither shown nor excluded.",
        }[state]
    if state == OPEN and n > 1:
        spread = float(values.std(ddof=1))
        # A criterion that is open has a spread, unless the mean lies on the margin itself, where no number helps.
        needed = patients_for_mean(spread, margin, POWER, mean) if spread > 0 else None
        needed = None if needed is None else max(needed, n + 1)
    return Criterion(name, state, mean, lower, upper, margin, n, sentence, needed)


def tail_criterion(name: str, losses: ArrayLike, loss: float = TAIL_LOSS, share: float = TAIL_SHARE) -> Criterion:
    """At most ``share`` of patients lose more than ``loss``."""
    values = np.asarray(losses, np.float64)
    count, n = int((values > loss).sum()), len(values)
    lower, upper = share_limits(count, n)
    state = _state(lower, upper, share)
    seen = f"{name}: {count} of {n} patients lose more than {loss:g}"
    most, allowed = f"{seen}, with 95 % confidence at most {_percent(upper)} of all", _percent(share, 0)
    sentence = {
        MET: f"{most}; allowed {allowed}.",
        BROKEN: f"{seen}, with 95 % confidence at least {_percent(lower)} of all; allowed {allowed}.",
        OPEN: f"{most}; allowed {allowed}, which is neither shown nor excluded.",
    }[state]
    needed = patients_for_share(count / n, share) if state == OPEN else None
    needed = None if needed is None else max(needed, n + 1)
    return Criterion(name, state, count / n, lower, upper, share, n, sentence, needed)


@dataclass(frozen=True)
class Verdict:
    """``PASS``, ``FAIL`` or ``INCONCLUSIVE``, and the reason in a sentence.

    Attributes:
        more: of ``INCONCLUSIVE``, how many further patients would probably settle it; None where no number would.
    """

    word: str
    reason: str
    more: int | None = None


def decide(criteria: Sequence[Criterion], claim: str) -> Verdict:
    """The verdict of at least one criterion.

    Args:
        claim: what a PASS says, a sentence.
    """
    broken = [criterion for criterion in criteria if criterion.state == BROKEN]
    if broken:
        return Verdict(FAIL, f"The quantized model is worse than allowed. {_said(broken)}")
    unmet = [criterion for criterion in criteria if criterion.state == OPEN]
    if not unmet:
        return Verdict(PASS, f"{claim} {_said(criteria)}")
    further = [None if c.needed is None else c.needed - c.patients for c in unmet]
    reason = f"Too little is known. {_said(unmet)}"
    known = [number for number in further if number is not None]
    if len(known) < len(further):
        return Verdict(INCONCLUSIVE, f"{reason} With losses like these, more patients would not change that.")
    more = max(known)
    word = "patient" if more == 1 else "patients"
    return Verdict(INCONCLUSIVE, f"{reason} About {more} more {word} like these would be needed.", more)
