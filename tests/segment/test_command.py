"""``dfqsam segment`` on volumes and folders, with the bundle that ships."""

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from dfqsam.imaging import open_study, read_picture, read_study_mask
from tests.commands import in_a_process
from tests.imaging.made import affine_of, folder, nifti, placed
from tests.segment.shapes import box

nib = pytest.importorskip("nibabel")
pytest.importorskip("highdicom")

SHAPE = (4, 96, 80)
AFFINE = np.diag([1.5, 1.5, 4.0, 1.0])  # of voxel (i, j, k)


def discs():
    """Two bright discs, as masks S x R x C; the second ends after slice 1."""
    s, r, c = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    first = (r - 32) ** 2 + (c - 30) ** 2 <= 18**2
    second = ((r - 72) ** 2 + (c - 58) ** 2 <= 12**2) & (s <= 1)
    return first, second


def stack():
    first, second = discs()
    noise = np.random.default_rng(0).normal(0, 6, SHAPE)
    return np.clip(np.where(first, 190, np.where(second, 140, 60)) + noise, 1, 255).astype(np.int16)


def shown(text):
    return ",".join(f"{value:g}" for value in text)


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_a_nifti_volume_with_two_objects(tmp_path):
    first, second = discs()
    path = nifti(tmp_path / "ct.nii.gz", stack().T, AFFINE)
    boxes = ("--box", shown(box(first[2])), "--box", shown(box(second[0])))
    where = ("--slice", 2, "--slice", 0, "--plane", "stored")
    mask, look = tmp_path / "mask.nii.gz", tmp_path / "look.png"
    done = in_a_process("segment", path, *boxes, *where, "-o", mask, "--overlay", look, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report = json.loads(done.stdout)
    labels = read_study_mask(mask, open_study(path))
    assert dice(labels == 1, first) > 0.95
    assert dice((labels == 2)[:2], second[:2]) > 0.9
    assert report["encoded_slices"] == 4
    assert [one["label"] for one in report["labels"]] == [1, 2]
    assert report["labels"][0]["ml"] == pytest.approx((labels == 1).sum() * 9 / 1000)
    ends = [(one["first"], one["stopped_below"], one["last"], one["stopped_above"]) for one in report["prompts"]]
    assert ends[0] == (0, "edge", 3, "edge")
    assert ends[1][:2] == (0, "edge")
    written = nib.load(mask)
    np.testing.assert_array_equal(written.affine, AFFINE)
    assert read_picture(look).shape == (360 + 28, 4 * 300, 3)


def test_a_dicom_series_gets_a_dicom_segmentation_without_a_word_of_the_patient(tmp_path):
    first, _ = discs()
    series = folder(tmp_path / "series", placed(stack().astype(np.uint16), "oblique"), order=[2, 0, 3, 1])
    mask = tmp_path / "mask.dcm"
    done = in_a_process(
        "segment", series, "--box", shown(box(first[1])), "--slice", 1, "-o", mask, "--window", "128,256"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    study = open_study(series)
    np.testing.assert_allclose(study.affine, affine_of("oblique"), atol=1e-6)
    labels = read_study_mask(mask, study)
    assert dice(labels == 1, first) > 0.95
    line, size, trust = done.stdout.splitlines()
    assert trust.endswith("not signed (nothing shows who made it)")
    assert line.startswith("label 1, box on stored slice 1: slices 0 to 3, predicted IoU ")
    assert line.endswith("below, the stack ends; above, the stack ends")
    assert size == f"{mask}: label 1, {labels.sum() * 2.5 * 0.75 * 0.5 / 1000:.2f} ml ({labels.sum()} voxels)"
    for secret in ("Test", "4711", "1900", "ACC", "1.2.3"):
        assert secret not in done.stdout


def test_one_slice_only_and_prompts_of_a_table(tmp_path):
    first, second = discs()
    path = nifti(tmp_path / "ct.nii", stack().T, AFFINE)
    mask = tmp_path / "m.nii.gz"
    one = ("--box", shown(box(first[2])), "--slice", 2, "--plane", "stored", "--no-propagate")
    done = in_a_process("segment", path, *one, "-o", mask)
    assert done.returncode == 0, done.stderr
    assert "that slice only" in done.stdout
    labels = read_study_mask(mask, open_study(path))
    assert np.flatnonzero(labels.any(axis=(1, 2))).tolist() == [2]
    table = tmp_path / "boxes.csv"
    rows = [
        f"ct.nii,{k},stored,{shown(box(m[k]))},{name},no" for k, m, name in ((2, first, "liver"), (1, second, "cyst"))
    ]
    table.write_text("\n".join(["study,slice,plane,x0,y0,x1,y1,label,propagate", *rows, "other.nii,0,,1,1,2,2,cyst,"]))
    done = in_a_process("segment", path, "--prompts", table, "-o", tmp_path / "two.nii.gz", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [(one["label"], one["name"]) for one in report["labels"]] == [(1, "liver"), (2, "cyst")]
    assert report["encoded_slices"] == 2


def test_several_boxes_in_a_picture_are_a_picture_of_labels(tmp_path):
    first, second = discs()
    cv2.imwrite(str(tmp_path / "p.png"), stack()[0].astype(np.uint8))
    boxes = ("--box", shown(box(first[0])), "--box", shown(box(second[0])))
    done = in_a_process(
        "segment", tmp_path / "p.png", *boxes, "-o", tmp_path / "m.png", "--overlay", tmp_path / "o.png"
    )
    assert done.returncode == 0, done.stderr
    labels = cv2.imread(str(tmp_path / "m.png"), cv2.IMREAD_UNCHANGED)
    assert dice(labels == 1, first[0]) > 0.9
    assert dice(labels == 2, second[0]) > 0.9
    assert read_picture(tmp_path / "o.png").shape == (96, 80, 3)


def cohort(tmp_path, count):
    """NIfTI studies of two slices, and a table of boxes."""
    studies = tmp_path / "studies"
    studies.mkdir()
    first, _ = discs()
    rows = ["study,slice,plane,x0,y0,x1,y1"]
    for number in range(count):
        nifti(studies / f"s{number}.nii.gz", np.roll(stack()[:2], number, axis=1).T, AFFINE)
        x0, y0, x1, y1 = box(first[0])
        rows.append(f"s{number}.nii.gz,0,stored,{x0},{y0 + number},{x1},{y1 + number}")
    table = tmp_path / "boxes.csv"
    table.write_text("\n".join(rows))
    return studies, table


def test_a_batch_killed_in_the_middle_goes_on_to_the_same_masks(tmp_path):
    studies, table = cohort(tmp_path, 4)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = in_a_process("segment", studies, "--prompts", table, "-o", whole, "--workers", 2, "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["done"]) == 4
    command = [sys.executable, "-m", "dfqsam", "segment", studies, "--prompts", table, "-o", killed]
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    journal = killed / "journal.jsonl"
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 1):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = journal.read_bytes().count(b"\n")
    assert 1 <= before < 4
    done = in_a_process("segment", studies, "--prompts", table, "-o", killed, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["done"]) + len(report["done_before"]) == 4
    assert len(report["done_before"]) >= before - 1  # the last one may have been on its way to its place
    for path in whole.glob("*_mask.nii.gz"):
        assert path.read_bytes() == (killed / path.name).read_bytes(), path.name
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in whole.iterdir())
    assert (whole / "volumes.csv").read_bytes() == (killed / "volumes.csv").read_bytes()


def test_a_batch_with_a_bad_study_says_so_at_the_end(tmp_path):
    studies, table = cohort(tmp_path, 1)
    table.write_text(table.read_text() + "\nnone.nii,0,,1,1,2,2\n")
    done = in_a_process(
        "segment", studies, "--prompts", table, "-o", tmp_path / "out", "--overlay", tmp_path / "sheets"
    )
    assert done.returncode == 1
    assert done.stderr == f"none.nii: There is no file or folder {studies / 'none.nii'}.\n"
    out = tmp_path / "out"
    said = f"{out}: 1 studies segmented, 0 were done before, 1 failed; {out / 'volumes.csv'} has the volumes\n"
    assert done.stdout.splitlines(keepends=True)[0] == said
    assert (tmp_path / "sheets" / "s0_overlay.png").exists()


def test_a_users_mistakes_get_one_sentence_and_exit_code_2(dfqsam, tmp_path):
    path = nifti(tmp_path / "ct.nii", stack().T, AFFINE)
    studies, table = cohort(tmp_path, 1)
    bad = tmp_path / "bad.csv"
    bad.write_text("study,slice,x0,y0,x1,y1\nct.nii,0,5,5,1,9\n")
    out, good = ("-o", tmp_path / "m.nii.gz"), ("--box", "5,5,20,20", "--slice", 1)
    cases = {
        ("segment", path, *out): "There is no prompt",
        ("segment", path, "--box", "5,5,20,20", *out): "say which one the box is on, 0 to 3",
        ("segment", path, "--box", "5,5,20", "--slice", 1, *out): "give 4 numbers",
        ("segment", path, "--box", "5,5,20,20", "--slice", 9, *out): "There is no slice 9 in the axial plane",
        ("segment", path, *good, "--slice", 2, *out): "There are 1 boxes and 2 slices",
        ("segment", path, *good, "--plane", "up", *out): "The plane 'up' is none of",
        ("segment", path, *good, "--first", 2, *out): "lies outside of the slices 2 to 3",
        ("segment", path, *good, "--window", "4,x", *out): "The window '4,x' is not understood",
        ("segment", path, *good, "--window", "gut", *out): "The window 'gut' is none of",
        ("segment", path, *good, "-o", tmp_path / "m.tif"): "must be named .nii",
        ("segment", path, *good, "-o", tmp_path / "no" / "m.nii"): "there is no directory",
        ("segment", path, *good, *out, "--overlay", tmp_path / "m.bmp"): "must be named .png, .jpg",
        ("segment", path, "--point", "5,5", "--slice", 1, *out): "was trained on boxes only",
        ("segment", path, "--point", "5,5", "--slice", 1, "--label", 2, *out): "give 1 or 0 for each point",
        ("segment", path, *good, *good[:2], "--point", "5,5", *out): "cannot be told apart",
        ("segment", path, "--point", "5,5", "--slice", 1, "--slice", 2, *out): "give one slice",
        ("segment", path, *good, "--workers", 2, *out): "are for a folder of studies",
        ("segment", path, "--prompts", bad, *out): "line 2: the box 5,5,1,9 is empty",
        ("segment", path, *good, "--prompts", table, *out): "not both",
        ("segment", path, "--prompts", table, *out): "has no row of the name ct.nii",
        ("segment", path, *good, "--series", 2, *out): "one file, which has no series",
        ("segment", studies, "--prompts", table, "-o", path): "cannot be written",
        ("segment", studies, *good, *out): "holds no",
        ("segment", tmp_path / "none.nii", *good, *out): "There is no file",
    }
    for number, (arguments, words) in enumerate(cases.items()):
        done = (dfqsam if number else in_a_process)(*arguments)  # once as a person starts it, then in this process
        assert done.returncode == 2, (arguments, done.stdout)
        assert words in done.stderr, done.stderr
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "m.nii.gz").exists()
