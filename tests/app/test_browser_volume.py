"""The whole volume in a real browser: propagated, stopped, scrolled, cut in three planes, turned as a solid, saved."""

import json
import zipfile
from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pytest

from dfqsam.imaging import millilitres, open_study, read_study_mask
from dfqsam.runtime import Predictor
from dfqsam.segment import Prompt, segment_study
from tests.app.browser import CHROMIUM, MISSING, Visitor, viewer
from tests.evaluate.world import SIDE, toy_bundle
from tests.imaging import made

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=MISSING)]
SLICES, BOX = 9, (20, 22, 44, 46)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("viewer")


@pytest.fixture(scope="module")
def bundle(home):
    return toy_bundle(home / "boxes", 3)


@pytest.fixture(scope="module")
def address(home, bundle):
    (home / "run").mkdir()
    with viewer(home / "run", "--bundle", bundle.path) as found:
        yield found


@pytest.fixture
def visitor(browser, address):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    made = Visitor(context, address)
    made.page.set_default_timeout(30_000)
    yield made
    own = (address, address.replace("http", "ws"), "data:", "blob:")
    assert [url for url in made.asked if not url.startswith(own)] == [], "the page asked somebody else"
    assert made.faults == []
    context.close()


def nifti(path: Path, slices: int = SLICES) -> Path:
    """Bright in the middle of the stack and darker at its ends, pixels of 0.8 x 0.4 mm, slices of 3 mm."""
    level = 1000 - 90 * np.abs(np.arange(slices) - slices // 2)
    data = np.broadcast_to(level, (SIDE, SIDE, slices)).astype(np.int16).copy()
    data[:2, :2] = 1
    return made.nifti(path, data, np.array([[-0.4, 0, 0, 9], [0, -0.8, 0, 7], [0, 0, 3, -4], [0, 0, 0, 1]]))


def propagated(visitor: Visitor, path: Path) -> int:
    """The number of the study; a box is drawn on its middle slice and followed."""
    visitor.upload(path)
    number = int(visitor.settled()["epoch"].split("/")[0])
    visitor.drag(BOX[:2], BOX[2:])
    visitor.settled(1)
    visitor.page.get_by_role("button", name="Propagate").click()
    visitor.page.locator(".dqc[data-slices]").wait_for()
    return number


def save(visitor: Visitor, which: str, folder: Path) -> np.ndarray:
    if which != "quantized":
        visitor.take("of", which)
        visitor.page.wait_for_timeout(800)
    return np.asarray(nib.load(visitor.download(folder)).dataobj).transpose(2, 1, 0)


def row(visitor: Visitor) -> list[str]:
    return visitor.page.locator(".dqt tr").last.locator("td").all_inner_texts()


def test_a_box_goes_through_the_stack_and_the_whole_volume_is_saved(visitor, bundle, tmp_path):
    path = nifti(tmp_path / "v.nii.gz")
    number = propagated(visitor, path)
    study = open_study(path)
    masks = {}
    for name, full in (("quantized", False), ("full precision", True)):
        saved = save(visitor, name, tmp_path)
        expected = segment_study(Predictor(bundle, full_precision=full), study, [Prompt(BOX, 4, "axial")])
        assert np.array_equal(saved, expected.mask)
        masks[name] = saved > 0
    quantized, full = masks["quantized"], masks["full precision"]
    dice = 2 * (quantized & full).sum() / (quantized.sum() + full.sum())
    said = row(visitor)
    assert said[1] == f"{dice:.3f}"
    assert said[2] == str(full.any(axis=(1, 2)).sum())
    assert float(said[3].removesuffix(" ml")) == pytest.approx(millilitres(study, full), rel=0.005)
    assert float(said[5].removesuffix(" ml")) == pytest.approx(millilitres(study, quantized), rel=0.005)
    # Masks are there when one scrolls, and the figures are those of the slice.
    for _ in range(2):
        visitor.page.locator(".dq").press("ArrowDown")
        visitor.page.wait_for_timeout(300)
    visitor.settled(epoch=f"{number}/axial/6")
    a, b = full[6], quantized[6]
    assert visitor.figure("Agreement (Dice)") == f"{2 * (a & b).sum() / (a.sum() + b.sum()):.3f}"
    assert visitor.figure("Area, full precision") == f"{a.sum() * 0.32:.1f} mm²"
    view = study.view("axial")
    rows, columns = np.nonzero(view.show(a & ~b))
    y, x = rows[len(rows) // 2], columns[len(columns) // 2]
    red, green, blue = visitor.pixels(2, x + 0.5, y + 0.5)
    assert red > 180
    assert 120 < green < 190
    assert blue < 90  # orange: full precision alone


def test_a_propagated_series_is_saved_as_dicom_seg(visitor, bundle, tmp_path):
    level = 1000 - 90 * np.abs(np.arange(SLICES) - SLICES // 2)
    stack = np.repeat(level, SIDE * SIDE).reshape(SLICES, SIDE, SIDE).astype(np.uint16)
    stack[:, :2, :2] = 1
    series = made.placed(stack)
    with zipfile.ZipFile(tmp_path / "series.zip", "w") as packed:
        for number, one in enumerate(series):
            packed.writestr(f"{number}.dcm", made.written(one))
    propagated(visitor, tmp_path / "series.zip")
    place = visitor.download(tmp_path)
    study = open_study(tmp_path / "series.zip")
    expected = segment_study(Predictor(bundle), study, [Prompt(BOX, SLICES // 2, "axial")]).mask
    assert expected.any(axis=(1, 2)).sum() > 1
    seg = highdicom.seg.segread(place)
    assert np.array_equal(read_study_mask(place, study), expected)  # our own reader
    sources = [one.SOPInstanceUID for one in series]
    frames = seg.get_pixels_by_source_instance(
        sources, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    by_place = dict(zip([one.ImagePositionPatient[2] for one in series], frames[..., 0], strict=True))
    order = sorted(by_place)
    if study.affine[2, 0] < 0:
        order.reverse()
    assert np.array_equal(np.stack([by_place[z] for z in order]), expected)  # highdicom's


def test_the_chart_goes_to_the_slice_that_is_chosen(visitor, tmp_path):
    number = propagated(visitor, nifti(tmp_path / "v.nii"))
    chart = visitor.page.locator(".dqc")
    assert json.loads(chart.get_attribute("data-slices")) == SLICES
    points = chart.locator("svg").first.locator("circle")
    assert points.count() == SLICES
    points.nth(7).click()
    visitor.settled(epoch=f"{number}/axial/7")
    chart.press("ArrowUp")
    visitor.settled(epoch=f"{number}/axial/6")
    visitor.page.get_by_role("button", name="Least agreement").click()
    said = visitor.page.get_by_role("button", name="Least agreement").inner_text()
    worst = int(said.split("slice ")[1].split(" ")[0]) - 1
    visitor.settled(epoch=f"{number}/axial/{worst}")
    assert visitor.figure("Agreement (Dice)") == said.split("(")[1].rstrip(")")


def test_three_planes_meet_where_one_points(visitor, tmp_path):
    number = propagated(visitor, nifti(tmp_path / "v.nii"))
    visitor.page.get_by_text("Three planes", exact=True).click()
    planes = visitor.page.locator(".dq[data-cursors]")
    planes.wait_for()

    def cursors() -> list[dict]:
        return json.loads(planes.get_attribute("data-cursors"))

    axial, coronal, sagittal = cursors()
    assert (axial["index"], coronal["y"], sagittal["y"]) == (4, 4, 4)
    scales = json.loads(planes.get_attribute("data-transforms"))
    assert [one["sy"] / one["sx"] for one in scales] == pytest.approx([2, 7.5, 3.75])  # pixels are 0.4, 0.8, 3 mm
    assert scales[0]["sx"] / 0.4 == pytest.approx(scales[2]["sx"] / 0.8)  # one scale
    place, t = planes.locator("canvas").nth(1).bounding_box(), scales[1]
    visitor.page.mouse.click(place["x"] + t["tx"] + 12.5 * t["sx"], place["y"] + t["ty"] + 6.5 * t["sy"])
    for _ in range(100):
        if cursors()[0]["index"] != 4:
            break
        visitor.page.wait_for_timeout(100)
    assert cursors()[0]["index"] == 2
    axial, coronal, sagittal = cursors()
    assert (axial["x"], coronal["x"], coronal["y"]) == (12, 12, 6)  # row 6 from the head is slice 2 from the feet
    visitor.page.get_by_text("Compare", exact=True).click()
    planes.wait_for(state="detached")
    visitor.settled(epoch=f"{number}/axial/2")


def test_the_surface_is_turned(visitor, tmp_path):
    propagated(visitor, nifti(tmp_path / "v.nii"))
    visitor.page.get_by_text("Surface", exact=True).click()
    surface = visitor.page.locator(".dq[data-rotation]")
    surface.wait_for()
    canvas = surface.locator("canvas").nth(1)
    visitor.page.wait_for_timeout(300)
    code = """canvas => { const d = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let n = 0; for (let i = 0; i < d.length; i += 4) n += d[i + 2] > 60 && d[i + 2] > d[i] + 20; return n }"""
    front = canvas.evaluate(code)
    assert front > 3000  # blue
    place = canvas.bounding_box()
    visitor.page.mouse.move(place["x"] + 100, place["y"] + 100)
    visitor.page.mouse.down()
    visitor.page.mouse.move(place["x"] + 100, place["y"] + 180, steps=4)
    visitor.page.mouse.up()
    visitor.page.wait_for_timeout(300)
    assert json.loads(surface.get_attribute("data-rotation"))[3:6] != [0, 0, 1]
    assert canvas.evaluate(code) != front
    visitor.page.locator(".dq button", has_text="Front").click()
    visitor.page.wait_for_timeout(300)
    assert canvas.evaluate(code) == front


def test_a_propagation_is_cancelled_or_kept(visitor, tmp_path):
    visitor.upload(nifti(tmp_path / "long.nii", 900))
    visitor.settled()
    visitor.drag(BOX[:2], BOX[2:])
    visitor.settled(1)
    page = visitor.page
    propagate = page.get_by_role("button", name="Propagate")
    for button, kept in (("Cancel", False), ("Stop and keep", True)):
        propagate.click()
        page.get_by_role("button", name=button).click()
        page.get_by_text("Propagating with").wait_for(state="detached")
        page.wait_for_timeout(800)
        assert page.locator(".dqc[data-slices]").count() == int(kept)
    assert page.get_by_text("was stopped; the slices that were done are kept").is_visible()
    assert 1 <= json.loads(page.locator(".dqc").get_attribute("data-slices")) < 900


def test_a_slice_picture_is_sent_once(visitor, tmp_path):
    """By what goes over the WebSocket: a second look at a slice, or a box on it, brings no picture."""
    received: list[int] = []
    noise = np.random.default_rng(1).integers(0, 1000, (256, 256, 5)).astype(np.int16)
    noise[:128, :128] = 100 + 150 * np.arange(5)  # one grey in a quarter, another on each slice
    path = made.nifti(tmp_path / "n.nii", noise, np.diag([-0.5, -0.5, 3, 1]))
    visitor.page.on("websocket", lambda socket: socket.on("framereceived", lambda frame: received.append(len(frame))))
    visitor.page.reload()
    visitor.page.get_by_role("button", name="Open the ultrasound").wait_for()
    visitor.upload(path)
    number = visitor.settled()["epoch"].split("/")[0]
    large = 40_000  # noise does not compress

    def sent_while(act, epoch: int, change: int | None = None) -> int:
        received.clear()
        act()
        visitor.settled(change, f"{number}/axial/{epoch}")
        visitor.page.wait_for_timeout(500)
        return max(received)

    key = visitor.page.locator(".dq")
    assert sent_while(lambda: key.press("ArrowDown"), 3) > large
    assert sent_while(lambda: key.press("ArrowUp"), 2) < large
    assert sent_while(lambda: visitor.drag((10, 10), (50, 50)), 2, 1) < large
    assert sent_while(lambda: key.press("ArrowDown"), 3) < large
    assert sent_while(lambda: key.press("ArrowDown"), 4) > large
    study = open_study(path)
    for press, k in (("Home", 0), ("End", 4)):
        key.press(press)
        visitor.settled(epoch=f"{number}/axial/{k}")
        grey = study.picture(k, study.view("axial"))[60, 60]
        assert np.allclose(visitor.pixels(0, 60.5, 60.5), grey, atol=2)  # of this slice, not of another
