"""Judging in a real browser: verdicts, the blinded vote and what must not leak before it, review, reference, report."""

import csv
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import pytest

from dfqsam.app import display
from dfqsam.judgement import REASONS, JudgementStore
from tests.app.browser import CHROMIUM, MISSING, Visitor, viewer
from tests.app.test_browser import expected, white_nifti
from tests.evaluate.world import SIDE, toy_bundle

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=MISSING)]
SHRINK = 3
BOX = (10, 12, 44, 40)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("judging")


@pytest.fixture(scope="module")
def address(home):
    bundle = toy_bundle(home / "bundle", SHRINK)
    (home / "run").mkdir()
    with viewer(home / "run", "--bundle", bundle.path, "--judgements", home / "kept") as found:
        yield found


@pytest.fixture
def visit(browser, address):
    people = []

    def enter() -> Visitor:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
        people.append((context, Visitor(context, address)))
        return people[-1][1]

    yield enter
    for context, visitor in people:
        allowed = (address, address.replace("http", "ws"), "data:", "blob:")
        assert [url for url in visitor.asked if not url.startswith(allowed)] == [], "the page asked somebody else"
        assert visitor.faults == []
        context.close()


def study(folder: Path, value: int) -> Path:
    """A white study; another value is another study."""
    image = nib.load(white_nifti(folder / "base.nii"))
    data = np.asarray(image.dataobj).copy()
    data[0, 0, 0] = -value
    path = folder / "MEIER_Anna.nii.gz"
    nib.save(nib.Nifti1Image(data, image.affine), path)
    return path


def entries(home: Path, kind: str) -> list[dict]:
    with closing(sqlite3.connect(home / "kept" / "judgements.sqlite")) as connection:
        found = connection.execute("SELECT body FROM entries WHERE kind = ? ORDER BY sequence", (kind,)).fetchall()
    return [json.loads(body) for (body,) in found]


def opened(visitor: Visitor, path: Path, name: str = "") -> None:
    visitor.upload(path)
    visitor.settled()
    if name:
        box = visitor.page.get_by_role("textbox", name="Your name or initials")
        box.fill(name)
        box.press("Enter")
        visitor.page.wait_for_timeout(500)


def drawn(visitor: Visitor) -> None:
    visitor.page.get_by_test_id("stMain").evaluate("page => page.scrollTo(0, 0)")
    visitor.drag(BOX[:2], BOX[2:])
    visitor.settled(1)


def accepted(visitor: Visitor) -> None:
    visitor.page.get_by_role("button", name="Accept").click()
    visitor.page.get_by_text("Accepted. Stored").first.wait_for()


def next_slice(visitor: Visitor) -> None:
    visitor.page.locator("[data-test-script-state=notRunning]").wait_for()
    visitor.page.wait_for_timeout(300)
    number, plane, k = visitor.state()["epoch"].split("/")
    visitor.page.locator(".dq").press("ArrowDown")
    visitor.settled(0, f"{number}/{plane}/{int(k) + 1}")


def review(visitor: Visitor) -> None:
    visitor.page.get_by_role("button", name="Review judgements").click()
    visitor.page.get_by_text("Review of judgements").wait_for()


def table(visitor: Visitor) -> list[dict[str, str]]:
    """The table of judgements as a screen reader finds it."""
    grid = visitor.page.get_by_test_id("stDataFrame").first
    grid.locator("canvas").first.wait_for()
    grid.scroll_into_view_if_needed()
    grid.locator("[role=columnheader]").first.wait_for(state="attached")
    visitor.page.wait_for_timeout(300)
    heads = grid.locator("[role=columnheader]").all_text_contents()
    lines = grid.locator("[role=row]:has([role=gridcell])")
    return [
        dict(zip(heads, lines.nth(i).locator("[role=gridcell]").all_text_contents(), strict=True))
        for i in range(lines.count())
    ]


