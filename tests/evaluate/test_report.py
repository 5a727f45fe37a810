import base64
import csv
import re
from dataclasses import fields
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from dfqsam.evaluate import charts
from dfqsam.evaluate.models import open_models
from dfqsam.evaluate.page import page, table, typeset
from dfqsam.evaluate.report import sentence
from dfqsam.evaluate.rows import Row
from dfqsam.evaluate.run import Work, run_evaluation
from dfqsam.evaluate.sources import open_data
from dfqsam.evaluate.verdict import BROKEN, decide, mean_criterion, tail_criterion
from dfqsam.evaluate.worst_pictures import _region
from tests.evaluate.test_sources import pair
from tests.evaluate.world import toy_bundle, write_manifest


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return open_models(toy_bundle(tmp_path_factory.mktemp("toy") / "bundle", 4).path)


class Links(HTMLParser):
    """Everything in a page that a browser would fetch, and whether each element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        assert tag not in ("script", "link", "iframe", "object")
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def evaluated(models, data, out, **options):
    run_evaluation(models, open_data(data), out, Work(workers=1), **options)
    return (out / "report.html").read_text()


def test_the_report_is_one_file_without_anything_from_outside(models, tmp_path):
    write_manifest(tmp_path / "data", {"p1": [255, 9], "p2": [40]}, "one")
    write_manifest(tmp_path / "data", {"p3": [99]}, "two")
    text = evaluated(models, tmp_path / "data", tmp_path / "out")
    links = Links()
    links.feed(text)
    assert not links.open
    assert links.links
    assert all(link.startswith("data:image/svg+xml;base64,") for link in links.links)
    for link in links.links:
        drawn = base64.b64decode(link.partition(",")[2]).decode()
        assert drawn.startswith("<?xml")
        assert not re.search(r'href="(?!#)', drawn)
        assert "url(http" not in drawn
    assert "default-src 'none'" in text
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.html", "results.csv", "results.jsonl", "summary.json",
    }  # fmt: skip


def test_the_report_names_no_patient_and_is_the_same_every_time(models, tmp_path):
    data = write_manifest(tmp_path / "data", {"Miller": [255], "Smith": [0]}, "clinic")
    text = evaluated(models, data, tmp_path / "out")
    assert "Miller" not in text
    assert "Smith" not in text
    assert "clinic/" not in text
    assert "contains pictures of patients" not in text
    assert evaluated(models, data, tmp_path / "again") == text


def test_pictures_are_there_on_request_only_and_the_report_says_so(models, tmp_path):
    data = write_manifest(tmp_path / "data", {"a": [255]})
    text = evaluated(models, data, tmp_path / "out", pictures=True)
    assert "contains pictures of patients" in text
    pictures = re.findall(r"data:image/jpeg;base64,([^\"]+)", text)
    assert len(pictures) == 4  # two cases, two prompts
    drawn = cv2.imdecode(np.frombuffer(base64.b64decode(pictures[0]), np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == (384 + 28, 3 * 384, 3)


def test_words_of_the_data_are_shown_as_they_are(models, tmp_path):
    data = write_manifest(tmp_path / "data", {"a": [255]}, label="<script>alert(1)</script>")
    text = evaluated(models, data, tmp_path / "out")
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_slices_of_volumes_are_compared_by_volume_in_ml(models, tmp_path, monkeypatch):
    pair(tmp_path / "data")
    seen = []
    monkeypatch.setattr(charts, "volumes", lambda rows, real=charts.volumes: seen.append(real(rows)) or seen[-1])
    text = evaluated(models, tmp_path / "data", tmp_path / "out")
    with open(tmp_path / "out" / "results.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["prompt"] == "exact"]
    for label, voxels in (("label 1", 6 * 20 * 3), ("label 3", 4 * 4)):  # of 0.5 x 0.8 x 3 mm
        mine = [row for row in rows if row["label"] == label]
        assert sum(float(row["volume_ref"]) for row in mine) == pytest.approx(voxels * 1.2)
        drawn = [3 * sum(float(row[name]) for row in mine) / 1000 for name in ("area_fp", "area_q")]
        assert seen[0]["p1", label] == pytest.approx(drawn)
    assert "HD95, mm" in text


def test_tables_and_pages_are_escaped():
    assert table(["a<b"], [["c&d"]]) == (
        '<div class="scroll"><table><thead><tr><th>a&lt;b</th></tr></thead>'
        "<tbody><tr><td>c&amp;d</td></tr></tbody></table></div>"
    )
    assert "<title>1 &lt; 2</title>" in page("1 < 2", [], "x")


@pytest.mark.parametrize(
    ("drop", "said"),
    [(0.012, "loses 1.2 points of Dice"), (-0.004, "gains 0.4 points of Dice"), (-0.0004, "has the same Dice")],
)
def test_what_is_lost_or_gained_is_said_in_a_sentence(drop, said):
    found = sentence({"dice_fp": 0.8, "dice_q": 0.8 - drop, "dice_drop": drop}, [])
    assert found.startswith(f"On average the quantized model {said} (80.0 in full precision,")


def test_numbers_are_set_as_people_write_them():
    assert typeset("mean loss -0.0034 of 1.9 % (-3 to -1)") == "mean loss −0.0034 of 1.9\u00a0% (−3 to −1)"  # noqa: RUF001
    assert typeset("w8-8, 2026-11-02, pre-1, a <b>") == "w8-8, 2026-11-02, pre-1, a &lt;b&gt;"


def test_pictures_show_the_object_and_as_much_again_on_each_side():
    mask = np.zeros((400, 500), bool)
    mask[100:140, 200:260] = True
    rows, columns = _region([mask, mask & False], (200.0, 100.0, 259.0, 139.0), mask.shape)
    assert (columns.stop - columns.start, rows.stop - rows.start) == (180, 180)
    assert (columns.start + columns.stop) // 2 in (229, 230)
    assert rows.start <= 60
    small = np.zeros((400, 500), bool)
    small[399, 499] = True
    assert _region([small], None, small.shape) == (slice(336, 400), slice(436, 500))
    assert _region([mask & False], None, mask.shape) == (slice(0, 400), slice(0, 500))
    assert _region([mask | True], None, mask.shape) == (slice(0, 400), slice(0, 500))


def test_many_criteria_are_said_in_few_words_and_drawn_in_few_bars():
    found = [tail_criterion(f"object {n}", np.zeros(5 + n)) for n in range(30)]
    verdict = decide(found, "Good.")
    assert verdict.word == "INCONCLUSIVE"
    assert verdict.reason.count("lose more than 0.1") == 6
    assert "And 24 more, which the report lists." in verdict.reason
    drawn = charts.criteria(found).decode()
    assert len(re.findall('<g id="xtick_', drawn)) > 2
    assert len(re.findall('<g id="ytick_', drawn)) == 20


def test_a_narrow_range_of_areas_has_numbers_that_can_be_read():
    """Between 3,400 and 56,000 pixels a logarithmic axis of powers of ten would have one number."""
    row = dict.fromkeys((field.name for field in fields(Row)), 0.9)
    words = {"case": "c", "view": "v", "dataset": "d", "patient": "p", "label": "l", "unit": "px"}
    rows = [Row(**{**row, **words, "area_fp": a, "area_q": a + 9, "volume_fp": None}) for a in (3400, 9000, 56000)]
    seen = []
    from matplotlib.figure import Figure

    real = Figure.savefig

    def look(figure, *arguments, **options):
        real(figure, *arguments, **options)
        seen.extend(label.get_text() for label in figure.axes[0].get_xticklabels())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", look)
        charts.bland_altman(rows)
    assert {"5,000", "10,000", "20,000", "50,000"} <= {*seen}


def test_losses_far_beyond_what_is_allowed_are_drawn():
    """A chart that ends at six times of what is allowed would show a bad failure as nothing at all."""
    bad = mean_criterion("Dice", np.linspace(0.3, 0.4, 20), 0.02)
    assert bad.state == BROKEN
    seen = []
    from matplotlib.figure import Figure

    real = Figure.savefig

    def look(figure, *arguments, **options):
        real(figure, *arguments, **options)
        seen.append(figure.axes[0].get_xlim()[1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", look)
        charts.criteria([bad, tail_criterion("Large losses", np.zeros(20))])
        charts.criteria([tail_criterion("Large losses", np.zeros(5))])
    assert seen[0] > 0.35 / 0.02
    assert seen[1] == pytest.approx(6)
