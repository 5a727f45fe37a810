import pytest

from dfqsam.errors import InputError
from dfqsam.experiment.machine import machine
from dfqsam.experiment.picture import agreement_chart
from dfqsam.experiment.store import FILE, append_cell, load_cells
from dfqsam.experiment.table import markdown
from dfqsam.processor import processor_features

STUDY = {
    "family": "lite-medsam",
    "image_size": 256,
    "masks": 151,
    "pictures": 37,
    "split": "validation",
    "calibration_images": 32,
}


def cell(row="shapes", seed=0, column="W8A8", reparameterize="center", agreement=90.0, error=0.25, drop=1.0):
    figures = {"agreement": agreement, "embedding_error": error, "dice": 80 - drop, "drop": drop}
    place = {"row": row, "seed": seed, "column": column, "reparameterize": reparameterize}
    return {**place, "figures": figures, "study": STUDY}


def test_means_and_spreads_by_hand():
    cells = [cell(seed=0, agreement=90.0), cell(seed=1, agreement=92.0), cell(seed=2, agreement=97.0)]
    cells += [cell(row="real", column="W4A4", reparameterize=None, agreement=60.0, error=0.5, drop=-2.0)]
    text = markdown(cells, "dfqsam experiment FOLDER")
    lines = text.splitlines()
    assert lines[0] == "<!-- Made by: dfqsam experiment FOLDER -->"
    # mean 93; deviations -3, -1, 4: sqrt((9 + 1 + 16) / 2) = 3.61
    assert "| shapes | center | 93.0 ± 3.6 |  |" in lines
    assert "| real | no |  | 60.0 |" in lines
    assert "| shapes | center | 0.250 ± 0.000 |  |" in lines
    assert "| real | no |  | -2.0 |" in lines
    assert lines.count("| calibration | reparameterized | W8A8 | W4A4 |") == 3
    assert "in full precision 80.0" in text
    assert "standard deviation over seeds" in text


def test_one_seed_has_no_spread_and_nothing_is_a_sentence():
    assert "±" not in markdown([cell()])
    assert "| shapes | center | 90.0 |" in markdown([cell()])
    assert "No cell" in markdown([])


def test_the_ladder_stands_below_and_tables_compare_at_one_rung():
    seconds = {"observing": 60.0, "quantizing": 60.0, "judging": 9.0}
    steps = [("nearest", 70.0), ("corrected", 80.0), ("weights", 90.0)]
    cells = [cell(agreement=agreement) | {"rung": rung, "seconds": seconds} for rung, agreement in steps]
    lines = markdown(cells).splitlines()
    assert "| shapes | center | 80.0 |" in lines
    below = lines[lines.index("**Ladder, shapes: agreement / embedding error / drop (minutes)**") :]
    assert [line.split(" | ")[1] for line in below if line.startswith(("| round", "| +"))] == [
        f"{agreement} / 0.250 / 1.0 (2) |" for _, agreement in steps
    ]
    rotated = cells[2] | {"reparameterize": "rotation"}
    assert "| + compensated weights, rotated behind norms | 90.0 / 0.250 / 1.0 (2) |" in markdown([*cells, rotated])
    assert "Ladder" not in markdown(cells[1:2])
    assert "Ladder" in markdown(cells[2:])


def test_cells_survive_a_line_that_was_cut_off(tmp_path):
    assert load_cells(tmp_path) == []
    append_cell(tmp_path, cell(seed=0))
    append_cell(tmp_path, cell(seed=1))
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-20])
    assert [c["seed"] for c in load_cells(tmp_path)] == [0]
    append_cell(tmp_path, cell(seed=2))
    assert [c["seed"] for c in load_cells(tmp_path)] == [0, 2]
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(InputError, match=r"Line 1 of .* is damaged"):
        load_cells(tmp_path)


def test_the_chart_is_drawn(tmp_path):
    cells = [
        cell(column=c, reparameterize=r, seed=s) for c in ("W8A8", "w4a4") for r in ("center", None) for s in (0, 1)
    ]
    agreement_chart(cells, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes()[:4] == b"\x89PNG"
    agreement_chart([], tmp_path / "empty.png")


def test_the_machine_is_described_in_words(tmp_path):
    found = machine()
    assert found["threads"] >= 1
    assert {"dfqsam", "torch", "python"} <= found["versions"].keys()
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: some avx512_vnni thing\nflags\t\t: fpu avx2 fma sse\n")
    assert processor_features(info) == ["avx2", "fma"]
    assert processor_features(tmp_path / "none") == []
