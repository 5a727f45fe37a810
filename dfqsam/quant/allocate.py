"""Bits for every layer within a budget of bytes: pure maths."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dfqsam.errors import InputError

UNITS = 8192  # that a budget is divided into; sizes are rounded up to them, so that the budget always holds


def allocate(
    errors: Mapping[str, Mapping[int, float]], sizes: Mapping[str, Mapping[int, int]], budget: int
) -> dict[str, int]:
    """The bits of each layer whose errors sum to the least, with sizes that sum to at most ``budget``.

    A knapsack with one choice a layer, solved exactly by dynamic programming (up to the rounding of sizes to a
    8192th of the budget).

    Args:
        errors: by layer and bits, at least 0; errors of different layers must be fit to be added.
        sizes: bytes, by the same layers and bits.
        budget: bytes.

    Raises:
        InputError: when the smallest choices together are too large.

    >>> allocate({"a": {4: 3.0, 8: 0.0}, "b": {4: 2.0, 8: 0.0}}, {"a": {4: 5, 8: 10}, "b": {4: 5, 8: 10}}, 15)
    {'a': 8, 'b': 4}
    """
    least = sum(min(by_bits.values()) for by_bits in sizes.values())
    if least > budget:
        raise InputError(f"The smallest weights take {least} bytes; {budget} are too few. Allow at least as many.")
    unit = max(1.0, budget / UNITS)
    room = int(budget / unit)
    best = np.zeros(room + 1)  # least error with at most so many units
    choices: list[tuple[list[int], np.ndarray]] = []
    for name, by_bits in errors.items():
        bits = sorted(by_bits)
        options = np.full((len(bits), room + 1), np.inf)
        for i, count in enumerate(bits):
            cost = int(np.ceil(sizes[name][count] / unit))
            if cost <= room:
                options[i, cost:] = best[: room + 1 - cost] + by_bits[count]
        choices.append((bits, options.argmin(0)))
        best = options.min(0)
    if not np.isfinite(best[-1]):
        # Rounding up has used up what was left; the smallest sizes still fit.
        return {name: min(sizes[name], key=lambda count: sizes[name][count]) for name in errors}
    chosen, left = {}, room
    for name, (bits, picked) in zip(reversed(list(errors)), reversed(choices), strict=True):
        count = bits[picked[left]]
        chosen[name] = count
        left -= int(np.ceil(sizes[name][count] / unit))
    return {name: chosen[name] for name in errors}