def test_slice_and_window_stay_as_they_are_while_the_review_page_is_looked_at(visit):
    visitor = visit()
    page = visitor.page
    page.get_by_role("button", name="Open the CT phantom").click()
    number, plane, k = visitor.settled()["epoch"].split("/")
    centre, width, place = (page.get_by_role("slider", name=name) for name in ("Centre", "Width", "Slice"))
    visitor.choose("Window", "lung")
    page.wait_for_timeout(600)
    assert (centre.input_value(), width.input_value()) == ("-600", "1500")
    centre.press("ArrowRight")
    page.wait_for_timeout(600)
    place.press("ArrowRight")
    visitor.settled(0, f"{number}/{plane}/{int(k) + 1}")
    page.locator(".dq").press("ArrowDown")
    visitor.settled(0, f"{number}/{plane}/{int(k) + 2}")
    review(visitor)
    page.get_by_role("button", name="Back").click()
    visitor.settled(0, f"{number}/{plane}/{int(k) + 2}")
    assert [one.input_value() for one in (centre, width, place)] == ["-599", "1500", str(int(k) + 3)]
    visitor.choose("Window", "bone")
    page.wait_for_timeout(600)
    assert (centre.input_value(), width.input_value()) == ("400", "1800")


def test_verdicts_are_stored_found_on_the_review_page_and_exported(visit, home, tmp_path):
    visitor = visit()
    path = study(tmp_path, 1)
    opened(visitor, path, "Dr. Anna Weiss")
    assert not (home / "kept").exists(), "a store was made before anybody judged"
    drawn(visitor)
    page = visitor.page
    page.get_by_role("button", name="Accept").click()
    page.get_by_text("Accepted. Stored as entry 2").first.wait_for()
    # A rejection needs a reason.
    assert page.get_by_role("button", name="Reject").is_disabled()
    visitor.choose("Reason to reject", REASONS["other"])
    page.get_by_label("Code of your own list").fill("b12")
    page.get_by_label("Code of your own list").press("Enter")
    page.wait_for_timeout(400)
    page.get_by_role("button", name="Reject").click()
    stored = page.get_by_text("Stored as entry 3").first.inner_text()
    assert stored.startswith("Rejected (something else, see the code, B12). Stored as entry 3")
    page.get_by_text("Judged again. Before: accepted").wait_for()
    visitor.shot("judged")
    other = visit()
    opened(other, path, "Bernd")
    drawn(other)
    other.page.get_by_text("Another person has judged this slice too").wait_for()
    other.choose("Reason to reject", REASONS["leak"])
    other.page.wait_for_timeout(300)
    other.page.get_by_role("button", name="Reject").click()
    other.page.get_by_text("Stored as entry 4").first.wait_for()

    full, quantized = expected(BOX, 1 - 3 / SIDE**2)
    dice = 2 * (full & quantized).sum() / (full.sum() + quantized.sum())
    kept = entries(home, "judgement")
    assert [one["verdict"] for one in kept] == ["accept", "reject", "reject"]
    assert [one["code"] for one in kept] == [None, "B12", None]
    assert kept[0]["agreement"] == pytest.approx(dice, abs=0.02)
    assert kept[0]["rater"] == kept[1]["rater"] != kept[2]["rater"]
    assert (kept[0]["plane"], kept[0]["slice"], kept[0]["prompt"]) == ("axial", 2, "box")

    review(visitor)
    visitor.page.get_by_text("The chain is whole: 4 entries").wait_for()
    rows = table(visitor)
    assert [row["verdict"] for row in rows] == ["rejected", "rejected", "accepted"]
    assert rows[0]["judgement of this slice"] == "3"
    assert rows[1]["judgement of this slice"] == "2 (no. 2 of this judge)"
    assert rows[1]["reason or vote"] == f"{REASONS['other']}, B12"
    visitor.choose("Judge", "(you)")
    visitor.page.get_by_role("button", name="Download 2 as CSV").wait_for()
    visitor.choose("Verdict", "rejected")
    visitor.page.get_by_role("button", name="Download 1 as CSV").wait_for()
    file = visitor.download(tmp_path, "Download 1 as CSV")
    (line,) = csv.DictReader(file.read_text().splitlines())
    assert {name: line[name] for name in ("sequence", "verdict", "reason", "code", "rater")} == {
        "sequence": "3", "verdict": "reject", "reason": "other", "code": "B12", "rater": kept[1]["rater"],
    }  # fmt: skip
    # Back at the study: the slice, its box and the name are as they were.
    visitor.page.get_by_role("button", name="Back").click()
    assert visitor.settled()["objects"][0]["box"] == list(BOX)
    assert visitor.page.get_by_role("textbox", name="Your name or initials").input_value() == "Dr. Anna Weiss"


