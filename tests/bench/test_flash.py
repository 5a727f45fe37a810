import numpy as np
import pytest

from dfqsam.bench.flash import CHANNELS, ROWS, biased_graph, flash_graph, inputs
from dfqsam.runtime.sessions import session


def run(graph: bytes, feeds):
    running = session(graph, 1)
    return np.asarray(running.run(["out"], {i.name: feeds[i.name] for i in running.get_inputs()})[0])


@pytest.mark.parametrize(("side", "heads"), [(8, 1), (9, 3)])
def test_both_forms_are_attention_with_relative_positions(side, heads):
    feeds = inputs(side, heads)
    query, key, value = (
        feeds[name].reshape(-1, heads, CHANNELS).transpose(1, 0, 2) for name in ("query", "key", "value")
    )
    scores = query @ key.transpose(0, 2, 1) * CHANNELS**-0.5
    for token in range(side * side):
        row, column = divmod(token, side)
        scores[:, :, token] += feeds["vertical"][:, :, row] + feeds["horizontal"][:, :, column]
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (shares / shares.sum(-1, keepdims=True)) @ value
    expected = mixed.transpose(1, 0, 2).reshape(1, ROWS * side, -1)
    np.testing.assert_allclose(run(biased_graph(side, heads), feeds), expected, atol=2e-5)
    np.testing.assert_allclose(run(flash_graph(side, heads), feeds), expected, atol=2e-5)
