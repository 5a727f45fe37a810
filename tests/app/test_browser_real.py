"""LiteMedSAM in both precisions, in a real browser: figures against the runtime's own, and pictures of the pages."""

import nibabel as nib
import numpy as np
import pytest

from dfqsam.app.samples import abdomen
from dfqsam.assets import shipped_bundle
from dfqsam.bundle import Bundle
from dfqsam.evaluate.metrics import dice, surface
from dfqsam.runtime import Predictor
from tests.app.browser import CHROMIUM, MISSING, Visitor, viewer
from tests.full_precision import shipped_with_full_precision

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=MISSING)]
LIVER, LESION = (34, 74, 142, 160), (58, 96, 95, 129)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return shipped_with_full_precision(tmp_path_factory.mktemp("viewer") / "bundle")


@pytest.fixture(scope="module")
def address(bundle, tmp_path_factory):
    with viewer(tmp_path_factory.mktemp("run"), "--bundle", bundle.path, "--bundle", shipped_bundle()) as found:
        yield found


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (1920, 1080)], ids=lambda size: str(size[0]))
def test_the_figures_are_those_of_the_runtime_and_the_pages_are_kept(browser, address, bundle, theme, size):
    from playwright.sync_api import expect

    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=theme)
    visitor = Visitor(context, address)
    name = f"{theme}-{size[0]}"
    visitor.shot(f"start-{name}")
    visitor.page.get_by_role("button", name="Open the CT phantom").click()
    visitor.settled()
    visitor.shot(f"open-{name}")
    visitor.drag(LIVER[:2], LIVER[2:])
    visitor.settled(1)
    visitor.shot(f"compare-{name}")
    volume = abdomen()
    view = volume.view("axial")
    picture = volume.picture(12, view)
    masks = []
    for full in (True, False):
        predictor = Predictor(bundle, full_precision=full)
        predictor.set_image(picture)
        masks.append(np.asarray(predictor.predict(box=LIVER)[0][0], bool))
    assert visitor.figure("Agreement (Dice)") == f"{dice(*masks):.3f}"
    apart = surface(*masks, view.spacing).hd95
    assert visitor.figure("Distance (HD95)") == f"{apart:.2f} mm"
    assert visitor.figure("Area, quantized") == f"{masks[1].sum() * 1.4**2 / 100:.1f} cm²"
    visitor.drag(LESION[:2], LESION[2:])
    state = visitor.settled(2)
    assert state["objects"][1]["box"] == list(LESION)
    visitor.page.get_by_text("fill", exact=True).click()
    visitor.page.wait_for_timeout(800)
    visitor.settled(2)
    visitor.page.mouse.move(5, 5)
    visitor.shot(f"objects-{name}")
    visitor.choose("Bundle")
    visitor.page.get_by_text("holds no full-precision model").wait_for()
    expect(visitor.page.locator(".dq canvas")).to_have_count(1, timeout=15_000)
    visitor.settled(2)
    visitor.shot(f"alone-{name}")
    context.close()
    assert visitor.faults == []


def test_the_whole_volume_and_its_pages_are_kept(browser, address, tmp_path):
    """The liver of the phantom, followed by both models; figures against the files that are saved."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    visitor = Visitor(context, address)
    page = visitor.page
    page.set_default_timeout(60_000)
    page.get_by_role("button", name="Open the CT phantom").click()
    visitor.settled()
    visitor.drag(LIVER[:2], LIVER[2:])
    visitor.settled(1, seconds=60)
    page.get_by_role("button", name="Propagate").click()
    page.get_by_text("Propagating with both models: slice").wait_for(timeout=120_000)
    visitor.shot("propagating-light-1280")
    page.locator(".dqc[data-slices]").wait_for(timeout=600_000)
    masks = []
    for name in ("full precision", "quantized"):
        visitor.take("of", name)
        page.wait_for_timeout(1500)
        masks.append(np.asarray(nib.load(visitor.download(tmp_path)).dataobj) > 0)
    full, quantized = masks
    assert quantized.any(axis=(0, 1)).sum() >= 12
    said = page.locator(".dqt tr").last.locator("td").all_inner_texts()
    assert said[1] == f"{dice(full, quantized):.3f}"
    for place, mask in ((3, full), (5, quantized)):
        assert said[place] == f"{mask.sum() * 1.4 * 1.4 * 5 / 1000:.0f} ml"
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        for width, height in ((1280, 900), (1920, 1080)):
            page.set_viewport_size({"width": width, "height": height})
            name = f"{theme}-{width}"
            page.get_by_text("Compare", exact=True).click()
            page.locator(".dq[data-answered]").wait_for()
            page.mouse.move(5, 5)
            page.wait_for_timeout(800)
            page.locator(".dqc").scroll_into_view_if_needed()
            visitor.shot(f"volume-{name}")
            page.get_by_text("Three planes", exact=True).click()
            page.locator(".dq[data-cursors]").wait_for()
            page.wait_for_timeout(1500)
            visitor.shot(f"planes-{name}")
            page.get_by_text("Surface", exact=True).click()
            page.locator(".dq[data-rotation]").wait_for()
            page.wait_for_timeout(1500)
            visitor.shot(f"surface-{name}")
    context.close()
    assert visitor.faults == []