def test_nothing_of_patient_or_person_is_on_the_disk(visit, home, tmp_path):
    visitor = visit()
    opened(visitor, study(tmp_path, 2), "Dr. Anna Weiss")
    drawn(visitor)
    accepted(visitor)
    files = [path for path in [*(home / "kept").iterdir(), *(home / "run").rglob("*")] if path.is_file()]
    assert {path.name for path in files} >= {"judgements.sqlite", "site.key", "viewer.log"}
    for path in files:
        data = path.read_bytes().lower()
        for secret in (b"meier", b"anna", b"weiss"):
            assert secret not in data, path.name


WORDS = ("uantized", "ull precision", "ull-precision", "w8a8", "Toy", "fp32")


def leaks(visitor: Visitor, since: int) -> list[str]:
    """Words and colours that name a model in what was sent since then, or in the page; figures of time or size."""
    sent = b"".join(visitor.received[since:])
    page = visitor.page.content()
    found = [word for word in (*WORDS, display.FULL, display.QUANTIZED) if word.encode() in sent or word in page]
    read = visitor.page.locator("body").inner_text()
    return found + re.findall(r"[0-9.]+ (?:ms|s|MB)\b|Dice|HD95|Area|Time|Size", read)


@pytest.mark.parametrize("vote", ["left", "right", "equal"])
def test_a_vote_is_blind_until_it_is_cast(visit, home, tmp_path, vote):
    visitor = visit()
    page = visitor.page
    opened(visitor, study(tmp_path, {"left": 11, "right": 12, "equal": 13}[vote]), "Carla")
    page.get_by_text("fill", exact=True).click()
    page.wait_for_timeout(500)
    page.get_by_text("Blinded vote").click()
    page.get_by_text("blinded vote · bundle").wait_for()
    page.wait_for_timeout(500)
    start = len(visitor.received)
    next_slice(visitor)
    drawn(visitor)
    page.get_by_role("button", name="No difference").wait_for()
    assert len(visitor.received) > start
    assert leaks(visitor, start) == []
    assert page.get_by_role("button", name="Download").count() == page.get_by_role("button", name="Report").count() == 0
    draws = entries(home, "draw")
    # A corrected box is the same vote, with the same sides.
    visitor.drag(BOX[2:], (46, 41))
    visitor.settled(2)
    assert leaks(visitor, start) == []
    assert entries(home, "draw") == draws
    left = draws[-1]["left"]
    # The full-precision mask fills the box, the quantized one leaves a rim; both have one colour.
    rims = [visitor.pixels(panel, 11.5, 30.5) for panel in (0, 1)]
    blank = [np.allclose(rim, 255, atol=3) for rim in rims]
    assert blank == ([False, True] if left == "full" else [True, False])
    middle = [visitor.pixels(panel, 28.5, 30.5) for panel in (0, 1)]
    assert middle[0] == middle[1]
    visitor.page.mouse.move(5, 5)
    visitor.shot(f"blinded-{vote}")
    names = {"left": "The left one is better", "right": "The right one is better", "equal": "No difference"}
    page.get_by_role("button", name=names[vote]).click()
    page.get_by_text("Stored as entry").wait_for()
    said = page.get_by_text("Stored as entry").inner_text()
    last = entries(home, "judgement")[-1]
    assert (last["verdict"], last["choice"], last["draw"]) == ("prefer", vote, draws[-1]["id"])
    with JudgementStore(home / "kept" / "judgements.sqlite", None) as store:
        preferred = store.judgements()[-1].preferred
    assert preferred == (
        "equal" if vote == "equal" else left if vote == "left" else {"full": "quantized", "quantized": "full"}[left]
    )
    models = {"full": "the full-precision model", "quantized": "the quantized model"}
    assert ("no difference" if vote == "equal" else f"preferred the {vote} mask: {models[preferred]}") in said
    titles = page.locator(".dq figcaption span").all_inner_texts()
    shown = {"full": "full precision", "quantized": "quantized (w8a8)"}
    assert titles[0] == f"Left: {shown[left]}"
    assert visitor.figure("Agreement (Dice)")
    # What was seen with names is not voted on again; the next slice is.
    assert page.get_by_role("button", name="No difference").count() == 0
    next_slice(visitor)
    drawn(visitor)
    page.get_by_role("button", name="No difference").wait_for()
    review(visitor)
    page.get_by_text("Preference, blinded").wait_for()
    (row, *_) = table(visitor)
    assert row["verdict"] == "blinded vote"
    page.get_by_text("shown without a vote").wait_for()


