import pytest
import torch

from dfqsam.assets import shipped_images
from dfqsam.errors import InputError
from dfqsam.experiment import load_cells, run
from dfqsam.experiment.rows import ROWS, synthesis_of
from dfqsam.experiment.score import Judge
from dfqsam.experiment.sets import calibration_images
from dfqsam.experiment.store import FILE
from dfqsam.imaging import read_picture
from dfqsam.sam.known import LITE_MEDSAM
from dfqsam.synth.synthetic_set import SyntheticSet
from tests.experiment.world import small_sam, write_folder


@pytest.fixture
def data(tmp_path):
    return write_folder(tmp_path / "data", {("a", "validation"): [2], ("a", "train"): [1, 1], ("b", "train"): [1]})


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr("dfqsam.experiment.study.load_sam", lambda _path: small_sam())
    monkeypatch.setattr("dfqsam.experiment.study.get_model", lambda _name: None)


def test_a_run_measures_each_cell_once_and_goes_on_where_it_was(tmp_path, data, monkeypatch):
    folder = tmp_path / "out"
    arguments = {"rows": ("shapes", "real"), "columns": ("w8a8", "W4A4"), "images": 2, "masks": None}
    cells = run(folder, data, **arguments)
    places = [(c["row"], c["column"], c["reparameterize"]) for c in cells]
    assert len(set(places)) == len(places) == 2 * 2 * 2
    assert all(0 <= c["figures"]["agreement"] <= 100 for c in cells)
    by_place = dict(zip(places, cells, strict=True))
    fine, coarse = by_place["shapes", "w8a8", "center"], by_place["shapes", "W4A4", "center"]
    assert fine["figures"]["embedding_error"] < coarse["figures"]["embedding_error"]
    assert fine["quantization"]["weight_bits"] == 8
    assert fine["synthesis"]["method"] == "shapes"
    assert by_place["real", "w8a8", None]["synthesis"] is None
    assert [path.name for path in (folder / "sets").iterdir()] == ["shapes-0"]

    # Cut the last cell off: it alone is measured again, and gives the same figures.
    path = folder / FILE
    path.write_bytes(path.read_bytes()[:-9])
    scored = []
    score = Judge.score
    monkeypatch.setattr(Judge, "score", lambda self, *a: scored.append(1) or score(self, *a))
    again = run(folder, data, **arguments)
    assert len(scored) == 1
    assert [c["figures"] for c in again] == [c["figures"] for c in cells]
    assert run(folder, data, **arguments) == again == load_cells(folder)
    assert len(scored) == 1

    with pytest.raises(InputError, match="another folder"):
        run(folder, data, **(arguments | {"images": 3}))


def test_unknown_names_are_told_before_anything_is_done(tmp_path, data):
    with pytest.raises(InputError, match="no calibration source 'magic'"):
        run(tmp_path / "out", data, rows=("magic",))
    with pytest.raises(InputError, match="no rung 'ninth'"):
        run(tmp_path / "out", data, rungs=("ninth",))
    with pytest.raises(InputError, match="W3A3"):
        run(tmp_path / "out", data, columns=("W3A3",))
    with pytest.raises(InputError, match="at least 1"):
        run(tmp_path / "out", data, images=0)
    with pytest.raises(InputError, match="nothing new for W4A4, whose layers all have the same bits"):
        run(tmp_path / "out", data, columns=("W4A4",), rungs=("mixed",))
    with pytest.raises(InputError, match="nothing new for w4a8, w8a8, whose attention products are in floating point"):
        run(tmp_path / "out", data, columns=("w4a8", "w8a8"), rungs=("softmax",))
    with pytest.raises(InputError, match="nothing new for w4a4, whose depthwise filters are in floating point"):
        run(tmp_path / "out", data, columns=("w4a4",), rungs=("depthwise",))
    assert not (tmp_path / "out").exists()


def test_only_the_row_of_real_pictures_opens_any(tmp_path, data, monkeypatch):
    opened = []
    monkeypatch.setattr("dfqsam.evaluate.medseg.read_picture", lambda path: opened.append(path) or read_picture(path))
    sam = small_sam()
    for row in ("noise", "shapes"):
        assert len(calibration_images(sam, row, 3, 0, tmp_path / "sets", data)) == 3
    assert not opened
    pictures = calibration_images(sam, "real", 3, 0, tmp_path / "sets", data)
    assert len(opened) == len(pictures) == 3
    assert all(max(picture.shape[1:]) == 64 for picture in pictures)
    assert not (tmp_path / "sets" / "real-0").exists()


def test_a_kept_set_is_used_and_one_of_other_settings_refused(tmp_path, data):
    sam = small_sam()
    first = calibration_images(sam, "shapes", 2, 0, tmp_path, data)
    again = calibration_images(sam, "shapes", 2, 0, tmp_path, data)
    assert all(bool((one == other).all()) for one, other in zip(first, again, strict=True))
    with pytest.raises(InputError, match="other settings"):
        calibration_images(sam, "shapes", 3, 0, tmp_path, data)


def test_rows_differ_in_what_their_names_say():
    made = {row: synthesis_of(row, 4, seed=7) for row in ROWS}
    assert made["real"] is None
    assert {config.seed for config in made.values() if config is not None} == {7}
    switches = {row: (c.evolve, c.batch_norm, c.attention) for row, c in made.items() if row.startswith("dfqsam")}
    assert switches == {
        "dfqsam-no-evolution": (False, False, False),
        "dfqsam": (True, False, False),
        "dfqsam-bn": (True, True, False),
        "dfqsam-bn-attention": (True, True, True),
    }


def test_images_that_ship_are_taken_where_they_are_what_is_asked_for(tmp_path, data, monkeypatch):
    made = []
    monkeypatch.setattr("dfqsam.experiment.sets.synthesize", lambda *_: made.append(1) or 1 / 0)
    folder = shipped_images(LITE_MEDSAM.sha256, 256)
    found = calibration_images(small_sam(), "dfqsam-bn", 32, 0, tmp_path / "sets", data, folder)
    assert len(found) == 32
    assert all(torch.equal(a, b) for a, b in zip(found, SyntheticSet.load_pictures(folder).images, strict=True))
    for row, count, seed in (("dfqsam-bn", 32, 1), ("dfqsam-bn", 31, 0), ("dfqsam", 32, 0)):
        with pytest.raises(ZeroDivisionError):
            calibration_images(small_sam(), row, count, seed, tmp_path / "sets", data, folder)
    assert len(made) == 3
