"""What is judged and what is kept of it: cases, the store's folder, blinded panels, rows of the review."""

import json
import threading
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.app import blinded, cards, display, review_parts
from dfqsam.app.case import Case, prompt_kind, same_case
from dfqsam.app.identity import study_id
from dfqsam.app.models import Library
from dfqsam.app.prompts import Target
from dfqsam.app.records import Records, default_folder, shared
from dfqsam.app.session import Work
from dfqsam.app.settings import Settings
from dfqsam.errors import ChainError, InputError
from dfqsam.evaluate.metrics import dice
from dfqsam.imaging import Volume, open_uploads
from dfqsam.judgement import REASONS, agreement, counts, preference
from dfqsam.judgement.review import Preference
from tests.evaluate.world import SIDE, toy_bundle
from tests.imaging import made
from tests.judgement.world import FIGURES, KEY, fill, new_store, subject

SHRINK = 2


@pytest.fixture
def choice(tmp_path):
    return Library(Settings((toy_bundle(tmp_path / "bundle", SHRINK).path,))).choices["Toy w8a8"]


def white(slices: int = 3, value: int = 200) -> Volume:
    affine = np.array([[0, 0, -0.5, 3], [0, -0.75, 0, 4], [2.5, 0, 0, 5], [0, 0, 0, 1]])
    return Volume(np.full((slices, SIDE, SIDE), value, np.int16), (2.5, 0.75, 0.5), affine, "MR")


def case_of(choice, *boxes, k: int = 1, volume: Volume | None = None) -> Case:
    work = Work("a", volume or white())
    objects = [{"box": list(box), "points": []} for box in boxes]
    sent = {"epoch": f"0/{work.plane}/{k}", "revision": 1, "objects": objects, "selected": len(boxes) - 1}
    work.take(sent)
    picture = work.volume.picture(k, work.view)
    pairs = work.answers(choice, k, picture, None)
    drawn = work.drawn(k)
    numbers = range(1, len(boxes) + 1)
    objects, targets = (dict(zip(numbers, found, strict=True)) for found in (pairs, drawn.targets))
    return Case.of(work, choice, k, None, picture, objects, targets, drawn.selected)


def test_all_objects_of_a_slice_are_judged_as_one(choice):
    case = case_of(choice, (5, 5, 20, 20), (15, 15, 40, 36))
    full, quantized = np.zeros((2, SIDE, SIDE), bool)
    for x0, y0, x1, y1 in ((5, 5, 20, 20), (15, 15, 40, 36)):
        # The picture is white: the quantized mask is two pixels smaller on each side (tests.evaluate.world).
        full[y0 : y1 + 1, x0 : x1 + 1] = True
        quantized[y0 + SHRINK : y1 + 1 - SHRINK, x0 + SHRINK : x1 + 1 - SHRINK] = True
    pair = case.pair()
    assert np.array_equal(pair.full.mask, full)
    assert np.array_equal(pair.quantized.mask, quantized)
    figures = case.figures()
    assert figures.agreement == pytest.approx(dice(full, quantized), abs=1e-6)
    assert (figures.area_fp, figures.area_q) == (full.sum() * 0.375, quantized.sum() * 0.375)
    assert figures.unit == "mm"
    about = case.subject(KEY, KEY.rater("anna"))
    assert (about.modality, about.plane, about.slice, about.prompt) == ("MR", "axial", 1, "box")
    assert about.full == about.quantized == choice.bundle.sha256
    assert about.study == KEY.study(study_id(case.work.volume))


def test_without_a_full_precision_model_nothing_is_judged(tmp_path):
    choice = Library(Settings((toy_bundle(tmp_path / "b", 1, full=False).path,))).choices["Toy w8a8"]
    case = case_of(choice, (5, 5, 20, 20))
    assert not case.comparable
    with pytest.raises(InputError, match="Judging compares both models"):
        case.figures()
    with pytest.raises(InputError, match="Judging compares both models"):
        case.subject(KEY, KEY.rater("anna"))
    with pytest.raises(InputError, match="draw a box first"):
        case_of(choice).pair()


def test_a_study_is_named_by_its_uid_or_by_its_voxels():
    files = {f"{n}.dcm": made.written(one) for n, one in enumerate(made.placed(np.full((2, 8, 8), 7, np.uint16)))}
    assert study_id(open_uploads(files)) == "1.2.3"
    one, same, other = study_id(white()), study_id(white()), study_id(white(value=201))
    assert one == same != other
    assert len(one) == 64
    flat = Volume(np.zeros((1, 4, 6), np.uint8))
    assert study_id(flat) != study_id(Volume(np.zeros((1, 6, 4), np.uint8)))
    turned = Volume(np.asfortranarray(white().array))
    assert study_id(turned) == study_id(Volume(white().array))