def test_a_slice_seen_with_names_takes_no_vote(visit, tmp_path):
    visitor = visit()
    opened(visitor, study(tmp_path, 21), "Carla")
    drawn(visitor)
    visitor.page.get_by_text("Blinded vote").click()
    visitor.page.get_by_text("shown with names before").wait_for()
    assert visitor.page.get_by_role("button", name="No difference").count() == 0
    next_slice(visitor)
    drawn(visitor)
    visitor.page.get_by_role("button", name="No difference").wait_for()
    # Looking at the names ends the vote.
    visitor.page.get_by_text("Blinded vote", exact=True).click()
    visitor.page.locator(".dqf").wait_for()
    visitor.page.get_by_text("Blinded vote", exact=True).click()
    visitor.page.get_by_text("shown with names before").wait_for()


def test_a_reference_gives_dice_of_each_model_or_a_sentence(visit, tmp_path):
    visitor = visit()
    path = study(tmp_path, 31)
    opened(visitor, path)
    drawn(visitor)
    image = nib.load(path)
    truth = np.zeros(image.shape, np.uint8)
    truth[14:40, 15:38, 2] = 1
    field = visitor.page.get_by_test_id("stSidebar").locator("input[type=file]")
    nib.save(
        nib.Nifti1Image(truth, image.affine + np.diag([0, 0, 0, 0]) + [[0, 0, 0, 5], [0] * 4, [0] * 4, [0] * 4]),
        tmp_path / "off.nii",
    )
    field.set_input_files(str(tmp_path / "off.nii"))
    visitor.page.get_by_text("off.nii lies on another grid than the study").wait_for()
    nib.save(nib.Nifti1Image(truth[..., :4], image.affine), tmp_path / "short.nii")
    visitor.page.get_by_test_id("stSidebar").locator("input[type=file]").set_input_files(str(tmp_path / "short.nii"))
    visitor.page.get_by_text("short.nii covers (4, 64, 64) voxels, the study has (5, 64, 64)").wait_for()
    nib.save(nib.Nifti1Image(truth, image.affine), tmp_path / "truth.nii.gz")
    visitor.page.get_by_test_id("stSidebar").locator("input[type=file]").set_input_files(str(tmp_path / "truth.nii.gz"))
    visitor.page.get_by_text("Dice to reference, quantized").wait_for()
    full, quantized = expected(BOX, 1 - 4 / SIDE**2)
    true = truth[:, :, 2].T > 0
    for name, mask in (("full precision", full), ("quantized", quantized)):
        dice = 2 * (true & mask).sum() / (true.sum() + mask.sum())
        assert visitor.figure(f"Dice to reference, {name}") == f"{dice:.3f}"
    visitor.shot("reference")
    next_slice(visitor)
    drawn(visitor)
    visitor.page.get_by_text("The reference has nothing on this slice").wait_for()
    visitor.page.get_by_role("button", name="Remove truth.nii.gz").click()
    visitor.page.get_by_test_id("stSidebar").locator("input[type=file]").wait_for(state="attached")


def test_a_report_is_one_file_on_one_page(visit, browser, tmp_path):
    visitor = visit()
    opened(visitor, study(tmp_path, 41), "Dora")
    drawn(visitor)
    accepted(visitor)
    file = visitor.download(tmp_path, "Report")
    context = browser.new_context(offline=True)
    page = context.new_page()
    asked, faults = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda line: faults.append(line.text))
    page.goto(file.as_uri())
    text = page.locator("body").inner_text()
    assert "For research use, not for diagnosis" in text
    assert "accepted" in text
    assert "box 10, 12 to 44, 40" in text
    assert "MEIER" not in page.content()
    assert page.locator("img").evaluate_all("all => all.every(one => one.complete && one.naturalWidth > 100)")
    assert page.locator("img").count() == 3
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert faults == []
    assert page.pdf(prefer_css_page_size=True).count(b"/Type /Page\n") == 1
    context.close()


