"""Prompts that come from a browser, what becomes of them, and the files that leave."""

import gzip
import io
import os
import tempfile
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.app import cards, display, save
from dfqsam.app.models import Library
from dfqsam.app.prompts import Prompts, Target, parse
from dfqsam.app.samples import SAMPLES, icon
from dfqsam.app.session import Work
from dfqsam.app.settings import Settings
from dfqsam.errors import DfqsamError, InputError
from dfqsam.imaging import Volume, open_study, open_uploads
from tests.evaluate.world import SIDE, toy_bundle
from tests.imaging import made


@pytest.fixture
def choice(tmp_path):
    return Library(Settings((toy_bundle(tmp_path / "bundle", 2).path,))).choices["Toy w8a8"]


def document(epoch: str, *boxes, revision: int = 1) -> dict:
    objects = [{"box": list(box), "points": []} for box in boxes]
    return {"epoch": epoch, "revision": revision, "objects": objects, "selected": len(boxes) - 1}


def volume() -> Volume:
    """White, 4 slices of 64 x 64, in the patient."""
    affine = np.array([[0, 0, -0.5, 3], [0, -0.75, 0, 4], [2.5, 0, 0, 5], [0, 0, 0, 1]])
    return Volume(np.full((4, SIDE, SIDE), 200, np.int16), (2.5, 0.75, 0.5), affine, "MR")


def test_what_the_component_sends_is_understood():
    sent = {
        "objects": [
            {"box": [1, 2, 30, 40], "points": []},
            {"box": None, "points": [{"x": 3.5, "y": 4, "label": 1}, {"x": 5, "y": 6, "label": 0}]},
        ],
        "selected": 0,
        "revision": 7,
    }
    found = parse(sent, (50, 60))
    assert found == Prompts((Target((1, 2, 30, 40)), Target(None, ((3.5, 4.0, 1), (5.0, 6.0, 0)))), 0, 7)
    assert parse({**found.document(), "selected": 1}, (50, 60)).targets == found.targets


@pytest.mark.parametrize(
    "box", [[1, 2, 3], [0, 0, 61, 5], [5, 5, 5, 9], ["a", 0, 1, 1], [float("nan"), 0, 1, 1], [-1, 0, 5, 5], {}, 3]
)
def test_boxes_that_are_none_are_refused(box):
    with pytest.raises(InputError):
        parse({"objects": [{"box": box, "points": []}], "selected": 0, "revision": 1}, (50, 60))


def test_more_than_a_person_draws_is_refused():
    one = {"box": [0, 0, 9, 9], "points": []}
    with pytest.raises(InputError, match="limit is 50"):
        parse({"objects": [one] * 51, "selected": 0, "revision": 1}, (50, 60))
    many = {"box": None, "points": [{"x": 1, "y": 1, "label": 1}] * 201}
    with pytest.raises(InputError, match="limit is 200"):
        parse({"objects": [many], "selected": 0, "revision": 1}, (50, 60))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["objects", "box", "points", "x", "y", "label", "selected", "revision"]), inner
        )
    ),
    max_leaves=12,
)


@given(ANYTHING)
def test_whatever_a_browser_sends_is_prompts_or_one_sentence(sent):
    try:
        found = parse(sent, (50, 60))
    except DfqsamError:
        return
    assert isinstance(found, Prompts)
    assert all(0 <= x0 < x1 <= 60 and 0 <= y0 < y1 <= 50 for x0, y0, x1, y1 in (t.box for t in found.targets if t.box))


def test_prompts_belong_to_the_slice_and_study_they_were_drawn_on(choice):
    work = Work("a", volume(), 3)
    work.take(document("3/axial/1", (5, 5, 20, 20)))
    work.take(document("2/axial/2", (5, 5, 20, 20)))  # of the study before
    for epoch in ("3/axial/9", "3/axial/x", "3/elsewhere/1", "3/axial", None, 7, "3/axial/²"):
        work.take({**document("", (5, 5, 20, 20)), "epoch": epoch})
    assert list(work.prompts) == [("axial", 1)]
    assert work.epoch(1) == "3/axial/1"
    assert work.drawn(1).targets == (Target((5, 5, 20, 20)),)
    assert work.drawn(2) == Prompts()


