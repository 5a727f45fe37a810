"""LiteMedSAM in both precisions: judging by mouse, and pictures of the pages as a clinician sees them."""

import pytest

from tests.app.browser import CHROMIUM, MISSING, Visitor, viewer
from tests.app.test_browser_judging import leaks, next_slice, review, table
from tests.full_precision import shipped_with_full_precision

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=MISSING)]
LIVER, LESION = (34, 74, 142, 160), (58, 96, 95, 129)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    bundle = shipped_with_full_precision(tmp_path_factory.mktemp("judging") / "bundle")
    folder = tmp_path_factory.mktemp("run")
    with viewer(folder, "--bundle", bundle.path, "--judgements", folder / "kept") as found:
        yield found


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (1920, 1080)], ids=lambda size: str(size[0]))
def test_a_clinician_judges_and_votes_and_the_pages_are_kept(browser, address, theme, size):
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=theme)
    visitor = Visitor(context, address)
    page, name = visitor.page, f"{theme}-{size[0]}"
    page.get_by_role("button", name="Open the CT phantom").click()
    visitor.settled()
    field = page.get_by_role("textbox", name="Your name or initials")
    field.fill(f"judge {name}")
    field.press("Enter")
    page.wait_for_timeout(400)
    visitor.drag(LIVER[:2], LIVER[2:])
    visitor.settled(1)
    page.get_by_role("button", name="Accept").click()
    page.get_by_text("Accepted. Stored as entry").first.wait_for()
    visitor.choose("Reason to reject", "The outline is in the wrong place")
    page.wait_for_timeout(400)
    page.get_by_role("button", name="Reject").click()
    page.get_by_text("Judged again").wait_for()
    page.mouse.move(5, 5)
    visitor.shot(f"judge-{name}")
    page.get_by_test_id("stMain").evaluate("page => page.scrollTo(0, 0)")
    page.get_by_text("Blinded vote").click()
    page.get_by_text("blinded vote · bundle").wait_for()
    next_slice(visitor)
    start = len(visitor.received)
    visitor.drag(LESION[:2], LESION[2:])
    visitor.settled(1)
    page.get_by_role("button", name="No difference").wait_for()
    assert leaks(visitor, start) == []
    assert "LiteMedSAM" not in page.content()
    page.mouse.move(5, 5)
    visitor.shot(f"blinded-{name}")
    page.get_by_role("button", name="The left one is better").click()
    page.get_by_text("You preferred the left mask").wait_for()
    page.mouse.move(5, 5)
    visitor.shot(f"revealed-{name}")
    review(visitor)
    assert table(visitor)[0]["verdict"] == "blinded vote"
    page.get_by_test_id("stMain").evaluate("page => page.scrollTo(0, 0)")
    visitor.shot(f"review-{name}")
    page.get_by_test_id("stMain").evaluate("page => page.scrollTo(0, 1e6)")
    visitor.shot(f"review-end-{name}")
    context.close()
    assert visitor.faults == []
