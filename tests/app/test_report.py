"""The report of a slice: what is in it, what is not, and that its pictures are the masks."""

import base64
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from dfqsam.app import report
from dfqsam.app.models import Library
from dfqsam.app.settings import Settings
from dfqsam.errors import InputError
from dfqsam.imaging import Volume
from tests.app.test_judging import SHRINK, case_of, white
from tests.evaluate.world import SIDE, toy_bundle
from tests.judgement.world import FIGURES, new_store, subject

BOX = (10, 12, 40, 44)


@pytest.fixture(scope="module")
def choice(tmp_path_factory):
    return Library(Settings((toy_bundle(tmp_path_factory.mktemp("b") / "b", SHRINK).path,))).choices["Toy w8a8"]


class Text(HTMLParser):
    """What is read, and every address that is asked for."""

    def __init__(self, page: str):
        super().__init__()
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "data")]

    def handle_data(self, data):
        self.words.append(data)

    @property
    def all(self) -> str:
        return " ".join(self.words)


def decoded(page: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(one), np.uint8), 1)[..., ::-1] for one in found]


def test_a_report_says_what_was_seen(choice, tmp_path):
    case = case_of(choice, BOX)
    with new_store(tmp_path) as store:
        store.reject(subject(), FIGURES, "leak", "B12")
        draw = store.draw(subject())
        store.vote(draw.id, draw.subject.rater, "left", FIGURES)
        judged = store.judgements()
    expected = np.zeros((SIDE, SIDE), bool)
    expected[12:45, 10:41] = True
    page = report.document(case, judged, expected, datetime(2026, 1, 31, 12, 5, tzinfo=UTC))
    text = Text(page).all
    # Full precision fills the box (31 x 33 pixels), quantized is two smaller on each side (27 x 29).
    dice = 2 * 27 * 29 / (27 * 29 + 31 * 33)
    for part in (
        "For research use, not for diagnosis",
        f"{dice:.3f}",
        "box 10, 12 to 40, 44",
        choice.bundle.sha256,
        "Toy, w8a8",
        "axial, 2 of 3",
        "64 x 64 pixels of 0.5 x 0.75 mm",
        f"{31 * 33 * 0.375:.1f} mm²",
        f"{27 * 29 * 0.375:.1f} mm²",
        f"full precision 1.000; quantized {dice:.3f}",
        "2026-01-31 12:05 UTC",
        "The mask spills into neighbouring tissue, B12",
        "rejected",
        "blinded vote",
        "(left side)",
    ):
        assert part in text, part


def test_a_report_is_whole_and_asks_nobody(choice):
    page = report.document(case_of(choice, BOX))
    found = Text(page)
    assert all(address.startswith("data:image/png;base64,") for address in found.addresses)
    assert not found.tags & {"script", "link", "iframe", "form", "object", "embed"}
    assert "default-src 'none'" in page
    assert "url(" not in page
    assert "@import" not in page
    assert "Nothing was judged on this slice." in found.all


def test_a_report_names_no_file_and_no_patient(choice):
    case = case_of(choice, BOX)
    case.work.name = "MEIER_Anna_1950.nii"
    page = report.document(case)
    assert "MEIER" not in page
    assert case.work.study not in page


def test_pictures_are_the_masks_in_the_shape_of_the_patient(choice):
    case = case_of(choice, BOX)
    pictures = decoded(report.document(case))
    assert len(pictures) == 3
    height, width = pictures[0].shape[:2]
    assert height / width == pytest.approx(1.5, abs=0.01)  # pixels of 0.75 by 0.5 mm
    assert max(height, width) == 800
    apart = pictures[2]

    def colour(x: float, y: float) -> np.ndarray:
        return apart[round(y * height / SIDE), round(x * width / SIDE)].astype(int)

    white_pixel = int(case.picture[0, 0, 0])
    for (x, y), tint, strength in (((25, 28), (0, 158, 115), 0.4), ((11, 28), (230, 159, 0), 0.95)):
        assert np.allclose(colour(x, y), strength * np.array(tint) + (1 - strength) * white_pixel, atol=2)
    assert np.array_equal(colour(55, 55), [white_pixel] * 3)


def test_large_pictures_are_reduced(choice):
    volume = Volume(np.full((1, 1200, 2400), 255, np.uint8))
    case = case_of(choice, (100, 100, 900, 800), k=0, volume=volume)
    assert {picture.shape for picture in decoded(report.document(case))} == {(500, 1000, 3)}


def test_without_full_precision_the_report_has_one_picture(tmp_path):
    alone = Library(Settings((toy_bundle(tmp_path / "b", 1, full=False).path,))).choices["Toy w8a8"]
    page = report.document(case_of(alone, BOX))
    assert len(decoded(page)) == 1
    assert Text(page).all.count("quantized") >= 1


def test_a_report_of_nothing_is_refused(choice):
    with pytest.raises(InputError, match="draw a box first"):
        report.document(case_of(choice, volume=white()))


def test_a_manifest_cannot_write_the_page(choice, monkeypatch):
    from dataclasses import replace

    manifest = choice.bundle.manifest
    spoilt = replace(manifest, profile="<script>x</script>", model=replace(manifest.model, title="<img src=http://x>"))
    case = case_of(choice, BOX)
    bundle = replace(choice.quantized.bundle, manifest=spoilt)
    monkeypatch.setattr(type(choice), "bundle", property(lambda self: bundle))
    found = Text(report.document(case))
    assert "script" not in found.tags
    assert all(address.startswith("data:") for address in found.addresses)
