"""Intervals of a share, and agreement of two raters, from the standard library alone.

The tests compare them with SciPy and with figures computed by hand.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from dfqsam.errors import InputError

CONFIDENCE = 0.95


def _check(count: int, n: int, confidence: float) -> None:
    if not (0 <= count <= n and n >= 1 and 0 < confidence < 1):
        raise InputError(f"{count} of {n} at confidence {confidence} is no share.")


def _at_least(count: int, n: int, share: float) -> float:
    """Chance of ``count`` or more of n, each with chance ``share`` between 0 and 1."""
    log_p, log_q = math.log(share), math.log1p(-share)
    whole = math.lgamma(n + 1)
    return math.fsum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_p + (n - k) * log_q)
        for k in range(count, n + 1)
    )


def _lower(count: int, n: int, tail: float) -> float:
    """The share at which ``count`` or more would be seen with chance ``tail``; it grows with the share."""
    if count == 0:
        return 0.0
    low, high = 0.0, 1.0
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _at_least(count, n, middle) < tail else (low, middle)
        if high - low < 1e-12:
            break
    return (low + high) / 2


def clopper_pearson(count: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact two-sided interval of a share when ``count`` of ``n`` are seen; never too narrow.

    >>> [round(limit, 4) for limit in clopper_pearson(0, 10)]  # upper: 1 - 0.025 ** (1 / 10)
    [0.0, 0.3085]

    Raises:
        InputError: unless 0 <= count <= n, n >= 1 and 0 < confidence < 1.
    """
    _check(count, n, confidence)
    tail = (1 - confidence) / 2
    return _lower(count, n, tail), 1 - _lower(n - count, n, tail)


def wilson(count: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's two-sided interval of a share, without continuity correction; right on average, and narrower.

    >>> [round(limit, 4) for limit in wilson(5, 10)]
    [0.2366, 0.7634]

    Raises:
        InputError: unless 0 <= count <= n, n >= 1 and 0 < confidence < 1.
    """
    _check(count, n, confidence)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = count / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    lower = 0.0 if count == 0 else max(0.0, middle - reach)
    return lower, 1.0 if count == n else min(1.0, middle + reach)


@dataclass(frozen=True)
class Kappa:
    """How far two raters agree.

    Attributes:
        n: items that both judged.
        observed: share of items on which they agree.
        expected: share on which they would by chance, from how often each uses each word.
        kappa: (observed - expected) / (1 - expected), at most 1; None where both use one and the same word only.
    """

    n: int
    observed: float
    expected: float
    kappa: float | None


def cohen_kappa(one: Sequence[str], two: Sequence[str]) -> Kappa:
    """Cohen's kappa, unweighted, of two raters' words for the same items in the same order.

    Raises:
        InputError: for sequences that are empty or of different lengths.
    """
    n = len(one)
    if n == 0 or n != len(two):
        raise InputError(f"Two raters' words for the same items are needed, not {n} and {len(two)}.")
    # Whole numbers as long as possible, so that 'by chance always the same' is recognised exactly.
    agreed = sum(a == b for a, b in zip(one, two, strict=True))
    counts, others = Counter(one), Counter(two)
    chance = sum(counts[word] * others[word] for word in counts)
    kappa = None if chance == n * n else (agreed * n - chance) / (n * n - chance)
    return Kappa(n, agreed / n, chance / (n * n), kappa)