def test_kinds_of_prompts_have_the_words_of_the_store():
    box, point = Target((0, 0, 5, 5)), Target(None, ((1, 1, 1),))
    assert [prompt_kind(one) for one in ([box], [point], [box, point])] == ["box", "point", "box+point"]
    assert prompt_kind([box, None]) == prompt_kind([None]) == "propagated"


def test_the_same_case_is_the_same_slice_and_models_by_anybody():
    one = subject("anna")
    assert same_case(one, subject("bernd"))
    assert same_case(one, replace(one, prompt="point"))
    for change in ({"slice": 4}, {"plane": "coronal"}, {"quantized": "4" * 64}):
        assert not same_case(one, subject("anna", **change))
    assert not same_case(one, subject("anna", "1.2.4"))


def test_the_folder_of_judgements_is_made_when_first_needed(tmp_path):
    records = Records(tmp_path / "new" / "judgements")
    assert records.on
    assert not records.begun
    assert records.judgements() == []
    assert not (tmp_path / "new").exists()
    records.store.accept(replace(subject(), rater=records.key.rater("anna")), FIGURES)
    assert records.begun
    assert [one.judgement.verdict for one in Records(records.folder).judgements()] == ["accept"]
    assert {path.name.removesuffix("-wal").removesuffix("-shm") for path in records.folder.iterdir()} == {
        "judgements.sqlite",
        "site.key",
    }
    assert (records.folder / "site.key").stat().st_mode & 0o077 == 0
    assert records.folder.stat().st_mode & 0o077 == 0


def test_all_sessions_share_one_store(tmp_path):
    found = []
    threads = [threading.Thread(target=lambda: found.append(shared(tmp_path).store)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(store) for store in found}) == 1
    found[0].close()


def test_a_viewer_without_a_folder_keeps_nothing(tmp_path, monkeypatch):
    assert not Records(None).on
    assert Records(None).judgements() == []
    with pytest.raises(InputError, match="--judgements FOLDER"):
        _ = Records(None).store
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        _ = Records(tmp_path / "file" / "x").store
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "dfqsam"


LEAKS = ("uantized", "full", "Full", "w8a8", "Toy", display.FULL, display.QUANTIZED)


def named_panels(case: Case) -> list[dict]:
    return display.panels(case.pairs, True, "Quantized (w8a8)")


def test_blinded_panels_hold_the_masks_and_no_word_of_the_models(choice):
    case = case_of(choice, (5, 5, 20, 20), (30, 30, 50, 50))
    named = named_panels(case)
    one, other = blinded.panels(named, "full"), blinded.panels(named, "quantized")
    for shown in (one, other):
        assert [panel["title"] for panel in shown] == ["Left", "Right", "Where they differ"]
        text = json.dumps(shown)
        assert not [word for word in LEAKS if word in text]
        assert {layer["colour"] for panel in shown[:2] for layer in panel["layers"]} == {blinded.MASK}
    runs = [[layer["runs"] for layer in panel["layers"]] for panel in one]
    swapped = [[layer["runs"] for layer in panel["layers"]] for panel in other]
    assert runs[0] == [display.runs(pair.full.mask) for pair in case.pairs] == swapped[1]
    assert runs[1] == [display.runs(pair.quantized.mask) for pair in case.pairs] == swapped[0]
    assert one[2] == other[2], "the difference panel tells the sides apart"


def test_before_anything_is_drawn_blinded_panels_are_empty():
    shown = blinded.panels(display.panels([], True, ""), "full")
    assert [panel["layers"] for panel in shown] == [[], [], []]


def test_what_differs_looks_the_same_whichever_model_has_more(choice):
    """Both models' masks change places: the panel that shows where they differ must not change."""
    named = named_panels(case_of(choice, (5, 5, 20, 20)))
    full, quantized, difference = named
    both, only_full, only_quantized = difference["layers"]
    turned = {
        **difference,
        "layers": [both, {**only_full, "runs": only_quantized["runs"]}, {**only_quantized, "runs": only_full["runs"]}],
    }
    assert blinded.panels(named, "full")[2] == blinded.panels([quantized, full, turned], "full")[2]


def test_after_the_vote_panels_keep_their_sides_and_have_names(choice):
    named = named_panels(case_of(choice, (5, 5, 20, 20)))
    shown = blinded.revealed(named, "quantized")
    assert [panel["title"] for panel in shown] == ["Left: quantized (w8a8)", "Right: full precision", "Difference"]
    assert shown[0]["layers"] == named[1]["layers"]


FULL, QUANTIZED = "the full-precision model", "the quantized model"