def test_a_slice_that_is_asked_for_is_one_of_the_plane_that_is_shown(choice):
    work = Work("a", volume(), 3)
    first, count = work.at, work.view.count
    assert first == count // 2
    for wrong in (-1, count, True, 1.0, "1", None, [1]):
        work.go(wrong)
    assert (work.at, work.moves) == (first, 0)
    work.go(0)
    assert (work.at, work.moves) == (0, 1)
    work.plane = "coronal"
    assert work.at == work.view.count // 2  # each plane is where it was left
    assert work.shows("3/coronal/1")
    for other in ("3/axial/1", "2/coronal/1", "coronal", None, 3):
        assert not work.shows(other)
    work.plane = "axial"
    assert work.at == 0


def test_only_what_changed_is_computed_and_another_window_computes_anew(choice, monkeypatch):
    asked = []
    from dfqsam.app import session

    def counted(*arguments):
        asked.append(arguments[2])
        return real(*arguments)

    real = session.segment
    monkeypatch.setattr(session, "segment", counted)
    work = Work("a", volume())
    window = work.volume.window()
    picture = work.volume.picture(1, work.view, window)
    one, two, three = (5, 5, 20, 20), (30, 30, 50, 50), (30, 30, 52, 50)
    work.take(document("0/axial/1", one, two))
    first = work.answers(choice, 1, picture, window)
    work.take(document("0/axial/1", one, three))
    work.answers(choice, 1, picture, window)
    assert asked == [Target(one), Target(two), Target(three)]
    again = work.answers(choice, 1, picture, window)
    assert np.array_equal(again[0].full.mask, first[0].full.mask)
    assert len(asked) == 3
    work.answers(choice, 1, picture, work.volume.window("percentiles"))
    assert len(asked) == (3 if work.volume.window("percentiles") == window else 5)


def drawn_on(work: Work, *slices: int) -> None:
    for k in slices:
        work.take(document(f"{work.number}/{work.plane}/{k}", (10, 12, 40, 32), (44, 40, 60, 60)))


def test_a_mask_leaves_as_nifti_exactly_where_it_was_drawn(choice, tmp_path):
    data = np.zeros((SIDE, SIDE, 4), np.int16) + 90
    source = made.nifti(tmp_path / "v.nii", data, made.nifti_affine(made.orientations()[5]))
    work = Work("v", open_study(source))
    drawn_on(work, 0, 2)
    view = work.view
    masks = work.all_masks(choice, None)
    out = save.file_bytes("NIfTI", work.volume, view, masks, 0)
    image = nib.Nifti1Image.from_bytes(gzip.decompress(out))
    assert np.array_equal(image.affine, nib.load(source).affine)
    assert image.shape == (SIDE, SIDE, 4)
    stored = np.asarray(image.dataobj)
    assert sorted(np.unique(stored)) == [0, 1, 2]
    back = work.volume.empty_mask()
    for k, objects in masks.items():
        for label, mask in enumerate(objects, start=1):
            work.volume.put(back, k, view, mask, label)
    assert np.array_equal(stored.transpose(2, 1, 0), back)
    assert (stored == 1).sum() == 2 * masks[0][0].sum()


def test_a_mask_leaves_as_dicom_seg_and_png(choice, tmp_path):
    series = made.placed(np.full((3, SIDE, SIDE), 90, np.uint16))
    work = Work("d", open_uploads({f"{k}.dcm": made.written(one) for k, one in enumerate(series)}))
    assert save.kinds(work.volume) == ["DICOM SEG", "NIfTI", "PNG of this slice"]
    assert work.planes == ["stored", "axial", "coronal", "sagittal"]
    drawn_on(work, 1)
    masks = work.all_masks(choice, None, full=True)
    seg = pydicom.dcmread(io.BytesIO(save.file_bytes("DICOM SEG", work.volume, work.view, masks, 1)))
    assert seg.Modality == "SEG"
    assert {
        str(item.ReferencedSOPInstanceUID) for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    } >= {str(series[1].SOPInstanceUID)}
    png = cv2.imdecode(
        np.frombuffer(save.file_bytes("PNG of this slice", work.volume, work.view, masks, 1), np.uint8), -1
    )
    assert np.array_equal(png == 255, masks[1][0] | masks[1][1])
    empty = save.file_bytes("PNG of this slice", work.volume, work.view, masks, 0)
    assert not cv2.imdecode(np.frombuffer(empty, np.uint8), -1).any()


