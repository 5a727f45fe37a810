"""What a record may hold, and above all what it may not."""

import dataclasses
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.errors import InputError
from dfqsam.imaging import PLANES
from dfqsam.judgement import Draw, Figures, Judgement, Subject, modality_code
from dfqsam.judgement import record as module
from dfqsam.judgement.record import COLUMNS, draw_of, draw_to_json
from tests.judgement.world import FIGURES, subject

TIME = "2026-01-31T12:00:00.000Z"
DRAW = "d" * 32
GOOD = [
    Judgement(subject(), FIGURES, "accept", TIME),
    Judgement(subject(), FIGURES, "reject", TIME, "leak"),
    Judgement(subject(), FIGURES, "reject", TIME, "other", "B12"),
    Judgement(subject(), FIGURES, "prefer", TIME, draw=DRAW, choice="equal"),
    Judgement(subject(rater="x", plane="stored", slice=0), Figures("px", 0, None, 0, 0), "accept", TIME),
]


@pytest.mark.parametrize("judgement", GOOD)
def test_a_record_comes_back_from_what_is_stored(judgement):
    document = judgement.to_json()
    assert {*document} == {*COLUMNS}
    assert Judgement.of(document) == judgement


def test_a_draw_comes_back_and_knows_its_sides():
    draw = Draw(DRAW, subject(), "quantized", TIME)
    assert draw_of(draw_to_json(draw)) == draw
    assert draw.right == "full"
    assert [draw.preferred(choice) for choice in ("left", "right", "equal")] == ["quantized", "full", "equal"]
    assert dataclasses.replace(draw, left="full").right == "quantized"


LETTERS = string.ascii_letters + " ,.-'^"
NAMES = (st.text(LETTERS) | st.text()).map("Doe^{}".format)


@given(st.sampled_from(COLUMNS), st.sampled_from(GOOD), NAMES)
def test_no_field_takes_free_text(column, judgement, text):
    """Names, notes and dates of birth have no place to go."""
    with pytest.raises(InputError) as error:
        Judgement.of({**judgement.to_json(), column: text})
    assert "Doe^" not in str(error.value)  # nor do they get into a log of errors


@pytest.mark.parametrize("code", ["", "b12", "B", "B1234", "BB1", "B12\n", "B 1", "B\u0661", "Müller"])
def test_a_code_is_a_letter_and_digits(code):
    with pytest.raises(InputError, match="code is not a capital letter and one to three digits"):
        Judgement(subject(), FIGURES, "reject", TIME, "other", code)


@pytest.mark.parametrize(
    "fields",
    [
        {"verdict": "accept", "reason": "leak"},
        {"verdict": "accept", "code": "B12"},
        {"verdict": "reject"},
        {"verdict": "reject", "code": "B12"},
        {"verdict": "reject", "reason": "ugly"},
        {"verdict": "prefer"},
        {"verdict": "prefer", "draw": DRAW},
        {"verdict": "prefer", "choice": "left"},
        {"verdict": "prefer", "draw": DRAW, "choice": "quantized"},
        {"verdict": "prefer", "draw": DRAW, "choice": "left", "reason": "leak"},
        {"verdict": "accept", "draw": DRAW, "choice": "left"},
        {"verdict": "maybe"},
        {"verdict": None},
        {"verdict": "accept", "time": "2026-01-31 12:00"},
        {"verdict": "accept", "time": "2026-01-31T12:00:00.000+01:00"},
    ],
)
def test_fields_that_do_not_go_together(fields):
    with pytest.raises(InputError):
        Judgement(subject(), FIGURES, **{"time": TIME, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"rater": "anna"},
        {"rater": "login-" + "A" * 32},
        {"study": "1.2.840.113619"},
        {"modality": "ct"},
        {"modality": "Head of Mr. X"},
        {"plane": "oblique"},
        {"slice": -1},
        {"slice": True},
        {"slice": 1.0},
        {"slice": "3"},
        {"full": "f" * 63},
        {"quantized": "F" * 64},
        {"profile": "good"},
        {"prompt": "lasso"},
        {"prompt": ["box"]},
    ],
)
def test_subjects_that_are_refused(fields):
    with pytest.raises(InputError, match="judgement's"):
        dataclasses.replace(subject(), **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"unit": "cm"},
        {"agreement": 1.0001},
        {"agreement": -0.1},
        {"agreement": float("nan")},
        {"agreement": "0.9"},
        {"agreement": True},
        {"agreement": None},
        {"hd95": -1.0},
        {"hd95": float("nan")},
        {"area_fp": float("inf")},
        {"area_q": -1},
    ],
)
def test_figures_that_are_refused(fields):
    with pytest.raises(InputError, match="judgement's"):
        dataclasses.replace(FIGURES, **fields)


def test_numbers_of_numpy_become_plain_ones():
    about = subject(slice=np.int64(3))
    figures = Figures("mm", np.float32(0.5), np.float64("inf"), np.int32(7), np.float64(1 / 3))
    assert about == subject(slice=3)
    assert type(about.slice) is int
    assert figures == Figures("mm", 0.5, None, 7.0, 0.333333)
    assert {type(value) for value in dataclasses.astuple(figures)[1:]} == {float, type(None)}


@pytest.mark.parametrize("change", [{"name": "x"}, {"study": None}, {"time": 3}])
def test_other_fields_are_refused(change):
    with pytest.raises(InputError):
        Judgement.of({**GOOD[0].to_json(), **change})
    with pytest.raises(InputError):
        draw_of({**draw_to_json(Draw(DRAW, subject(), "full", TIME)), **change})


def test_a_missing_field_is_refused():
    for name in COLUMNS:
        document = GOOD[0].to_json()
        del document[name]
        with pytest.raises(InputError, match="other fields"):
            Judgement.of(document)


def test_planes_are_those_of_imaging():
    assert module.PLANES == PLANES


@pytest.mark.parametrize(
    ("text", "code"),
    [("CT", "CT"), (" mr ", "MR"), ("", "OT"), (None, "OT"), ("CT angiography", "OT"), ("fundus", "OT")],
)
def test_modalities_are_dicom_codes(text, code):
    assert modality_code(text) == code
    assert Subject(**{**dataclasses.asdict(subject()), "modality": code}).modality == code
