import csv
import io
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dfqsam.errors import InputError
from dfqsam.judgement import Filter, agreement, counts, preference, to_csv, write_csv
from dfqsam.judgement.record import COLUMNS, Judgement
from dfqsam.judgement.table import HEAD, safe_cell
from tests.judgement.world import FIGURES, FULL, KEY, START, W4A8, W8A8, new_store, subject


def vote_for(store, about, wanted):
    draw = store.draw(about)
    choice = wanted if wanted == "equal" else "left" if draw.left == wanted else "right"
    return store.vote(draw.id, about.rater, choice, FIGURES)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Seven judgements; a minute goes by at each draw, vote and verdict, the first at 12:02."""
    with new_store(tmp_path_factory.mktemp("review")) as store:
        store.accept(subject("anna", "1"), FIGURES)
        store.accept(subject("anna", "2", modality="MR"), FIGURES)
        store.reject(subject("anna", "3"), FIGURES, "leak")
        store.reject(subject("bernd", "1"), FIGURES, "leak", "B12")
        store.accept(subject("bernd", "2", modality="MR"), FIGURES)
        store.reject(subject("bernd", "3", quantized=W4A8, profile="w4a8"), FIGURES, "boundary")
        vote_for(store, subject("chen", "4"), "quantized")
        return store.judgements()


@pytest.mark.parametrize(
    ("chosen", "numbers"),
    [
        ({}, [2, 3, 4, 5, 6, 7, 9]),
        ({"bundle": W8A8}, [2, 3, 4, 5, 6, 9]),
        ({"bundle": "4444"}, [7]),
        ({"bundle": FULL[:8]}, [2, 3, 4, 5, 6, 7, 9]),
        ({"bundle": "0"}, []),
        ({"verdict": "reject"}, [4, 5, 7]),
        ({"rater": KEY.rater("bernd")}, [5, 6, 7]),
        ({"modality": "MR"}, [3, 6]),
        ({"rater": KEY.rater("bernd"), "modality": "MR", "verdict": "reject"}, []),
        ({"since": START + timedelta(minutes=4)}, [4, 5, 6, 7, 9]),
        ({"until": START + timedelta(minutes=4)}, [2, 3]),
        ({"since": datetime(2026, 1, 31, 7, 4, tzinfo=timezone(timedelta(hours=-5)))}, [4, 5, 6, 7, 9]),
        ({"since": datetime(2026, 2, 1, tzinfo=UTC)}, []),
    ],
)
def test_filters(stored, chosen, numbers):
    assert [item.sequence for item in Filter(**chosen).chosen(stored)] == numbers


def test_filters_that_are_refused():
    with pytest.raises(InputError, match="'maybe' is no verdict"):
        Filter(verdict="maybe")
    with pytest.raises(InputError, match="has no zone"):
        Filter(since=datetime(2026, 1, 1))


def test_counts(stored):
    assert counts(stored) == {
        "judgements": 7,
        "raters": 3,
        "studies": 4,
        "verdicts": {"accept": 3, "reject": 3, "prefer": 1},
        "reasons": {"leak": 2, "boundary": 1},
    }
    assert counts([])["verdicts"] == {"accept": 0, "reject": 0, "prefer": 0}


def test_agreement_over_studies_that_both_saw_with_the_same_models(stored):
    """Anna and Bernd share two studies: accept and reject, accept and accept; the third was of another bundle."""
    (pair,) = agreement(stored)
    assert {pair.one, pair.two} == {KEY.rater("anna"), KEY.rater("bernd")}
    assert (pair.kappa.n, pair.kappa.observed, pair.kappa.expected, pair.kappa.kappa) == (2, 0.5, 0.5, 0.0)
    assert agreement(stored, "preference") == []
    with pytest.raises(InputError, match="not on 'colour'"):
        agreement(stored, "colour")


def test_the_last_word_counts_and_three_raters_are_three_pairs(tmp_path):
    with new_store(tmp_path) as store:
        for rater in ("anna", "bernd", "chen"):
            store.reject(subject(rater, "1", slice=1), FIGURES, "leak")
            store.accept(subject(rater, "1", slice=2), FIGURES)
            store.reject(subject(rater, "2"), FIGURES, "leak")
        for pair in (pairs := agreement(store.judgements())):
            assert (pair.kappa.n, pair.kappa.observed, pair.kappa.kappa) == (2, 1, 1)
        assert len(pairs) == 3


def test_preference_by_hand(tmp_path):
    """8 of 10 for the quantized model: exact 0.4439 to 0.9748, Wilson 0.4902 to 0.9433."""
    wanted = ["quantized"] * 8 + ["full"] * 2 + ["equal"] * 3
    with new_store(tmp_path) as store:
        votes = [vote_for(store, subject(f"r{i % 4}", str(i % 5), slice=i), word) for i, word in enumerate(wanted)]
        store.accept(subject(), FIGURES)
        found = preference(store.judgements())
        assert [item.preferred for item in votes] == wanted
    assert (found.quantized, found.full, found.equal, found.share) == (8, 2, 3, 0.8)
    assert found.exact == pytest.approx((0.4439, 0.9748), abs=5e-5)
    assert found.wilson == pytest.approx((0.4902, 0.9433), abs=5e-5)
    theirs = stats.binomtest(8, 10).proportion_ci(0.95, "exact")
    assert found.exact == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert found.left == sum(item.judgement.choice == "left" for item in votes)
    assert (found.raters, found.studies) == (4, 5)


def test_no_preference_without_votes_for_either(tmp_path):
    with new_store(tmp_path) as store:
        vote_for(store, subject(), "equal")
        found = preference(store.judgements())
    assert (found.share, found.exact, found.wilson, found.equal) == (None, None, None, 1)
    assert preference([]).raters == 0


def test_csv_holds_every_field_and_comes_back(stored):
    rows = list(csv.DictReader(io.StringIO(to_csv(stored))))
    assert tuple(rows[0]) == HEAD
    for row, item in zip(rows, stored, strict=True):
        assert int(row.pop("sequence")) == item.sequence
        assert row.pop("preferred") == (item.preferred or "")
        document = {name: text or None for name, text in row.items()}
        numbers = {name: float(row[name]) for name in ("agreement", "hd95", "area_fp", "area_q")}
        assert Judgement.of({**document, **numbers, "slice": int(row["slice"])}) == item.judgement
    assert {*HEAD} == {*COLUMNS, "sequence", "preferred"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("", ""),
        ("CT", "CT"),
        (-1.5, "-1.5"),
        (1e-7, "1e-07"),
        ("+3", "+3"),
        ("=1+1", "'=1+1"),
        ("-2+3", "'-2+3"),
        ("+A1", "'+A1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("-", "'-"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        (" =1", "' =1"),
        ("\uff1d1", "'\uff1d1"),
        ("-1\n=2", "'-1\n=2"),
        ("-inf", "'-inf"),
        ("a=b", "a=b"),
    ],
)
def test_cells_that_a_spreadsheet_would_compute(value, text):
    assert safe_cell(value) == text


@given(st.text() | st.text(alphabet="=+-@\t\r\n |%0123456789.eE'\ufeff\uff0b"))
def test_no_cell_begins_as_a_formula_unless_it_is_a_number(text):
    cell = safe_cell(text)
    assert cell.removeprefix("'") == text.removeprefix("'")
    if cell.strip()[:1] in ("=", "+", "-", "@") or cell[:1] in ("\t", "\r"):
        float(cell)
        assert cell[0] not in "=@\t\r"


def test_csv_is_written_whole_or_not_at_all(tmp_path, stored):
    write_csv(tmp_path / "out.csv", stored)
    assert (tmp_path / "out.csv").read_bytes() == to_csv(stored).encode()
    write_csv(tmp_path / "out.csv", stored[:1])
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    with pytest.raises(InputError, match=r"out.csv cannot be written \(No such file or directory\)"):
        write_csv(tmp_path / "nowhere" / "out.csv", stored)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder cannot be written"):
        write_csv(tmp_path / "folder", stored)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "out.csv"]
