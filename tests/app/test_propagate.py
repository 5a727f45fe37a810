"""Propagation in the viewer: the same masks as the command line's, stopped, kept, corrected, counted and saved."""

import gc
import gzip
import threading
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from dfqsam.app import agreement, save, whole
from dfqsam.app.compare import Pair
from dfqsam.app.models import Answer, Library, Model
from dfqsam.app.prompts import Target
from dfqsam.app.propagate import Job
from dfqsam.app.session import Work
from dfqsam.app.settings import Settings
from dfqsam.app.stack import Counted, Start, count, labels_of
from dfqsam.errors import InputError
from dfqsam.imaging import Volume, millilitres, voxel_millilitres
from dfqsam.runtime import Predictor
from dfqsam.segment import Prompt, Stop, segment_study
from tests.evaluate.world import SIDE, toy_bundle

AFFINE = np.array([[0, 0, -0.5, 3], [0, -0.75, 0, 4], [2.5, 0, 0, 5], [0, 0, 0, 1]])
BOX, OTHER = (20.0, 22.0, 44.0, 46.0), (2.0, 3.0, 16.0, 15.0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return toy_bundle(tmp_path_factory.mktemp("toy") / "bundle", 3)


@pytest.fixture
def choice(bundle):
    return Library(Settings((bundle.path,))).choices["Toy w8a8"]


def volume(slices: int = 9) -> Volume:
    """Bright in the middle of the stack, dark at its ends, so that the toy's shrinking differs from slice to slice."""
    level = 255 - 40 * np.abs(np.arange(slices) - slices // 2)
    array = np.broadcast_to(level[:, None, None], (slices, SIDE, SIDE)).astype(np.int16).copy()
    array[:, 0, 0], array[:, 0, 1] = 0, 255
    return Volume(array, (2.5, 0.75, 0.5), AFFINE, "MR")


def drawn(work: Work, k: int, *boxes) -> None:
    objects = [{"box": list(box), "points": []} for box in boxes]
    work.take({"epoch": work.epoch(k), "revision": 1, "objects": objects, "selected": len(boxes) - 1})


def propagated(work: Work, choice, window=None) -> Job:
    job = Job(choice, work.volume, work.plane, window, whole.starts(work, whole.stack_of(work, choice)))
    work.follow(job)
    assert job.wait(30)
    work.finish()
    assert work.trouble == ""
    return job


def labels(work: Work, choice, full: bool) -> np.ndarray:
    return save.labelled(work.volume, work.view, whole.masks(work, choice, None, full))


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_both_masks_are_those_of_the_command_line(choice, bundle, plane):
    study = volume(SIDE)  # a cube, so that boxes lie in every plane
    work = Work("v", study)
    work.plane = plane
    drawn(work, 30, BOX, OTHER)
    job = propagated(work, choice)
    prompts = [Prompt(box, 30, plane, label) for label, box in ((1, BOX), (2, OTHER))]
    for full in (False, True):
        expected = segment_study(Predictor(bundle, full_precision=full), study, prompts)
        assert np.array_equal(labels(work, choice, full), expected.mask)
        ends = [end for end in job.stack.ends if end.full == full]
        assert [(end.first, end.last, end.below, end.above) for end in ends] == [
            (one.first, one.last, one.below, one.above) for one in expected.found
        ]
    counted = whole.totals(whole.counts(work, choice, None))
    for full, name in ((False, "ml"), (True, "full_ml")):
        mask = labels(work, choice, full)
        alone = segment_study(Predictor(bundle, full_precision=full), study, prompts[:1]).mask == 1
        assert getattr(counted[1], name) == pytest.approx(millilitres(study, alone))
        assert getattr(counted[2], name) == pytest.approx(millilitres(study, mask == 2))


def test_the_toy_is_followed_as_worked_out_by_hand(choice):
    """Full precision fills a box and the pixel at its end; the next box is 2 pixels wider on each side."""
    work = Work("v", volume())
    drawn(work, 4, BOX)
    propagated(work, choice)
    mask = labels(work, choice, full=True)
    for k in range(9):
        j = abs(k - 4)
        expected = np.zeros((SIDE, SIDE), bool)
        expected[22 - 2 * j : 47 + 3 * j, 20 - 2 * j : 45 + 3 * j] = True
        assert np.array_equal(mask[k] == 1, expected)
    voxels = sum((25 + 5 * abs(k - 4)) ** 2 for k in range(9))
    total = whole.totals(whole.counts(work, choice, None))[1]
    assert (total.full_voxels, total.full_slices) == (voxels, 9)
    assert total.full_ml == pytest.approx(voxels * 2.5 * 0.75 * 0.5 / 1000)
    quantized = labels(work, choice, full=False) == 1
    assert total.dice == pytest.approx(2 * (quantized & (mask == 1)).sum() / (quantized.sum() + voxels))


def test_stopping_keeps_what_both_models_have_done_or_drops_it(choice, monkeypatch):
    real, asked = Model.embedding, []

    def slowed(self, picture, urgent=True, spare=False):
        if spare:
            asked.append(self)
            if len(asked) == 6:  # three slices on, by both models
                work.job.stop(keep)
        return real(self, picture, urgent, spare)

    monkeypatch.setattr(Model, "embedding", slowed)
    for keep in (True, False):
        asked.clear()
        work = Work("v", volume(11))
        drawn(work, 2, BOX)
        propagated(work, choice)
        stack = work.stacks.get(("Toy w8a8", work.plane))
        if not keep:
            assert stack is None
            continue
        assert stack.stopped
        assert sorted(stack.quantized) == sorted(stack.full) == [2, 3, 4, 5]
        assert {(end.below, end.above) for end in stack.ends} == {(None, None)}
        assert "it was stopped" in agreement.ends(stack.ends)[0]


def test_progress_runs_to_the_end(choice, monkeypatch):
    seen = []
    work = Work("v", volume())
    drawn(work, 6, BOX)
    real = Model.embedding

    def watched(self, *arguments, **keywords):
        if work.job is not None:
            seen.append(work.job.progress)
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(Model, "embedding", watched)
    job = propagated(work, choice)
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert job.progress == 1


def test_what_goes_wrong_is_one_sentence_and_the_masks_before_stay(choice, monkeypatch):
    work = Work("v", volume())
    drawn(work, 4, BOX)
    propagated(work, choice)
    before = whole.stack_of(work, choice)

    def broken(self, picture, urgent=True, spare=False):
        raise (InputError("No picture.") if work.number else ValueError("secret"))

    monkeypatch.setattr(Model, "embedding", broken)
    for number, words in ((0, "unexpected ValueError"), (1, "No picture.")):
        work.number = number
        job = Job(choice, work.volume, work.plane, None, [Start(4, 1, Target((1.0, 1.0, 30.0, 30.0)))])
        work.follow(job)
        assert job.wait(20)
        work.finish()
        assert words in work.trouble
        assert "secret" not in work.trouble
        assert work.stacks["Toy w8a8", work.plane] is before


def test_closing_the_study_ends_its_propagation(choice, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()
    real = Model.embedding

    def held(self, *arguments, **keywords):
        begun.set()
        assert go_on.wait(10)
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(Model, "embedding", held)
    work = Work("v", volume(60))
    drawn(work, 30, BOX)
    job = Job(choice, work.volume, work.plane, None, whole.starts(work, None))
    work.follow(job)
    assert begun.wait(10)
    del work
    gc.collect()
    go_on.set()
    assert job.wait(20)
    assert job.stack is None
    assert job.progress < 0.2


def test_a_box_on_another_slice_corrects_the_object_it_lies_on(choice):
    work = Work("v", volume())
    drawn(work, 4, BOX, OTHER)
    propagated(work, choice)
    stack = whole.stack_of(work, choice)
    box = (1.0, 2.0, 17.0, 18.0)
    drawn(work, 6, box)  # on the second object
    assert labels_of(stack, 6, work.drawn(6).targets) == [2]
    mask = labels(work, choice, full=True)
    expected = np.zeros((SIDE, SIDE), bool)
    expected[2:19, 1:18] = True
    assert np.array_equal(mask[6] == 2, expected)
    assert (mask[6] == 1).any()
    assert (mask[5] == 2).any()
    assert "Boxes have changed" in whole.why_stale(work, stack, None)
    # Another one beside it is new; both together are told apart whatever their order.
    drawn(work, 6, (50.0, 50.0, 60.0, 60.0), box)
    assert labels_of(stack, 6, work.drawn(6).targets) == [3, 2]
    # Propagated again, the correction holds for its half, and nothing is stale.
    drawn(work, 6, box)
    propagated(work, choice)
    again = whole.stack_of(work, choice)
    assert {(start.k, start.label) for start in again.starts} == {(4, 1), (4, 2), (6, 2)}
    assert whole.why_stale(work, again, None) == ""
    assert {end.above for end in again.ends if end.start.k == 4 and end.start.label == 2} == {Stop.PROMPT}


def test_an_object_that_is_removed_takes_the_propagated_masks_away_and_undo_brings_them_back(choice):
    work = Work("v", volume())
    drawn(work, 4, BOX, OTHER)
    propagated(work, choice)
    drawn(work, 4, OTHER)
    assert whole.stack_of(work, choice) is None
    assert list(whole.masks(work, choice, None)) == [4]
    drawn(work, 4, BOX, OTHER)
    stack = whole.stack_of(work, choice)
    assert len(whole.masks(work, choice, None)) == 9
    drawn(work, 4, BOX, OTHER, (30.0, 2.0, 40.0, 9.0))  # one more
    assert labels_of(stack, 4, work.drawn(4).targets) == [1, 2, 3]
    assert max(whole.totals(whole.counts(work, choice, None))) == 3


def test_another_window_is_said_and_the_masks_stay(choice):
    work = Work("v", volume())
    drawn(work, 4, BOX)
    propagated(work, choice, work.volume.window())
    stack = whole.stack_of(work, choice)
    assert whole.why_stale(work, stack, work.volume.window()) == ""
    narrow = replace(work.volume.window(), width=50.0)
    assert "window has changed" in whole.why_stale(work, stack, narrow)
    assert len(whole.masks(work, choice, narrow)) == 9


def test_the_whole_volume_is_saved(choice):
    work = Work("v", volume())
    drawn(work, 4, BOX, OTHER)
    propagated(work, choice)
    masks = whole.masks(work, choice, None)
    data = save.file_bytes("NIfTI", work.volume, work.view, masks, 4)
    image = nib.Nifti1Image.from_bytes(gzip.decompress(data))
    stored = np.asarray(image.dataobj).transpose(2, 1, 0)
    assert np.array_equal(stored, labels(work, choice, False))
    assert all((stored[k] == 1).any() for k in range(9))
    zooms = np.prod(image.header.get_zooms())
    everything = whole.totals(whole.counts(work, choice, None))
    for label in (1, 2):
        assert everything[label].ml == pytest.approx((stored == label).sum() * zooms / 1000)


def test_without_a_full_precision_model_one_model_is_followed(tmp_path):
    choice = Library(Settings((toy_bundle(tmp_path / "b", 3, full=False).path,))).choices["Toy w8a8"]
    work = Work("v", volume())
    drawn(work, 4, BOX)
    propagated(work, choice)
    counts = whole.counts(work, choice, None)
    total = whole.totals(counts)[1]
    assert (total.full_voxels, total.dice) == (None, None)
    assert agreement.worst(counts) is None
    assert len(agreement.chart(counts, 0.375, 4, 9)["rows"]) == 1
    assert "full" not in agreement.table({1: total}, total)
    with pytest.raises(InputError, match="no full-precision"):
        whole.masks(work, choice, None, full=True)


@pytest.mark.parametrize("plane", ["stored", "axial", "coronal", "sagittal"])
def test_millilitres_counted_by_slice_are_those_of_the_volume_also_where_steps_differ(plane):
    rng = np.random.default_rng(4)
    study = Volume(np.zeros((5, 6, 7), np.int16), (3.0, 0.75, 0.5), AFFINE, positions=(0.0, 1.0, 3.0, 7.0, 12.0))
    view = study.view(plane)
    mask = rng.random(study.shape) < 0.4
    voxels = voxel_millilitres(study)
    slices = [view.show(np.take(mask, k, axis=view.axis)) for k in range(view.count)]
    nothing = [Pair(Answer(one, 0, 0), Answer(np.zeros_like(one), 0, 0)) for one in slices]
    found = [count(view, voxels, k, pair) for k, pair in enumerate(nothing)]
    assert sum(one.ml for one in found) == pytest.approx(millilitres(study, mask))
    assert sum(one.quantized for one in found) == mask.sum()
    assert all(one.full_ml == 0 and one.common == 0 for one in found)


def test_the_chart_shows_every_slice_and_names_the_worst():
    counts = {
        3: {1: Counted(100, 100, 100, 1.0, 1.0)},
        4: {1: Counted(100, 80, 70, 1.0, 0.8), 2: Counted(20, 20, 10, 0.2, 0.2)},
        5: {1: Counted(0, 50, 0, 0.0, 0.5)},
    }
    assert agreement.worst(counts) == (5, 0.0)
    chart = agreement.chart(counts, 0.5, 4, 7)
    dice, area = chart["rows"]
    assert dice["series"][0]["values"] == [1.0, round(160 / 220, 4), 0.0]
    assert dice["low"] == 0.0
    assert [one["values"] for one in area["series"]] == [[50.0, 50.0, 25.0], [50.0, 60.0, 0.0]]
    assert (chart["slices"], chart["first"], chart["last"]) == ([3, 4, 5], 2, 6)
    total = whole.total([one for here in counts.values() for one in here.values()])
    assert total.dice == pytest.approx(2 * 180 / (220 + 250))
    assert total.ml == pytest.approx(2.2)
    assert agreement._change(total) == "-12.0 %"


def test_propagation_pushes_nothing_out_of_the_cache(bundle):
    library = Library(Settings((bundle.path,)), limit=3 * 16 * 16 * 4)
    choice = library.choices["Toy w8a8"]
    work = Work("v", volume())
    drawn(work, 4, BOX)
    picture = work.volume.picture(4, work.view)
    work.answers(choice, 4, picture, None)
    kept = set(library.cache._kept)
    propagated(work, choice)
    assert kept <= set(library.cache._kept)
    assert library.cache.bytes <= library.cache.limit
