"""Limits of a mean over patients and of a share of patients, and how many patients a study needs.

The unit is the patient: cases of one patient resemble each other, so they are averaged first, and patients are
resampled whole (a cluster bootstrap). All limits are one-sided.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfqsam.errors import InputError

CONFIDENCE = 0.975
SHARE_CONFIDENCE = 0.95
RESAMPLES = 10_000
MOST_PATIENTS = 100_000
# Resampled numbers held at once (each 8 bytes, and as many indices).
BATCH = 4_000_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """One-sided limits of a mean, each at 97.5 %: it is at least ``lower``, and it is at most ``upper``.

    Arrays of the shape that the values had without their last axis.
    """

    lower: Floats
    upper: Floats


def mean_limits(values: ArrayLike, seed: int = 0, resamples: int = RESAMPLES) -> Limits:
    """Limits of the mean of ``values`` (..., n: one a patient) that hold with 97.5 % each.

    Of the bias-corrected and accelerated bootstrap (BCa, which follows skewed losses) and of Student's t (which knows
    that few patients tell the spread badly) the wider one is taken: BCa alone claims too much with few patients (in
    2,000 simulated studies of ten, 5.9 % of false acceptances in place of 2.5 %; the wider one 2.8 %). Where BCa does
    not exist, as with two patients, t stands alone.
    Without any spread both limits are the mean; with one patient there are none (they are infinite).
    """
    from scipy import stats

    array = np.asarray(values, np.float64)
    n = array.shape[-1] if array.ndim else 0
    if n < 1:
        raise InputError("There is no patient to take a mean of.")
    if n == 1:
        return Limits(np.full(array.shape[:-1], -math.inf), np.full(array.shape[:-1], math.inf))
    mean = array.mean(axis=-1)
    spread = array.std(axis=-1, ddof=1)
    flat = np.ptp(array, axis=-1) <= 1e-12
    reach = stats.t.ppf(CONFIDENCE, n - 1) * np.where(flat, 0.0, spread) / math.sqrt(n)
    lower, upper = mean - reach, mean + reach
    moving = ~flat
    if moving.any():
        chosen = array[moving]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # BCa that does not exist is NaN, and fmin and fmax pass it over
            found: Any = stats.bootstrap(
                (chosen,),
                np.mean,
                axis=-1,
                vectorized=True,
                confidence_level=2 * CONFIDENCE - 1,
                method="BCa",
                n_resamples=resamples,
                batch=max(1, BATCH // chosen.size),
                rng=np.random.default_rng(seed),
            ).confidence_interval
        lower, upper = np.array(lower), np.array(upper)
        lower[moving] = np.fmin(lower[moving], found.low)
        upper[moving] = np.fmax(upper[moving], found.high)
    return Limits(np.asarray(lower), np.asarray(upper))


def share_limits(count: int, n: int) -> tuple[float, float]:
    """Exact (Clopper-Pearson) limits of a share, each one-sided at 95 %, when ``count`` of ``n`` patients are seen.

    >>> round(share_limits(0, 59)[1], 4)
    0.0495
    """
    from scipy import stats

    if not 0 <= count <= n or n < 1:
        raise InputError(f"{count} of {n} patients is no share.")
    interval = stats.binomtest(count, n).proportion_ci(2 * SHARE_CONFIDENCE - 1, "exact")
    return float(interval.low), float(interval.high)


def patients_for_mean(sigma: float, margin: float, power: float = 0.9, loss: float = 0.0) -> int | None:
    """How many patients show a mean loss below ``margin``, with this power, when the true mean is ``loss``.

    Normal quantiles: n = ((z 0.975 + z power) * sigma / (margin - loss))², rounded up; at 90 % power that is
    10.51 (sigma / margin)². None where ``loss`` is no smaller than the margin.

    Args:
        sigma: standard deviation of the losses of patients, 0 to 1.

    >>> patients_for_mean(0.05, 0.02)
    66
    """
    from scipy import stats

    if not (sigma > 0 and margin > 0 and 0 < power < 1):
        raise InputError(
            f"The plan needs sigma and margin above 0 and a power between 0 and 1, not {sigma}, {margin} and {power}."
        )
    if loss >= margin:
        return None
    reach = float(stats.norm.ppf(CONFIDENCE) + stats.norm.ppf(power))
    return max(2, math.ceil((reach * sigma / (margin - loss)) ** 2))


def patients_for_share(share: float, most: float) -> int | None:
    """The least number of patients of whom ``share`` may be seen (rounded up) while at most ``most`` is shown at 95 %.

    None where no number up to 100,000 does.

    >>> patients_for_share(0, 0.05)
    59
    """
    from scipy import stats

    n = np.arange(1, MOST_PATIENTS + 1)
    count = np.ceil(share * n - 1e-9)
    # The upper limit is below ``most`` exactly where so few, or fewer, would be seen with at most 5 % at that share.
    enough = np.flatnonzero(stats.binom.cdf(count, n, most) < 1 - SHARE_CONFIDENCE)
    return int(n[enough[0]]) if len(enough) else None
