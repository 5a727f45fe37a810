"""The measurement of the service under load: what it makes of figures, and that it runs."""

import json

import pytest

from dfqsam.bench.load_report import bars, markdown, percentile, summary
from dfqsam.bench.serve_load import main
from tests.evaluate.world import toy_bundle

ENTRIES = [
    {"name": "picture", "num_requests": 10, "num_failures": 1, "response_times": {"100": 9, "2000": 1}},
    {"name": "prompt", "num_requests": 30, "num_failures": 0, "response_times": {"20": 30}},
    {"name": "429", "num_requests": 7, "num_failures": 0, "response_times": {"1": 7}},
]
WHERE = {"versions": {"dfqsam": "0.1.0"}, "threads": 2, "architecture": "x86_64", "processor": ["avx2"]}


def of(early: float, late: float, **more) -> dict:
    memories = [(at, early if at < 60 else late) for at in range(0, 100, 5)]
    found = summary(ENTRIES, memories, 100)
    return {**found, "clients": 16, "recorded": 39, "exit_code": 0, **more}


def test_figures_worked_out_by_hand():
    found = of(400, 410)
    assert found["requests"]["picture"] == {"answers": 9, "errors": 1, "p50_ms": 100.0, "p95_ms": 2000.0}
    assert (found["answers"], found["errors"], found["held_429"]) == (39, 1, 7)
    assert (found["p50_ms"], found["p95_ms"]) == (20.0, 100.0)  # of 40: the 20th, the 38th
    assert (found["memory_second_fifth_mb"], found["memory_last_fifth_mb"]) == (400, 410)
    assert found["memory_growth"] == pytest.approx(0.025)
    assert percentile({}, 0.5) != percentile({}, 0.5)


@pytest.mark.parametrize(
    ("result", "missed"),
    [
        (of(400, 410, errors=0), []),
        (of(400, 410), ["no error but 429"]),
        (of(400, 421, errors=0), ["memory flat within 5 %"]),
        (of(400, 370, errors=0), ["memory flat within 5 %"]),
        (of(400, 400, errors=0, recorded=38), ["every answer is in the audit log"]),
        (of(400, 400, errors=0, exit_code=-9), ["stopped when told"]),
        (of(400, 400, errors=0, answers=0), ["answers came"]),
        (of(400, float("nan"), errors=0), ["memory flat within 5 %"]),
    ],
)
def test_each_bar_can_be_missed(result, missed):
    met = bars(result)
    assert [bar for bar, good in met.items() if not good] == missed
    text = markdown(result, met, WHERE)
    assert text.count("MISSED") == len(missed)
    assert "| prompt | 30 | 0 | 20 | 20 |" in text


@pytest.mark.slow
def test_it_runs(tmp_path, monkeypatch, capsys):
    toy_bundle(tmp_path / "bundle", 0, full=False)
    out = tmp_path / "out"
    options = ["--bundle", str(tmp_path / "bundle"), "--seconds", "15", "--clients", "4", "-o", str(out)]
    monkeypatch.setattr("sys.argv", ["serve_load", *options])
    assert main() in (0, 1)  # memory of so short a run says nothing
    found = json.loads((out / "serve-load.json").read_text())
    assert {name for name, good in found["bars"].items() if not good} <= {"memory flat within 5 %"}
    assert {*found["requests"]} == {"picture", "picture and prompt", "prompt"}
    assert found["answers"] <= found["recorded"]
    assert (out / "serve-load.md").read_text() in capsys.readouterr().out
