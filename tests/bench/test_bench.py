"""The bench on the shipped bundle; what is asserted is what it says, never how long it took."""

import json
import subprocess
import sys

import numpy as np
import pytest

from dfqsam.assets import shipped_bundle
from dfqsam.bench import report
from dfqsam.bench.child import peak_megabytes
from dfqsam.bench.run import Result, bench, machine
from dfqsam.bundle import open_bundle
from dfqsam.errors import InputError
from tests.commands import in_a_process


def results() -> list[Result]:
    return [
        Result("encoder", "w8a8", 6_000_000, 0.2, [0.2, 0.1, 0.3], 300.0),
        Result("encoder", "full precision", 23_000_000, 0.4, [0.5, 0.5, 0.5], None),
        Result("decoder", "w8a8", 4_000_000, 0.1, [0.04], 200.0),
    ]


def test_figures_by_hand(tmp_path):
    found = results()
    assert [round(report.ratio(result, found), 3) for result in found] == [1.0, 2.5, 1.0]
    where = machine(2)
    text = report.markdown(found, where, "dfqsam bench b")
    assert "| encoder | full precision | 23.0 | 0.40 | 500 | 500 | 2.0 |  | 2.50 |" in text
    assert "2 threads, medians of 3 runs" in text
    document = report.document(found, where)
    assert document["results"][0]["p50_seconds"] == 0.2
    assert document["results"][0]["p95_seconds"] == pytest.approx(0.29)
    json.dumps(document)
    report.chart(found, tmp_path / "bench.png", "LiteMedSAM")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_the_shipped_bundle_is_timed(tmp_path):
    done = in_a_process("bench", shipped_bundle(), "--runs", "1", "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [result["part"] for result in document["results"]] == ["encoder", "decoder", "first mask"]
    assert all(result["p50_seconds"] > 0 and result["ratio"] == 1 for result in document["results"])
    assert all(result["peak_megabytes"] > 30 for result in document["results"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"bench.md", "bench.json", "bench.png"}


def test_the_process_that_is_timed_has_no_torch(tmp_path):
    np.savez(tmp_path / "inputs.npz", image=np.zeros((64, 64, 3), np.uint8))
    arguments = ["predictor", str(shipped_bundle()), str(tmp_path / "inputs.npz"), "1"]
    command = [sys.executable, "-m", "dfqsam.bench.child", *arguments]
    done = subprocess.run(command, input="run\n", capture_output=True, text=True, check=True)
    loaded, ran, last = (json.loads(line) for line in done.stdout.splitlines())
    assert loaded["load"] > 0
    assert ran["seconds"] > 0
    assert last["torch"] is False


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"against": ["tea"]}, "nothing called 'tea'"),
        ({"against": ["fp32"]}, "no full-precision graphs"),
        ({"runs": 0}, "at least 1 of each"),
        ({"threads": 0}, "at least 1 of each"),
    ],
)
def test_what_cannot_be_timed_is_said_before_anything_runs(options, words):
    with pytest.raises(InputError, match=words):
        bench(open_bundle(shipped_bundle()), **options)


def test_the_peak_of_memory_is_none_where_the_system_does_not_say(tmp_path):
    assert peak_megabytes(tmp_path / "none") is None
    (tmp_path / "status").write_text("VmPeak:\t 9 kB\nVmHWM:\t  2000 kB\n")
    assert peak_megabytes(tmp_path / "status") == pytest.approx(2.048)
