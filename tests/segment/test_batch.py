"""Folders of studies: resumed, side by side, with bad studies among them. The model is a threshold here."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pydicom
import pytest

from dfqsam.assets import shipped_bundle
from dfqsam.errors import InputError
from dfqsam.imaging import open_study, read_picture, read_study_mask
from dfqsam.segment import Prompt
from dfqsam.segment import batch as batch_module
from dfqsam.segment.batch import segment_folder
from dfqsam.segment.job import Settings
from dfqsam.segment.journal import Journal
from tests.imaging.made import folder, nifti, placed
from tests.segment.fake import start_fake
from tests.segment.shapes import tube

nib = pytest.importorskip("nibabel")
MASK = tube((4, 20, 22), 9, 10, 4)
STACK = np.where(MASK, 200, 0).astype(np.uint8)
BOX = (6.0, 5.0, 15.0, 14.0)


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    monkeypatch.setattr(batch_module.jobs, "start_worker", start_fake)


@pytest.fixture
def studies(tmp_path):
    """Two NIfTI volumes, a DICOM series and a picture, and a box in each."""
    root = tmp_path / "studies"
    (root / "b").mkdir(parents=True)
    nifti(root / "a.nii.gz", STACK.T, np.eye(4))
    nifti(root / "b" / "a.nii", STACK.T, np.eye(4))
    folder(root / "series", placed(STACK.astype(np.uint16)))
    cv2.imwrite(str(root / "p.png"), STACK[0])
    stored = [Prompt(BOX, 1, "stored")]
    return root, {"a.nii.gz": stored, "b/a.nii": stored, "series": stored, "p.png": [Prompt(BOX)]}


def run(studies, output, **options):
    root, prompts = studies
    return segment_folder(shipped_bundle(), root, prompts, output, **options)


def written(output):
    found = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    assert not (output / ".work").exists()
    return found


def test_every_study_gets_its_mask_as_it_is_kept(studies, tmp_path):
    out, sheets = tmp_path / "out", tmp_path / "sheets"
    report = run(studies, out, settings=Settings(overlay=True), overlays=sheets)
    assert report.failed == report.before == report.notes == []
    masks = {"a_mask.nii.gz", "b/a_mask.nii.gz", "series_mask.dcm", "p_mask.png"}
    assert written(out) == {*masks, "journal.jsonl", "volumes.csv"}
    assert written(sheets) == {"a_overlay.png", "b/a_overlay.png", "series_overlay.png", "p_overlay.png"}
    for name in ("a_mask.nii.gz", "b/a_mask.nii.gz"):
        np.testing.assert_array_equal(np.asanyarray(nib.load(out / name).dataobj), MASK.T)
    np.testing.assert_array_equal(read_picture(out / "p_mask.png")[..., 0] > 0, MASK[0])
    rows = (out / "volumes.csv").read_text().splitlines()
    assert rows[0] == "study,label,name,voxels,ml,mask,covered_voxels"
    assert rows[1] == f"a.nii.gz,1,,{MASK.sum()},{MASK.sum() / 1000},a_mask.nii.gz,0"
    assert rows[3] == f"series,1,,{MASK.sum()},{MASK.sum() * 2.5 * 0.75 * 0.5 / 1000},series_mask.dcm,0"
    assert rows[4] == "p.png,1,,81,,p_mask.png,0"


def test_what_is_done_is_not_done_again(studies, tmp_path):
    run(studies, tmp_path)
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in written(tmp_path) - {"volumes.csv"}}
    again = run(studies, tmp_path)
    assert (again.done, again.failed, len(again.before)) == ([], [], 4)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in before} == before


def test_other_prompts_settings_or_files_are_done_anew_and_only_those(studies, tmp_path):
    root, prompts = studies
    run(studies, tmp_path)
    prompts["a.nii.gz"] = [Prompt(BOX, 2, "stored", last=2)]
    cv2.imwrite(str(root / "p.png"), STACK[1] // 2 + 60)
    again = run(studies, tmp_path)
    assert {record["study"] for record in again.done} == {"a.nii.gz", "p.png"}
    assert np.asanyarray(nib.load(tmp_path / "a_mask.nii.gz").dataobj).any(axis=(0, 1)).tolist() == [True] * 3 + [False]
    assert len(run(studies, tmp_path, settings=Settings(overlay=True)).done) == 4
    (tmp_path / "a_overlay.png").unlink()
    (tmp_path / "p_mask.png").unlink()
    again = run(studies, tmp_path, settings=Settings(overlay=True))
    assert {record["study"] for record in again.done} == {"a.nii.gz", "p.png"}


def test_another_bundle_is_done_anew(studies, tmp_path, monkeypatch):
    run(studies, tmp_path)
    other = SimpleNamespace(manifest=SimpleNamespace(sha256="f" * 64))
    monkeypatch.setattr(batch_module, "open_bundle", lambda path: other)
    again = run(studies, tmp_path)
    assert {record["bundle"] for record in again.done} == {"f" * 64}
    assert len(again.done) == 4


def test_a_mask_that_somebody_corrected_is_never_lost(studies, tmp_path):
    _, prompts = studies
    run(studies, tmp_path)
    corrected = tmp_path / "p_mask.png"
    cv2.imwrite(str(corrected), STACK[0] // 2)
    kept = corrected.read_bytes()
    same = run(studies, tmp_path)
    assert same.notes == [f"{corrected} was changed since it was written, and is left as it is."]
    assert (same.done, len(same.before)) == ([], 4)
    prompts["p.png"] = [Prompt(BOX, label=2)]
    other = run(studies, tmp_path)
    assert other.failed == [
        ("p.png", f"{corrected} is there and not as this batch wrote it; move it away, or choose another folder.")
    ]
    assert corrected.read_bytes() == kept


def test_a_bad_study_does_not_stop_the_others(studies, tmp_path):
    root, prompts = studies
    (root / "text.nii").write_text("no volume")
    for name, corner in (("deadly.png", 255), ("strange.png", 254)):
        picture = STACK[0].copy()
        picture[0, 0] = corner
        cv2.imwrite(str(root / name), picture)
    bad = {"none.nii": [Prompt(BOX, 0)], "text.nii": [Prompt(BOX, 0)], "deadly.png": [Prompt(BOX)]}
    bad |= {"strange.png": [Prompt(BOX)], "b": [Prompt((0, 0, 99, 9), 0, "stored", origin="b.csv, line 9")]}
    report = run((root, {**bad, **prompts}), tmp_path / "out", workers=2)
    assert {record["study"] for record in report.done} == set(prompts)
    failed = dict(report.failed)
    assert set(failed) == set(bad)
    assert failed["none.nii"].startswith("There is no file or folder")
    assert "no NIfTI" in failed["text.nii"]
    assert failed["deadly.png"].endswith("ended the process that read it, perhaps for lack of memory.")
    assert failed["strange.png"].endswith("failed with an unexpected RuntimeError; report it as a defect.")
    assert all("\n" not in text for text in failed.values())
    mended = STACK[0].copy()
    cv2.imwrite(str(root / "deadly.png"), mended)
    again = run((root, {**bad, **prompts}), tmp_path / "out")
    assert [record["study"] for record in again.done] == ["deadly.png"]


def test_workers_give_what_one_gives(studies, tmp_path):
    one, many = tmp_path / "one", tmp_path / "many"
    run(studies, one)
    run(studies, many, workers=3)
    assert written(one) == written(many)
    for name in written(one) - {"journal.jsonl", "series_mask.dcm"}:  # DICOM has new identifiers in every file
        assert (one / name).read_bytes() == (many / name).read_bytes(), name


def test_neither_journal_nor_report_names_a_patient(studies, tmp_path):
    report = run(studies, tmp_path)
    text = (tmp_path / "journal.jsonl").read_text() + (tmp_path / "volumes.csv").read_text() + repr(report)
    for secret in ("Test", "Name", "4711", "19000101", "ACC-12", "20000101", "1.2.3"):
        assert secret not in text
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert {line["study"] for line in lines} == set(studies[1])
    assert all(len(line["bundle"]) == len(line["work"]) == len(line["mask_sha256"]) == 64 for line in lines)


def test_a_torn_line_and_leftovers_of_an_ended_run_are_done_again(studies, tmp_path):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    run(studies, whole)
    shutil.copytree(whole, torn)
    journal = torn / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    last = json.loads(lines[-1])
    (torn / last["mask"]).unlink()  # the journal comes first, so a mask without its line is nobody's
    (torn / ".work").mkdir()
    (torn / ".work" / "0.nii.gz").write_bytes(b"half")
    again = run(studies, torn)
    assert [record["study"] for record in again.done] == [last["study"]]
    assert written(torn) == written(whole)
    for name in written(whole) - {"journal.jsonl", "series_mask.dcm"}:
        assert (whole / name).read_bytes() == (torn / name).read_bytes(), name
    # Ended between the journal's line and the mask's move: the line is there and the mask is not.
    (torn / "a_mask.nii.gz").unlink()
    assert [record["study"] for record in run(studies, torn).done] == ["a.nii.gz"]


def test_a_file_that_is_not_ours_is_not_replaced(studies, tmp_path):
    (tmp_path / "p_mask.png").write_bytes(b"mine")
    report = run(studies, tmp_path)
    assert [study for study, _ in report.failed] == ["p.png"]
    assert (tmp_path / "p_mask.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("prompts", "options", "words"),
    [
        ({"a.nii": [], "a.nii.gz": []}, {}, "The masks of a.nii and a.nii.gz would have one name"),
        ({"a.png": [], "A.jpg": []}, {}, "The masks of a.png and A.jpg would have one name"),
        ({}, {"workers": 0}, "0 workers"),
        ({}, {"settings": Settings(ending=".tif")}, "The ending '.tif' is none of"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_work(tmp_path, prompts, options, words):
    with pytest.raises(InputError, match=words):
        segment_folder(shipped_bundle(), tmp_path, prompts, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_outputs_and_folders_in_each_others_way_are_refused(studies, tmp_path):
    root, prompts = studies
    with pytest.raises(InputError, match="lies inside of the study series"):
        run(studies, root / "series" / "out")
    with pytest.raises(InputError, match="is no folder of studies"):
        segment_folder(shipped_bundle(), root / "p.png", prompts, tmp_path)
    with Journal(tmp_path / "out"), pytest.raises(InputError, match="Another run writes into"):
        run(studies, tmp_path / "out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "journal.jsonl").write_text("a diary\n")
    with pytest.raises(InputError, match="no journal of a batch"):
        run(studies, tmp_path / "other")


def test_a_worker_goes_when_its_parent_is_gone(tmp_path):
    """The parent is ended in the hard way; what it started must not go on writing beside the next run."""
    code = """
