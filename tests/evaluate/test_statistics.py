import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from dfqsam.errors import InputError
from dfqsam.evaluate.accept import by_patient
from dfqsam.evaluate.statistics import mean_limits, patients_for_mean, patients_for_share, share_limits
from dfqsam.evaluate.verdict import (
    BROKEN,
    FAIL,
    INCONCLUSIVE,
    MET,
    OPEN,
    PASS,
    decide,
    mean_criterion,
    tail_criterion,
)

MARGIN = 0.02


def bca(values: np.ndarray, seed: int = 0, resamples: int = 10_000):
    rng = np.random.default_rng(seed)
    return stats.bootstrap((values,), np.mean, n_resamples=resamples, method="BCa", rng=rng).confidence_interval


def test_the_wider_of_bca_and_student_is_taken():
    skewed = np.random.default_rng(1).exponential(0.02, 60)
    limits = mean_limits(skewed)
    student = stats.t.interval(0.95, 59, skewed.mean(), stats.sem(skewed))
    assert limits.upper == pytest.approx(bca(skewed).high, abs=3e-4)  # the long tail is above
    assert limits.upper > student[1]
    assert limits.lower == pytest.approx(student[0])
    few = np.random.default_rng(2).normal(0, 0.03, 8)
    assert mean_limits(few).upper == pytest.approx(stats.t.interval(0.95, 7, few.mean(), stats.sem(few))[1])
    assert mean_limits(few).upper > bca(few).high


def test_the_same_seed_gives_the_same_limits():
    values = np.random.default_rng(0).exponential(0.02, 40)
    assert mean_limits(values, 3).upper == mean_limits(values, 3).upper
    assert mean_limits(values, 3).upper != mean_limits(values, 4).upper


def test_many_studies_at_once_have_the_limits_of_each_alone():
    both = np.random.default_rng(0).normal(0, 0.05, (2, 30))
    both[1] = 0.25
    together = mean_limits(both)
    assert together.upper[0] == pytest.approx(float(mean_limits(both[0]).upper), abs=1e-3)
    assert together.lower[1] == together.upper[1] == 0.25


def test_few_patients_without_spread_or_with_ties():
    one = mean_limits([0.01])
    assert (one.lower, one.upper) == (-math.inf, math.inf)
    two = mean_limits([0.0, 0.02])
    assert two.upper == pytest.approx(0.01 + stats.t.ppf(0.975, 1) * 0.01, rel=1e-6)
    same = mean_limits([0.01] * 7)
    assert same.lower == same.upper == pytest.approx(0.01)
    tied = mean_limits([0.0] * 40 + [0.04])
    assert 0 < tied.lower + 1 < tied.upper + 1 < 1.01
    assert np.isfinite([tied.lower, tied.upper]).all()
    with pytest.raises(InputError, match="no patient"):
        mean_limits([])


def test_shares_have_exact_limits():
    assert share_limits(0, 59)[1] == pytest.approx(1 - 0.05 ** (1 / 59))
    assert share_limits(0, 58)[1] > 0.05 > share_limits(0, 59)[1]
    assert share_limits(1, 92)[1] > 0.05 > share_limits(1, 93)[1]
    assert share_limits(7, 7) == (pytest.approx(0.05 ** (1 / 7)), 1)
    low, high = share_limits(4, 30)
    assert stats.binom.sf(3, 30, low) == pytest.approx(0.05)
    assert stats.binom.cdf(4, 30, high) == pytest.approx(0.05)
    with pytest.raises(InputError, match="5 of 4"):
        share_limits(5, 4)


def test_plans_have_the_known_sizes():
    assert [patients_for_mean(sigma, 0.02) for sigma in (0.03, 0.05, 0.10)] == [24, 66, 263]
    assert patients_for_mean(0.03, 0.01) == 95
    assert patients_for_mean(0.05, 0.02, power=0.8) == math.ceil((1.959964 + 0.841621) ** 2 * 6.25)
    assert patients_for_mean(0.05, 0.02, loss=0.01) == 263
    assert patients_for_mean(0.05, 0.02, loss=0.02) is None
    assert patients_for_share(0, 0.05) == 59
    assert patients_for_share(1 / 93, 0.05) == 93
    assert patients_for_share(0.05, 0.05) is None
    for wrong in ({"sigma": 0}, {"margin": -1}, {"power": 1}):
        with pytest.raises(InputError, match="The plan needs"):
            patients_for_mean(**{"sigma": 0.05, "margin": 0.02, **wrong})


def studies(mean: float, n: int = 66, sigma: float = 0.05, count: int = 2000, skew: bool = False) -> np.ndarray:
    rng = np.random.default_rng(20)
    if skew:  # most lose nothing, few lose much
        shape = (sigma / 0.05) * (rng.gamma(0.7, 1, (count, n)) - 0.7) * 0.05 / math.sqrt(0.7)
        return mean + shape
    return rng.normal(mean, sigma, (count, n))


def accepted(losses: np.ndarray) -> float:
    return float((mean_limits(losses, seed=1, resamples=999).upper < MARGIN).mean())


MONTE_CARLO = 2 * math.sqrt(0.025 * 0.975 / 2000)  # two standard errors of 2,000 simulations


def test_a_model_that_loses_the_margin_is_accepted_at_most_in_one_case_of_forty():
    assert accepted(studies(MARGIN)) <= 0.025 + MONTE_CARLO
    assert accepted(studies(MARGIN, n=10)) <= 0.025 + MONTE_CARLO


