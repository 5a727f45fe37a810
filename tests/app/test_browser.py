"""The viewer in a real browser, with the mouse: the toy model's masks are known by hand."""

import io
import os
import zipfile
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import pydicom
import pytest

from tests.app.browser import CHROMIUM, MISSING, Visitor, viewer
from tests.evaluate.world import SIDE, toy_bundle
from tests.imaging import made

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=MISSING)]
SHRINK = 3


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("viewer")


@pytest.fixture(scope="module")
def address(home):
    boxes = toy_bundle(home / "boxes", SHRINK)
    clicks = toy_bundle(home / "clicks", SHRINK, prompts=("box", "point"))
    (home / "studies" / "inner").mkdir(parents=True)
    made.folder(home / "studies" / "inner" / "series", made.placed(np.full((3, SIDE, SIDE), 700, np.uint16)))
    (home / "run").mkdir()
    with viewer(home / "run", "--bundle", boxes.path, "--bundle", clicks.path, "--studies", home / "studies") as found:
        yield found


@pytest.fixture
def visitor(browser, address):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    made = Visitor(context, address)
    yield made
    asked = [
        url for url in made.asked if not url.startswith((address, address.replace("http", "ws"), "data:", "blob:"))
    ]
    assert asked == [], "the page asked somebody else"
    assert made.faults == []
    context.close()


def white_nifti(path: Path) -> Path:
    """White, 64 x 64 x 5, pixels of 0.8 x 0.4 mm, with a black corner so that a window has two ends."""
    data = np.full((SIDE, SIDE, 5), 1000, np.int16)
    data[:2, :2] = 1
    return made.nifti(path, data, np.array([[-0.4, 0, 0, 9], [0, -0.8, 0, 7], [0, 0, 3, -4], [0, 0, 0, 1]]))