import multiprocessing, sys, time
from dfqsam.segment import job
from tests.segment.fake import start_fake
def child(path):
    start_fake(sys.argv[1], 1, False)
    open(path, "w").write(str(__import__("os").getpid()))
    time.sleep(60)
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=child, args=(sys.argv[2],))
    process.start()
    process.join()
"""
    script = tmp_path / "parent.py"
    script.write_text(code)
    told = tmp_path / "pid"
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    parent = subprocess.Popen([sys.executable, str(script), str(shipped_bundle()), str(told)], env=paths)
    deadline = time.monotonic() + 60
    while not (told.exists() and told.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child = int(told.read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while time.monotonic() < deadline:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the worker is still there")


def test_of_several_series_one_is_chosen_for_all_or_for_each(studies, tmp_path):
    root, prompts = studies
    other = placed((STACK // 2).astype(np.uint16), SeriesInstanceUID="1.2.3.9", SeriesNumber=2)
    for number, made in enumerate(other):
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.9.{number + 1}"
    folder(root / "two" / "b", other)
    folder(root / "two" / "a", placed(STACK.astype(np.uint16)))
    wide = {"two": [Prompt(BOX, 1, "stored")], "a.nii.gz": prompts["a.nii.gz"]}
    with pytest.raises(InputError, match="holds 2 series; choose one by its number: 1: CT, 4 of 22 x 20; 2: CT, 4 of"):
        open_study(root / "two")  # what a batch says of it, too
    first = run((root, wide), tmp_path / "out", series=1)
    assert (len(first.done), first.failed) == (2, [])  # the NIfTI file has no series, and needs none
    study = open_study(root / "two", 1)
    np.testing.assert_array_equal(read_study_mask(tmp_path / "out" / "two_mask.dcm", study), MASK)
    second = run((root, wide), tmp_path / "out", series=1, choices={"two": 2})
    assert [record["study"] for record in second.done] == ["two"]
    assert [record["study"] for record in second.before] == ["a.nii.gz"]
    written = pydicom.dcmread(tmp_path / "out" / "two_mask.dcm")
    assert written.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.9"