def test_saving_leaves_no_file_behind(choice, tmp_path, monkeypatch):
    (memory := tmp_path / "memory").mkdir()
    monkeypatch.setattr(save, "MEMORY", memory)
    work = Work("a", volume())
    drawn_on(work, 1)
    for kind in save.kinds(work.volume):
        assert save.file_bytes(kind, work.volume, work.view, work.all_masks(choice, None), 1)
    assert os.listdir(memory) == []
    assert not list(Path(tempfile.gettempdir()).glob("dfqsam-*"))


def test_a_picture_has_one_plane_and_is_saved_as_png(choice):
    work = Work("p", Volume(np.full((1, SIDE, SIDE, 3), 255, np.uint8)))
    assert work.planes == ["stored"]
    assert save.kinds(work.volume) == ["PNG of this slice"]


def test_the_scene_holds_masks_aspect_letters_and_prompts(choice):
    work = Work("a", volume())
    drawn_on(work, 1)
    picture = work.volume.picture(1, work.view)
    pairs = work.answers(choice, 1, picture, None)
    shown = display.panels(pairs, True, "Quantized (w8a8)")
    scene = display.scene(picture, work.view, 1, work.epoch(1), work.drawn(1), shown, display.Look(), ("box",))
    assert [panel["title"] for panel in scene["panels"]] == ["Full precision", "Quantized (w8a8)", "Difference"]
    assert scene["aspect"] == 1.5
    assert scene["mm"] == 0.5
    assert scene["sides"] == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    assert scene["slice"] == {"index": 1, "count": 4}
    assert (scene["boxes"], scene["points"]) == (True, False)
    both, only_full, only_quantized = shown[2]["layers"]
    full = pairs[0].full.mask | pairs[1].full.mask
    quantized = pairs[0].quantized.mask | pairs[1].quantized.mask
    assert both["runs"] == display.runs(full & quantized)
    assert only_full["runs"] == display.runs(full & ~quantized)
    assert only_quantized["runs"] == [SIDE * SIDE]
    assert len(display.panels(pairs, False, "Quantized (w8a8)")) == 1
    url = scene["picture"].split(",", 1)
    import base64

    assert np.array_equal(cv2.imdecode(np.frombuffer(base64.b64decode(url[1]), np.uint8), 0), picture[..., 0])


def test_large_pictures_are_reduced_for_the_eye_only():
    mask = np.zeros((1000, 4096), bool)
    mask[:500] = True
    small = display.reduced_mask(mask)
    assert small.shape == (500, 2048)
    assert np.array_equal(small, np.arange(500)[:, None] < np.full((1, 2048), 250))
    assert display.grid((500, 400)) == (500, 400)


def test_figures_escape_what_a_manifest_says(choice, monkeypatch):
    assert "For research use, not for diagnosis" in cards.banner(choice)
    assert choice.bundle.sha256[:12] in cards.banner(choice)
    manifest = choice.bundle.manifest
    from dataclasses import replace

    spoilt = replace(manifest, profile="<script>x</script>", model=replace(manifest.model, title="<b onload=x>"))
    monkeypatch.setattr(
        type(choice), "bundle", property(lambda self: replace(choice.quantized.bundle, manifest=spoilt))
    )
    assert "<script>" not in cards.banner(choice)
    assert "<b onload" not in cards.banner(choice)


def test_samples_are_drawn_and_the_same_each_time():
    for name, (_, draw) in SAMPLES.items():
        opened = draw()
        assert opened.picture(0).shape[2] == 3, name
        assert opened.picture(opened.shape[0] // 2).std() > 10
    assert SAMPLES["CT phantom"][1]().hounsfield
    assert save.kinds(SAMPLES["CT phantom"][1]()) == ["NIfTI", "PNG of this slice"]
    assert icon().shape == (64, 64, 3)
