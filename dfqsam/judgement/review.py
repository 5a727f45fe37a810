"""What a review page asks: filters, counts, preference, agreement of raters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import Any

from dfqsam.errors import InputError
from dfqsam.judgement.history import Stored
from dfqsam.judgement.record import VERDICTS
from dfqsam.judgement.statistics import Kappa, clopper_pearson, cohen_kappa, wilson
from dfqsam.judgement.store import stamp


@dataclass(frozen=True)
class Filter:
    """Which judgements are meant; None leaves a field open.

    Attributes:
        bundle: the beginning of the SHA-256 of either model's bundle.
        verdict: accept, reject or prefer.
        rater: a pseudonym.
        modality: DICOM's code.
        since, until: time with its zone; from, and up to but without.

    Raises:
        InputError: for an unknown verdict or a time without a zone.
    """

    bundle: str | None = None
    verdict: str | None = None
    rater: str | None = None
    modality: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if self.verdict is not None and self.verdict not in VERDICTS:
            raise InputError(f"{self.verdict!r} is no verdict; choose one of {', '.join(VERDICTS)}.")
        for time in (self.since, self.until):
            if time is not None and time.tzinfo is None:
                raise InputError(f"The time {time} has no zone; give one, such as UTC.")

    def chosen(self, stored: Iterable[Stored]) -> list[Stored]:
        """Those that are meant, in the same order."""
        since = None if self.since is None else stamp(self.since)
        until = None if self.until is None else stamp(self.until)
        found = []
        for item in stored:
            subject, judgement = item.judgement.subject, item.judgement
            if self.bundle and not (subject.full.startswith(self.bundle) or subject.quantized.startswith(self.bundle)):
                continue
            wanted = ((self.verdict, judgement.verdict), (self.rater, subject.rater), (self.modality, subject.modality))
            if any(want is not None and want != has for want, has in wanted):
                continue
            # Times have one spelling of one length, so that their order is that of their letters.
            if (since is None or judgement.time >= since) and (until is None or judgement.time < until):
                found.append(item)
        return found


def counts(stored: Sequence[Stored]) -> dict[str, Any]:
    """How many judgements, raters and studies; how many of each verdict and reason."""
    verdicts = Counter(item.judgement.verdict for item in stored)
    reasons = Counter(item.judgement.reason for item in stored if item.judgement.reason is not None)
    return {
        "judgements": len(stored),
        "raters": len({item.judgement.subject.rater for item in stored}),
        "studies": len({item.judgement.subject.study for item in stored}),
        "verdicts": {name: verdicts[name] for name in VERDICTS},
        "reasons": dict(reasons.most_common()),
    }


@dataclass(frozen=True)
class Preference:
    """Which model was preferred, blinded.

    Attributes:
        quantized, full, equal: votes.
        left: votes for the left side, whatever was there; far from half of them tells of a habit, not of the models.
        share: votes for quantized among those for either, or None without any.
        exact: its two-sided 95 % interval after Clopper and Pearson, or None.
        wilson: the same after Wilson.
        raters, studies: how many the votes come from. The intervals take votes as independent; several votes of one
            rater, or on one study, are not quite, and the truth is less certain than they say.
    """

    quantized: int
    full: int
    equal: int
    left: int
    share: float | None
    exact: tuple[float, float] | None
    wilson: tuple[float, float] | None
    raters: int
    studies: int


def preference(stored: Sequence[Stored]) -> Preference:
    """The votes among these judgements, counted."""
    votes = [item for item in stored if item.preferred is not None]
    found = Counter(item.preferred for item in votes)
    quantized, n = found["quantized"], found["quantized"] + found["full"]
    return Preference(
        quantized,
        found["full"],
        found["equal"],
        sum(item.judgement.choice == "left" for item in votes),
        quantized / n if n else None,
        clopper_pearson(quantized, n) if n else None,
        wilson(quantized, n) if n else None,
        len({item.judgement.subject.rater for item in votes}),
        len({item.judgement.subject.study for item in votes}),
    )


@dataclass(frozen=True)
class Pair:
    """Two raters and how far they agree on the studies that both judged."""

    one: str
    two: str
    kappa: Kappa


def _words(stored: Iterable[Stored], what: str) -> dict[str, dict[tuple[str, str, str], str]]:
    """Rater to item to the word that was said last; an item is a study seen with one pair of models."""
    found: dict[str, dict[tuple[str, str, str], str]] = {}
    for item in stored:
        subject = item.judgement.subject
        word = item.preferred if what == "preference" else item.judgement.verdict
        if word is not None and word != "prefer":
            found.setdefault(subject.rater, {})[subject.study, subject.full, subject.quantized] = word
    return found


def agreement(stored: Sequence[Stored], what: str = "verdict") -> list[Pair]:
    """Cohen's kappa of every two raters over the studies that both judged with the same two models.

    A rater who judged several slices of a study, or changed the mind, counts with what was said last.

    Args:
        what: ``verdict`` (accept or reject) or ``preference`` (full, quantized or equal).

    Raises:
        InputError: for another word.
    """
    if what not in ("verdict", "preference"):
        raise InputError(f"Raters agree on a verdict or a preference, not on {what!r}.")
    words = _words(stored, what)
    pairs = []
    for one, two in combinations(sorted(words), 2):
        shared = [item for item in words[one] if item in words[two]]
        if shared:
            both = ([words[rater][item] for item in shared] for rater in (one, two))
            pairs.append(Pair(one, two, cohen_kappa(*both)))
    return pairs