def test_a_model_that_loses_nothing_is_accepted_by_the_planned_number_of_patients():
    assert accepted(studies(0)) >= 0.88
    assert patients_for_mean(0.05, MARGIN, 0.9) == 66


def test_losses_with_a_long_tail_are_caught_by_the_rule_about_the_tail():
    losses = studies(MARGIN, skew=True)
    mean_only = accepted(losses)
    assert mean_only > 0.025  # a mean alone is no safeguard here
    tails = {count: share_limits(count, 66)[1] < 0.05 for count in range(67)}
    small = np.array([tails[count] for count in (losses > 0.10).sum(axis=1)])
    passed = small & (mean_limits(losses, seed=1, resamples=999).upper < MARGIN)
    assert passed.mean() <= 0.025


def test_a_model_at_the_margin_is_called_worse_at_most_in_one_case_of_forty():
    lower = mean_limits(studies(MARGIN), seed=1, resamples=999).lower
    assert (lower > MARGIN).mean() <= 0.025 + MONTE_CARLO


def test_cases_of_one_patient_do_not_count_as_patients():
    """Five cases a patient that resemble each other, and a model that loses the margin: where patients are averaged
    first, as ``accept`` does, it is accepted as rarely as it may; where cases are counted, several times as often."""
    rng, count, n, cases = np.random.default_rng(3), 300, 66, 5
    own = rng.normal(MARGIN, 0.05, (count, n, 1)) + rng.normal(0, 0.02, (count, n, cases))
    averaged = []
    for study in own[:20]:
        rows = [
            SimpleNamespace(patient=f"{p:02d}", agreement=0.9, dice_fp=0.9, dice_q=0.9 - loss, nsd_fp=0.9, nsd_q=0.9)
            for p, losses in enumerate(study)
            for loss in losses
        ]
        averaged.append(by_patient(rows).dice)
    np.testing.assert_allclose(averaged, own[:20].mean(axis=2), atol=1e-12)
    assert accepted(own.mean(axis=2)) <= 0.025 + 2 * math.sqrt(0.025 * 0.975 / count)
    assert accepted(own.reshape(count, -1)) > 0.1


def test_fewer_resamples_do_not_matter_to_the_simulations():
    for mean, most in ((MARGIN, 0.02), (0.0, 0.01)):
        losses = studies(mean, count=300)
        many, few = (mean_limits(losses, 1, resamples).upper < MARGIN for resamples in (10_000, 999))
        assert (many != few).mean() <= most


def test_a_criterion_is_met_broken_or_open():
    rng = np.random.default_rng(0)
    good, bad, unclear = (rng.normal(mean, 0.03, 60) for mean in (0.0, 0.08, 0.02))
    assert mean_criterion("Dice", good, MARGIN).state == MET
    assert mean_criterion("Dice", bad, MARGIN).state == BROKEN
    found = mean_criterion("Dice", unclear, MARGIN)
    assert found.state == OPEN
    assert "neither shown nor excluded" in found.sentence
    assert mean_criterion("Dice", [0.0], MARGIN).state == OPEN
    assert mean_criterion("Dice", [0.0] * 9, MARGIN).state == MET
    assert mean_criterion("Dice", [0.5] * 9, MARGIN).state == BROKEN
    assert mean_criterion("Dice", [MARGIN] * 9, MARGIN).state == OPEN  # on the margin nothing is shown
    assert mean_criterion("Dice", [MARGIN] * 9, MARGIN).needed is None


def test_the_tail_is_met_broken_or_open():
    assert tail_criterion("T", [0.0] * 59).state == MET
    assert tail_criterion("T", [0.10] * 59).state == MET  # more than 0.10, not 0.10
    assert tail_criterion("T", [0.2] + [0.0] * 92).state == MET
    assert tail_criterion("T", [0.2] + [0.0] * 58).state == OPEN
    assert tail_criterion("T", [0.2] * 6 + [0.0] * 14).state == BROKEN
    assert tail_criterion("T", [0.0] * 20).needed == 59
    assert tail_criterion("T", [0.2] * 2 + [0.0] * 28).needed is None


def test_the_verdict_needs_all_and_one_broken_is_enough():
    good, tail = mean_criterion("Dice", [0.0] * 60, MARGIN), tail_criterion("Tail", [0.0] * 60)
    assert decide([good, tail], "Fine.").word == PASS
    assert decide([good, tail], "Fine.").reason.startswith("Fine. Dice: mean loss 0.0000")
    few = tail_criterion("Tail", [0.0] * 20)
    verdict = decide([good, few], "Fine.")
    assert (verdict.word, verdict.more) == (INCONCLUSIVE, 39)
    assert verdict.reason.endswith("About 39 more patients like these would be needed.")
    bad = mean_criterion("Dice", [0.3] * 20, MARGIN)
    assert decide([bad, few], "Fine.").word == FAIL
    assert "Tail" not in decide([bad, few], "Fine.").reason
    never = tail_criterion("Tail", [0.2] * 2 + [0.0] * 28)
    assert decide([few, never], "Fine.").more is None
    assert "would not change that" in decide([few, never], "Fine.").reason


def test_more_patients_that_are_like_these_settle_it():
    losses = 0.01 + 0.05 * stats.norm.ppf((np.arange(30) + 0.5) / 30)
    found = mean_criterion("Dice", losses, MARGIN)
    assert found.state == OPEN
    more = studies(losses.mean(), found.needed, losses.std(ddof=1), count=400)
    assert 0.85 < accepted(more) < 0.95  # the power that is aimed at is 0.9
