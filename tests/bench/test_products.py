import numpy as np
import pytest

from dfqsam.bench.products import REACH, Shape, compare, float_graph, forms, inputs, integer_graph, markdown
from dfqsam.export.census import census
from dfqsam.runtime.sessions import session

SHAPE = Shape("small", 2, 6, 9, 3, 4)
WHOLE = Shape("a grid", 1, 256, 256, 2, 8, side=16)


def reference(feeds: dict[str, np.ndarray], shape: Shape) -> np.ndarray:
    def heads(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1, shape.heads, shape.size).transpose(0, 2, 1, 3).astype(np.float64)

    query, key, value = (heads(feeds[name]) for name in ("query", "key", "value"))
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(shape.size) + feeds["bias"]
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = shares / shares.sum(-1, keepdims=True) @ value
    return mixed.transpose(0, 2, 1, 3).reshape(shape.batch, shape.queries, -1)


def test_both_forms_compute_attention():
    feeds = inputs(SHAPE)
    assert all(np.abs(values).max() <= REACH for values in feeds.values())
    wanted = reference(feeds, SHAPE)
    (exact,) = session(float_graph(SHAPE), 1).run(None, {name: x for name, x in feeds.items() if name != "unit"})
    assert np.abs(exact - wanted).max() < 1e-5
    assert census(integer_graph(SHAPE))["MatMulIntegerToFloat"] == 1
    (rounded,) = session(integer_graph(SHAPE), 1).run(None, feeds)
    error = np.linalg.norm(rounded - wanted) / np.linalg.norm(wanted)
    assert 1e-4 < error < 0.03  # rounded, and to 8 bits


def test_attention_over_a_grid_is_timed_as_graphs_have_it():
    (row,) = compare((WHOLE,), threads=1, runs=2)
    assert row["side"] == 16
    assert 1e-4 < row["error"] < 0.03
    graphs = forms(WHOLE)
    assert census(graphs["float"])["Attention"] == 2  # eight rows of queries at a time
    assert census(graphs["integer"])["MatMulIntegerToFloat"] == 1


def test_a_comparison_says_how_many_times_as_long_integers_take():
    (row,) = compare((SHAPE,), threads=1, runs=2)
    assert row["ratio"] == pytest.approx(row["seconds"]["integer"] / row["seconds"]["float"], abs=1e-3)
    assert row["error"] < 0.03
    row["seconds"], row["ratio"] = {"float": 0.001, "integer": 0.0025}, 2.5
    assert "| small | 1.00 | 2.50 | 2.5 |" in markdown([row])
