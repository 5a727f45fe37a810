from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.errors import InputError
from dfqsam.quant.allocate import allocate

LAYERS = st.lists(
    st.tuples(st.integers(1, 40), st.lists(st.floats(0, 10), min_size=3, max_size=3)), min_size=1, max_size=5
)


@given(LAYERS, st.floats(0, 1))
def test_no_choice_within_the_budget_has_less_error(layers, share):
    sizes = {str(i): {4: 4 * n, 6: 6 * n, 8: 8 * n} for i, (n, _) in enumerate(layers)}
    errors = {str(i): dict(zip((4, 6, 8), found, strict=True)) for i, (_, found) in enumerate(layers)}
    least, most = (sum(pick(s.values()) for s in sizes.values()) for pick in (min, max))
    budget = least + round(share * (most - least))
    chosen = allocate(errors, sizes, budget)
    assert sum(sizes[name][bits] for name, bits in chosen.items()) <= budget

    def error(bits):
        return sum(errors[name][count] for name, count in zip(errors, bits, strict=True))

    possible = [
        bits
        for bits in product((4, 6, 8), repeat=len(layers))
        if sum(sizes[name][count] for name, count in zip(sizes, bits, strict=True)) <= budget
    ]
    assert error(tuple(chosen.values())) == pytest.approx(min(map(error, possible)))


def test_sizes_far_beyond_the_units_still_keep_within_the_budget():
    sizes = {name: {4: 500_003, 8: 1_000_007} for name in "abcdef"}
    errors = {name: {4: 1.0 + i, 8: 0.0} for i, name in enumerate("abcdef")}
    chosen = allocate(errors, sizes, 4_600_000)
    assert sum(sizes[name][bits] for name, bits in chosen.items()) <= 4_600_000
    assert [chosen[name] for name in "abcdef"] == [4, 4, 4, 8, 8, 8]


def test_a_budget_that_cannot_be_kept_is_refused():
    with pytest.raises(InputError, match="take 10 bytes; 9 are too few"):
        allocate({"a": {4: 1.0}}, {"a": {4: 10}}, 9)