def expected(box, picture_mean: float) -> tuple[np.ndarray, np.ndarray]:
    """Full precision and quantized, as the toy model fills a box."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    depth = np.minimum.reduce([columns - box[0], box[2] - columns, rows - box[1], box[3] - rows]) + 0.5
    return depth > 0, depth - SHRINK * picture_mean > 1e-4


def check_figures(visitor: Visitor, full: np.ndarray, quantized: np.ndarray, pixel: float) -> None:
    dice = 2 * (full & quantized).sum() / (full.sum() + quantized.sum())
    assert visitor.figure("Agreement (Dice)") == f"{dice:.3f}"
    assert visitor.figure("Area, full precision") == f"{full.sum() * pixel:.1f} mm²"
    assert visitor.figure("Area, quantized") == f"{quantized.sum() * pixel:.1f} mm²"


def test_a_nifti_is_opened_a_box_drawn_and_corrected_and_the_mask_saved(visitor, tmp_path):
    path = white_nifti(tmp_path / "v.nii.gz")
    visitor.upload(path)
    start = visitor.settled()
    assert start["epoch"].endswith("/axial/2")
    assert start["transform"]["sy"] == pytest.approx(2 * start["transform"]["sx"])  # pixels are twice as high as wide
    visitor.drag((10, 12), (44, 40))
    state = visitor.settled(1)
    assert state["objects"] == [{"box": [10, 12, 44, 40], "points": []}]
    window = nib.load(path)
    brightness = 1 - 4 / SIDE**2  # the corner is black
    full, quantized = expected((10, 12, 44, 40), brightness)
    check_figures(visitor, full, quantized, 0.32)
    # The difference panel: green where both are, orange where full precision is alone, none outside.
    inside, rim, outside = (visitor.pixels(2, x, y) for x, y in ((30.5, 30.5), (11.5, 30.5), (55.5, 50.5)))
    for seen, colour, alpha in ((inside, (0, 158, 115), 0.45), (rim, (230, 159, 0), 0.95), (outside, (255,) * 3, 1)):
        assert np.allclose(seen, alpha * np.array(colour) + (1 - alpha) * 255, atol=3)
    # A handle: the lower right corner is taken and let go elsewhere.
    visitor.drag((44, 40), (52, 47))
    assert visitor.settled(2)["objects"] == [{"box": [10, 12, 52, 47], "points": []}]
    full, quantized = expected((10, 12, 52, 47), brightness)
    check_figures(visitor, full, quantized, 0.32)
    # A side, in the other panel.
    visitor.drag((10, 20), (6, 20), panel=1)
    assert visitor.settled(3)["objects"][0]["box"] == [6, 12, 52, 47]
    visitor.page.get_by_role("button", name="Undo").click()
    assert visitor.settled(4)["objects"][0]["box"] == [10, 12, 52, 47]
    saved = nib.load(visitor.download(tmp_path))
    assert np.array_equal(saved.affine, window.affine)
    assert saved.header.get_zooms() == window.header.get_zooms()
    mask = np.asarray(saved.dataobj)
    assert mask.shape == (SIDE, SIDE, 5)
    # Columns run to the patient's left as i does, rows to the back as j does: the picture is the transpose.
    assert np.array_equal(mask[:, :, 2].T, quantized)
    assert not np.delete(mask, 2, axis=2).any()


def test_slices_change_by_wheel_keys_and_slider_and_keep_their_boxes(visitor, tmp_path):
    visitor.upload(white_nifti(tmp_path / "v.nii"))
    number = visitor.settled()["epoch"].split("/")[0]
    visitor.drag((10, 12), (44, 40))
    visitor.settled(1)
    visitor.page.mouse.wheel(0, 100)
    assert visitor.settled(0, f"{number}/axial/3")["objects"] == []
    visitor.page.locator(".dq").press("ArrowUp")
    assert visitor.settled(1, f"{number}/axial/2")["objects"][0]["box"] == [10, 12, 44, 40]
    visitor.page.locator(".dq").press("Home")
    visitor.settled(0, f"{number}/axial/0")
    visitor.page.get_by_test_id("stMain").get_by_role("slider").press("ArrowRight")
    visitor.settled(0, f"{number}/axial/1")
    visitor.page.get_by_label("Plane").click()
    visitor.page.get_by_role("option", name="coronal").click()
    visitor.settled(0, f"{number}/coronal/32")


def test_a_slice_comes_though_the_whole_page_is_asked_for_in_the_same_moment(visitor, tmp_path):
    visitor.upload(white_nifti(tmp_path / "v.nii"))
    number, k = visitor.settled()["epoch"].split("/")[0], 2
    for turn in range(30):  # every other key is a slice up; a click in the side bar follows it at ever another distance
        k += 1 if turn % 2 else -1
        visitor.page.locator(".dq").press("ArrowDown" if turn % 2 else "ArrowUp")
        visitor.page.wait_for_timeout(40 + 4 * turn)
        visitor.page.get_by_role("radio", name=("fill", "contour")[turn % 2]).click()
        visitor.settled(0, f"{number}/axial/{k}")


def test_several_objects_zoom_and_the_keyboard(visitor, tmp_path):
    cv2.imwrite(str(tmp_path / "p.png"), np.full((SIDE, SIDE, 3), 255, np.uint8))
    visitor.upload(tmp_path / "p.png")
    visitor.settled()
    visitor.drag((5, 5), (20, 25))
    visitor.settled(1)
    fit = visitor.state()["transform"]
    visitor.page.locator(".dq").press("+")
    zoomed = visitor.state()["transform"]
    assert zoomed["sx"] == pytest.approx(1.25 * fit["sx"])
    visitor.drag((30, 30), (50, 48), panel=1)
    state = visitor.settled(2)
    assert [one["box"] for one in state["objects"]] == [[5, 5, 20, 25], [30, 30, 50, 48]]
    assert visitor.page.locator(".dqt tr").count() == 3
    visitor.page.locator(".dq").press("Shift+ArrowRight")
    assert visitor.settled(3)["objects"][1]["box"] == [31, 30, 51, 48]
    assert visitor.figure("Area, full precision") == f"{21 * 19} px"
    visitor.page.locator(".dq").press("Delete")
    assert [one["box"] for one in visitor.settled(4)["objects"]] == [[5, 5, 20, 25]]
    visitor.page.locator(".dq").press("Control+z")
    assert len(visitor.settled(5)["objects"]) == 2
    visitor.page.locator(".dq button", has_text="Clear").click()
    assert visitor.settled(6)["objects"] == []
    visitor.page.locator(".dq").press("0")
    assert visitor.state()["transform"] == fit


def test_clicks_are_offered_by_models_of_clicks_only(visitor, tmp_path):
    cv2.imwrite(str(tmp_path / "p.png"), np.full((SIDE, SIDE, 3), 255, np.uint8))
    visitor.upload(tmp_path / "p.png")
    visitor.settled()
    assert "trained on boxes only" in visitor.page.locator(".dq .hint").inner_text()
    assert visitor.page.locator(".dq button", has_text="Click").count() == 0
    visitor.choose("Bundle")
    visitor.page.locator(".dq button", has_text="Click +").click()
    visitor.page.mouse.click(*visitor.place(30, 30))
    state = visitor.settled(1)
    assert state["objects"][0]["points"][0]["label"] == 1
    assert visitor.figure("Area, full precision") == f"{17 * 17} px"


def test_a_zip_of_a_series_and_the_study_folder_give_dicom_seg(visitor, tmp_path, home):
    series = made.placed(np.full((3, SIDE, SIDE), 700, np.uint16))
    for number, one in enumerate(series):
        one.PixelData = np.pad(
            np.zeros((1, 1), np.uint16), ((0, SIDE - 1), (0, SIDE - 1)), constant_values=700
        ).tobytes()
        del number
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as packed:
        for number, one in enumerate(series):
            packed.writestr(f"{number}.dcm", made.written(one))
    visitor.upload(tmp_path / "series.zip")
    visitor.settled()
    visitor.drag((10, 12), (44, 40))
    visitor.settled(1)
    full, quantized = expected((10, 12, 44, 40), 1 - 1 / SIDE**2)
    check_figures(visitor, full, quantized, 0.375)
    seg = pydicom.dcmread(io.BytesIO(visitor.download(tmp_path).read_bytes()))
    assert seg.StudyInstanceUID == "1.2.3"
    assert np.array_equal(seg.pixel_array.reshape(-1, SIDE, SIDE).any(axis=0), quantized)
    frame = seg.PerFrameFunctionalGroupsSequence[0]
    assert list(frame.PlanePositionSequence[0].ImagePositionPatient) == list(series[1].ImagePositionPatient)
    visitor.page.get_by_role("button", name="Close study").click()
    visitor.page.get_by_role("button", name="Open the ultrasound").wait_for()  # a list closes as the page changes
    visitor.choose("In the study folder", "inner/")
    visitor.choose("In inner", "series/")
    assert visitor.settled()["epoch"].endswith("/stored/1")


def test_a_bad_file_is_one_sentence_and_uploads_are_nowhere_on_the_disk(visitor, tmp_path, home):
    (tmp_path / "bad.nii").write_bytes(b"no volume at all")
    visitor.page.locator("input[type=file]").set_input_files(str(tmp_path / "bad.nii"))
    said = visitor.page.get_by_role("alert").inner_text()
    assert "bad.nii is no NIfTI, DICOM, NRRD, MetaImage, PNG, JPEG or TIFF file" in said
    left = [path for path in (home / "run").rglob("*") if path.is_file()]
    assert [path.name for path in left] == ["viewer.log"]
    assert "Traceback" not in (home / "run" / "viewer.log").read_text()
    assert not [name for name in os.listdir("/dev/shm") if name.startswith("dfqsam-")]


def test_two_people_do_not_see_each_other(browser, address, visitor, tmp_path):
    visitor.upload(white_nifti(tmp_path / "v.nii"))
    visitor.settled()
    visitor.drag((10, 12), (44, 40))
    visitor.settled(1)
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    other = Visitor(context, address)
    other.page.get_by_role("button", name="Open the skin lesion").click()
    assert other.settled()["objects"] == []
    other.drag((100, 100), (300, 300))
    other.settled(1)
    context.close()
    assert visitor.settled(1)["objects"][0]["box"] == [10, 12, 44, 40]
    assert visitor.page.get_by_text("For research use, not for diagnosis").is_visible()


def test_the_server_listens_on_this_machine_only(address):
    port = int(address.rsplit(":", 1)[1])
    open_ports = [line.split()[1:4:2] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    wanted = [place for place, state in open_ports if state == "0A" and int(place.split(":")[1], 16) == port]
    assert wanted == [f"0100007F:{port:04X}"]