def test_a_picture_is_judged_unnamed(visit, home, tmp_path):
    visitor = visit()
    cv2.imwrite(str(tmp_path / "p.png"), np.full((SIDE, SIDE, 3), 255, np.uint8))
    opened(visitor, tmp_path / "p.png")
    drawn(visitor)
    accepted(visitor)
    last = entries(home, "judgement")[-1]
    assert last["rater"].startswith("session-")
    assert (last["modality"], last["plane"], last["slice"], last["unit"]) == ("OT", "stored", 0, "px")


def test_an_altered_store_is_shown_with_the_broken_entry(visit, home, tmp_path):
    visitor = visit()
    opened(visitor, study(tmp_path, 51), "Emil")
    drawn(visitor)
    accepted(visitor)
    review(visitor)
    visitor.page.get_by_text("The chain is whole").wait_for()
    visitor.page.get_by_text("The head of the chain").click()
    head = visitor.page.get_by_test_id("stCode").inner_text().strip()
    visitor.page.get_by_label("A head that was noted before").fill(head)
    visitor.page.get_by_label("A head that was noted before").press("Enter")
    visitor.page.wait_for_timeout(400)
    visitor.page.get_by_role("button", name="Check again").click()
    visitor.page.get_by_text("goes on from the head that was noted").wait_for()
    with closing(sqlite3.connect(home / "kept" / "judgements.sqlite")) as connection:
        sql = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'no_update'").fetchone()[0]
        connection.execute("DROP TRIGGER no_update")
        connection.execute("UPDATE entries SET body = replace(body, 'accept', 'reject') WHERE sequence = 2")
        connection.execute(sql)
        connection.commit()
    visitor.page.get_by_role("button", name="Check again").click()
    visitor.page.get_by_text("The store was altered. Entry 2 does not match its hash").wait_for()
    visitor.shot("altered")


def test_propagated_masks_are_voted_on_blind_and_not_after_three_planes(visit, home, tmp_path):
    visitor = visit()
    page = visitor.page
    opened(visitor, study(tmp_path, 61), "Finn")
    drawn(visitor)
    page.get_by_role("button", name="Propagate").click()
    page.get_by_text("How far each object was followed").wait_for(timeout=60_000)
    page.get_by_test_id("stMain").evaluate("page => page.scrollTo(0, 0)")
    page.get_by_text("Blinded vote", exact=True).click()
    page.get_by_text("shown with names before").wait_for()
    page.wait_for_timeout(500)
    start = len(visitor.received)
    next_slice(visitor)
    page.get_by_role("button", name="No difference").wait_for()
    assert leaks(visitor, start) == []
    assert page.get_by_role("button", name="Propagate").count() == 0
    page.get_by_role("button", name="No difference").click()
    page.get_by_text("You saw no difference").wait_for()
    last = entries(home, "judgement")[-1]
    assert (last["prompt"], last["slice"], last["choice"]) == ("propagated", 3, "equal")
    assert "nan" not in page.locator("body").inner_text()
    report = visitor_report(visitor, tmp_path)
    assert "propagated from another slice" in report
    assert ">nan" not in report
    page.get_by_text("Three planes", exact=True).click()
    page.locator(".dq canvas").first.wait_for()
    page.wait_for_timeout(500)
    page.get_by_text("Compare", exact=True).click()
    page.get_by_text("Blinded vote", exact=True).click()
    page.get_by_text("blinded vote · bundle").wait_for()
    next_slice(visitor)
    page.get_by_text("All slices were shown with names").wait_for()


def visitor_report(visitor: Visitor, folder: Path) -> str:
    """Leaves the blinded vote, and takes the report of the slice."""
    visitor.page.get_by_test_id("stMain").evaluate("page => page.scrollTo(0, 0)")
    visitor.page.get_by_text("Blinded vote", exact=True).click()
    visitor.page.get_by_role("button", name="Report").wait_for()
    return visitor.download(folder, "Report").read_text()