@pytest.mark.parametrize(
    ("vote", "left", "words"),
    [
        ("left", "full", f"You preferred the left mask: {FULL}. On the right was {QUANTIZED}."),
        ("right", "full", f"You preferred the right mask: {QUANTIZED}. On the left was {FULL}."),
        ("left", "quantized", f"You preferred the left mask: {QUANTIZED}. On the right was {FULL}."),
        ("equal", "full", f"You saw no difference. On the left was {FULL}, on the right {QUANTIZED}."),
    ],
)
def test_a_vote_is_told_with_the_side_it_was_on(vote, left, words):
    assert blinded.result(vote, left) == words


def test_the_banner_of_a_blinded_vote_names_the_bundle_and_not_the_model(choice):
    shown = blinded.banner(choice)
    assert "For research use, not for diagnosis" in shown
    assert choice.bundle.sha256[:12] in shown
    assert not [word for word in ("Toy", "w8a8") if word in shown]
    assert "Toy" not in cards.understood(choice, "This model")
    assert "Toy" in cards.understood(choice)


def test_rows_of_the_review_say_how_often_a_slice_was_judged(tmp_path):
    with new_store(tmp_path) as store:
        store.accept(subject("anna"), FIGURES)
        store.reject(subject("bernd"), FIGURES, "leak", "B12")
        store.reject(subject("anna"), FIGURES, "boundary")
        vote = store.draw(subject("anna", slice=4))
        store.vote(vote.id, vote.subject.rater, "equal", FIGURES)
        stored = store.judgements()
    rows = review_parts.rows(stored, stored)
    assert [row["entry"] for row in rows] == [6, 4, 3, 2]
    assert [row["judgement of this slice"] for row in rows] == ["1", "3 (no. 2 of this judge)", "2", "1"]
    assert rows[2]["reason or vote"] == f"{REASONS['leak']}, B12"
    assert rows[0]["reason or vote"] == "no difference"
    assert rows[0]["verdict"] == "blinded vote"
    assert rows[3]["slice"] == "axial 4"
    assert rows[3]["HD95"] == "1.50 mm"
    # Filtered, a row still says which of all judgements of its slice it is.
    assert review_parts.rows(stored, stored[2:3])[0]["judgement of this slice"] == "3 (no. 2 of this judge)"


def test_the_preference_is_the_stores_own_in_words_and_as_a_bar(tmp_path):
    with new_store(tmp_path) as store:
        for i in range(10):
            draw = store.draw(subject("anna", f"1.{i}"))
            side = "left" if (draw.left == "quantized") == (i < 8) else "right"
            store.vote(draw.id, draw.subject.rater, side, FIGURES)
        found = preference(store.judgements())
    shown = review_parts.preference(found)
    # 8 of 10, Clopper-Pearson: 44.39 % to 97.48 %; Wilson: 49.02 % to 94.33 % (tables).
    assert "Quantized in 80.0 %" in shown
    assert "44.4 % to 97.5 % (Clopper-Pearson)" in shown
    assert "49.0 % to 94.3 % (Wilson)" in shown
    assert "left:44.4%;width:53.1%" in shown
    assert "10 votes of 1 judge on 10 studies" in shown
    none = Preference(0, 0, 3, 0, None, None, None, 1, 2)
    assert "No vote was for either model yet" in review_parts.preference(none)


def test_counts_and_agreement_are_shown_as_the_store_counts_them(tmp_path):
    with new_store(tmp_path) as store:
        fill(store, 12)
        stored = store.judgements()
    shown = review_parts.counted(counts(stored), 3)
    for part in ("<b>12</b><small>2 judges, 6 studies", "leak 4", "3 shown without a vote"):
        assert part in shown
    pairs = review_parts.agreement(agreement(stored), subject("anna").rater)
    assert {len(row) for row in pairs} == {5}
    assert all("(you)" in row["judge"] + row["and"] for row in pairs)


@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)))
def test_days_of_a_filter_hold_all_their_hours(value):
    begin, end = review_parts.day(value), review_parts.day(value, end=True)
    assert (end - begin).total_seconds() == 86400
    assert begin.date() == value


def test_an_altered_store_is_reported_with_its_entry(tmp_path):
    import sqlite3

    records = Records(tmp_path)
    for _ in range(3):
        records.store.accept(replace(subject(), rater=records.key.rater("anna")), FIGURES)
    with sqlite3.connect(tmp_path / "judgements.sqlite") as connection:
        for name in ("no_update", "no_delete", "only_next"):
            sql = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
            connection.execute(f"DROP TRIGGER {name}")
            if name == "no_update":
                connection.execute("UPDATE entries SET body = replace(body, 'accept', 'reject') WHERE sequence = 3")
            connection.execute(sql)
    connection.close()
    with pytest.raises(ChainError, match="Entry 3 does not match its hash"):
        records.store.verify()
    with pytest.raises(ChainError, match="Entry 3"):
        _ = Records(tmp_path).store
