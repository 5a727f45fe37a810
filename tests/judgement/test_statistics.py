import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dfqsam.errors import InputError
from dfqsam.judgement.statistics import clopper_pearson, cohen_kappa, wilson

SHARES = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
CONFIDENCES = st.sampled_from([0.8, 0.9, 0.95, 0.99])


def test_clopper_pearson_by_hand():
    """With none of n, (1 - p)^n = 0.025 at the upper limit; with 1 of 2, (1 - p)^2 = 0.975 and p^2 = 0.975."""
    assert clopper_pearson(0, 10) == pytest.approx((0, 1 - 0.025**0.1), abs=1e-11)
    assert clopper_pearson(10, 10) == pytest.approx((0.025**0.1, 1), abs=1e-11)
    assert clopper_pearson(1, 2) == pytest.approx((1 - math.sqrt(0.975), math.sqrt(0.975)), abs=1e-11)


def test_wilson_by_hand():
    """The limits are the roots of n (k/n - p)^2 = z^2 p (1 - p)."""
    z = 1.959963984540054
    assert wilson(0, 10) == pytest.approx((0, z * z / (10 + z * z)))
    assert wilson(5, 10) == pytest.approx((0.5 - z / 2 / math.sqrt(10 + z * z), 0.5 + z / 2 / math.sqrt(10 + z * z)))
    for p in wilson(8, 10):
        assert 10 * (0.8 - p) ** 2 == pytest.approx(z * z * p * (1 - p))


@given(SHARES, CONFIDENCES)
def test_intervals_are_those_of_scipy(share, confidence):
    test = stats.binomtest(*share)
    for ours, method in ((clopper_pearson, "exact"), (wilson, "wilson")):
        theirs = test.proportion_ci(confidence, method)
        assert ours(*share, confidence) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@given(SHARES)
def test_intervals_hold_the_share_and_mirror(share):
    count, n = share
    for interval in (clopper_pearson, wilson):
        lower, upper = interval(count, n)
        assert 0 <= lower <= count / n <= upper <= 1
        assert interval(n - count, n) == pytest.approx((1 - upper, 1 - lower), abs=1e-9)


def test_thousands_of_votes():
    theirs = stats.binomtest(6100, 12_000).proportion_ci(0.95, "exact")
    assert clopper_pearson(6100, 12_000) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize("arguments", [(0, 0), (-1, 3), (4, 3), (1, 3, 0), (1, 3, 1)])
def test_what_is_no_share_is_refused(arguments):
    for interval in (clopper_pearson, wilson):
        with pytest.raises(InputError, match="is no share"):
            interval(*arguments)


def rate(table):
    """Two raters' words, from how often each pair of words was given."""
    pairs = [pair for pair, count in table.items() for _ in range(count)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def test_kappa_by_hand():
    """20 + 15 of 50 the same; by chance 25/50 * 30/50 + 25/50 * 20/50 = 0.5; (0.7 - 0.5) / (1 - 0.5) = 0.4."""
    found = cohen_kappa(*rate({("y", "y"): 20, ("y", "n"): 5, ("n", "y"): 10, ("n", "n"): 15}))
    assert (found.n, found.observed, found.expected, found.kappa) == (50, 0.7, 0.5, pytest.approx(0.4))


@pytest.mark.parametrize(
    ("table", "kappa"),
    [
        ({("y", "y"): 3, ("n", "n"): 2}, 1.0),
        ({("y", "n"): 2, ("n", "y"): 2}, -1.0),
        ({("y", "y"): 1, ("y", "n"): 1, ("n", "y"): 1, ("n", "n"): 1}, 0.0),
        ({("y", "y"): 7}, None),
        ({("y", "n"): 7}, 0.0),
    ],
)
def test_kappa_at_the_ends(table, kappa):
    assert cohen_kappa(*rate(table)).kappa == kappa


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=60))
def test_kappa_is_that_of_a_table_of_counts(pairs):
    one, two = zip(*pairs, strict=True)
    counts = np.array([[pairs.count((a, b)) for b in "abc"] for a in "abc"]) / len(pairs)
    observed, expected = np.trace(counts), counts.sum(1) @ counts.sum(0)
    found = cohen_kappa(one, two)
    assert (found.observed, found.expected) == pytest.approx((observed, expected))
    if expected < 1 - 1e-9:
        assert found.kappa == pytest.approx((observed - expected) / (1 - expected))
    else:
        assert found.kappa is None
    swapped = cohen_kappa(two, one)
    assert swapped.kappa == found.kappa
    for order in itertools.islice(itertools.permutations(range(len(pairs))), 3):  # items have no order
        assert cohen_kappa([one[i] for i in order], [two[i] for i in order]) == found


@pytest.mark.parametrize(("one", "two"), [([], []), (["y"], ["y", "n"])])
def test_raters_without_shared_items_are_refused(one, two):
    with pytest.raises(InputError, match="same items"):
        cohen_kappa(one, two)
