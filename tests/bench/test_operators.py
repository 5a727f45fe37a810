"""Operators of a graph, and what they compute, by hand."""

import doctest

import numpy as np
import onnx
import pytest
from onnx import parser

from dfqsam.bench import operators
from dfqsam.bench.operators import Kernel, best, least_seconds, markdown, multiplications, profile, summary
from dfqsam.bench.run import machine
from dfqsam.errors import InputError

WEIGHT = ", ".join("0.5" for _ in range(20))
GRAPH = f"""<ir_version: 11, opset_import: ["" : 23]> small
(uint8[6, 4] image) => (float[6, 5] y) <float[4, 5] weight = {{{WEIGHT}}}>
{{ x = Cast <to = 1> (image)  z = MatMul (x, weight)  y = Relu (z) }}"""


@pytest.fixture
def graph(tmp_path):
    path = tmp_path / "graph.onnx"
    onnx.save(parser.parse_model(GRAPH), path)
    return path


def test_examples_in_the_docstrings():
    assert doctest.testmod(operators).failed == 0


def test_multiplications_by_hand():
    assert multiplications("MatMulIntegerToFloat", [(1, 8, 8, 16), (), (4,)], [(1, 8, 8, 4)]) == 8 * 8 * 16 * 4
    assert multiplications("FusedConv", [(1, 6, 5, 5), (6, 1, 3, 3), (6,)], [(1, 6, 5, 5)]) == 6 * 25 * 9
    assert multiplications("QLinearConv", [(1, 6, 5, 5), (), (), (7, 6, 1, 1), ()], [(1, 7, 5, 5)]) == 7 * 25 * 6
    assert multiplications("Gelu", [(3, 3)], [(3, 3)]) == 0


def test_kernels_of_a_graph_and_what_they_move(graph):
    runs = profile(graph, {"image": np.ones((6, 4), np.uint8)}, threads=1, runs=3)
    assert len(runs) == 3
    found = summary(runs)
    assert {name: kernel.products for name, kernel in found.items()} == {"Cast": 0, "MatMul": 120, "Relu": 0}
    assert found["Cast"].moved == 24 + 4 * 24
    assert found["Relu"].moved == 2 * 4 * 30
    seconds = [kernel.seconds for kernel in found.values()]
    assert seconds == sorted(seconds, reverse=True)


def test_medians_over_runs_and_sums_within_one():
    runs = [[Kernel("A", s, 4, 8), Kernel("B", 9.0, 0, 1), Kernel("A", 1.0, 4, 8)] for s in (1.0, 5.0, 2.0)]
    assert summary(runs) == {"B": Kernel("B", 9.0, 0, 1), "A": Kernel("A", 3.0, 8, 16)}


def test_at_best_is_the_longer_of_products_and_bytes():
    rates = {"float": 10.0, "integer": 100.0, "sum": 2.0}
    assert least_seconds(Kernel("MatMul", 9.0, 50, 4), rates) == 5
    assert least_seconds(Kernel("MatMulIntegerToFloat", 9.0, 50, 4), rates) == 2
    text = markdown({"MatMul": Kernel("MatMul", 8.0, 50, 4), "Tiny": Kernel("Tiny", 0.001, 0, 2)}, rates, machine(2))
    assert "| MatMul | 8000 | 100% | 0.00 | 0 | 0.00 | 0.0 | 5000 |" in text
    assert "Tiny" not in text
    assert "| all | 8001 | 100% | | | | | 5001 |" in text


def test_the_best_rates_are_of_the_right_order(monkeypatch):
    monkeypatch.setattr(operators, "SIDE", 256)
    monkeypatch.setattr(operators, "LONG", 1 << 16)
    rates = best(threads=1, runs=2)
    assert set(rates) == {"float", "integer", "sum"}
    assert all(rate > 1e6 for rate in rates.values())


def test_mistakes_are_one_sentence(tmp_path, graph, capsys):
    (tmp_path / "no.onnx").write_bytes(b"no graph")
    assert operators.main([str(tmp_path / "no.onnx")]) == 2
    assert "is no encoder of a bundle" in capsys.readouterr().err
    assert operators.main([str(graph), "--runs", "0"]) == 2
    with pytest.raises(InputError, match="cannot be loaded"):
        profile(tmp_path / "no.onnx", {}, 1, 1)
