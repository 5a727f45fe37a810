"""What a judgement says.

Every field is a number, a pseudonym or a word of a fixed list: there is no free text, in which a patient's name could
be written down.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any, Self

from dfqsam.errors import InputError

VERDICTS = ("accept", "reject", "prefer")
CHOICES = ("left", "right", "equal")
SIDES = ("left", "right")
PROMPTS = ("box", "point", "box+point", "propagated")
PLANES = ("stored", "axial", "coronal", "sagittal")  # of dfqsam.imaging
UNITS = ("mm", "px")
# Why a mask is rejected: the word that is stored, and what a person chooses.
REASONS = {
    "boundary": "The outline is in the wrong place",
    "leak": "The mask spills into neighbouring tissue",
    "missing": "A part of the object is missing",
    "fragments": "Holes, islands or frayed edges",
    "wrong-object": "Another object was outlined",
    "empty": "Nothing, or nearly nothing, was outlined",
    "image": "The picture does not allow an outline",
    "other": "Something else, see the code",
}
# DICOM's codes of modality (C.7.3.1.1.1) for pictures; OT is "other".
MODALITIES = (
    *("AR", "BI", "BMD", "CR", "CT", "DG", "DMS", "DX", "ES", "GM", "IO", "IVOCT", "IVUS", "LS", "MG", "MR", "NM"),
    *("OAM", "OCT", "OP", "OPM", "OPT", "OPTBSV", "OPTENF", "OT", "PT", "PX", "RF", "RG", "SM", "TG", "US", "XA", "XC"),
)
SHA256 = re.compile(r"[0-9a-f]{64}")
PSEUDONYM = re.compile(r"[0-9a-f]{32}")
RATER = re.compile(r"(login|session)-[0-9a-f]{32}")
PROFILE = re.compile(r"[wW][0-9]{1,2}[aA][0-9]{1,2}")
CODE = re.compile(r"[A-Z][0-9]{1,3}")
TIME = re.compile(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z")
DIGITS = 6


def modality_code(text: str | None) -> str:
    """DICOM's code of a modality, or OT (other) where it is none that is known: a picture's, or a site's own word."""
    code = (text or "").strip().upper()
    return code if code in MODALITIES else "OT"


def _spelled(name: str, value: object, pattern: re.Pattern[str], example: str) -> None:
    if type(value) is not str or not pattern.fullmatch(value):
        raise InputError(f"The judgement's {name} is not {example}; texts and names of patients are not stored.")


def _one_of(name: str, value: object, words: Sequence[str]) -> None:
    if type(value) is not str or value not in words:
        raise InputError(f"The judgement's {name} is none of: {', '.join(words)}.")


def _number(name: str, value: object, most: float) -> float:
    # NumPy's numbers are Real too, and become plain ones here.
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= float(value) <= most:
        raise InputError(f"The judgement's {name} is no number from 0 to {most:g}.")
    return round(float(value), DIGITS) + 0.0


@dataclass(frozen=True)
class Subject:
    """What somebody judges: two models' masks on one slice.

    Attributes:
        rater: of :meth:`SiteKey.rater` or :func:`session_rater`.
        study: of :meth:`SiteKey.study`.
        modality: one of MODALITIES; :func:`modality_code` gives it.
        plane: stored, axial, coronal or sagittal.
        slice: from 0 on; 0 of a picture.
        full, quantized: SHA-256 of the two bundles.
        profile: of the quantized one, such as w8a8.
        prompt: box, point, box+point, or propagated from another slice.

    Raises:
        InputError: for a value of any other form.
    """

    rater: str
    study: str
    modality: str
    plane: str
    slice: int
    full: str
    quantized: str
    profile: str
    prompt: str

    def __post_init__(self) -> None:
        _spelled("rater", self.rater, RATER, "a rater's pseudonym or a session's id")
        _spelled("study", self.study, PSEUDONYM, "a study's pseudonym")
        _one_of("modality", self.modality, MODALITIES)
        _one_of("plane", self.plane, PLANES)
        if not isinstance(self.slice, Integral) or isinstance(self.slice, bool) or not 0 <= self.slice < 2**31:
            raise InputError("The judgement's slice is no whole number from 0 on.")
        object.__setattr__(self, "slice", int(self.slice))
        _spelled("full-precision bundle", self.full, SHA256, "a SHA-256 in small hexadecimal digits")
        _spelled("quantized bundle", self.quantized, SHA256, "a SHA-256 in small hexadecimal digits")
        _spelled("profile", self.profile, PROFILE, "a profile such as w8a8")
        _one_of("prompt", self.prompt, PROMPTS)


@dataclass(frozen=True)
class Figures:
    """What was measured on the two masks that were judged, rounded to 6 digits.

    Attributes:
        unit: mm or, where the spacing is unknown, px; of hd95 and (squared) of the areas.
        agreement: Dice between the two masks, 0 to 1.
        hd95: 95th percentile of the distance between the two outlines; None (or infinite) where a mask is
            empty.
        area_fp, area_q: of the full-precision and the quantized mask.

    Raises:
        InputError: for a value out of range.
    """

    unit: str
    agreement: float
    hd95: float | None
    area_fp: float
    area_q: float

    def __post_init__(self) -> None:
        _one_of("unit", self.unit, UNITS)
        object.__setattr__(self, "agreement", _number("agreement", self.agreement, 1))
        endless = isinstance(self.hd95, float) and math.isinf(self.hd95)
        if self.hd95 is not None:
            object.__setattr__(self, "hd95", None if endless else _number("HD95", self.hd95, 1e9))
        for name in ("area_fp", "area_q"):
            object.__setattr__(self, name, _number(name, getattr(self, name), 1e12))


@dataclass(frozen=True)
class Draw:
    """Which model is on which side, settled before the vote.

    Attributes:
        id: 32 hexadecimal digits.
        left: ``full`` or ``quantized``. It must not reach the browser before the vote.
    """

    id: str
    subject: Subject
    left: str
    time: str

    def __post_init__(self) -> None:
        _spelled("draw", self.id, PSEUDONYM, "the id of a draw")
        _one_of("side", self.left, ("full", "quantized"))
        _spelled("time", self.time, TIME, "a time in UTC")

    @property
    def right(self) -> str:
        """The model on the other side."""
        return "quantized" if self.left == "full" else "full"

    def preferred(self, choice: str) -> str:
        """``full``, ``quantized`` or ``equal``."""
        return choice if choice == "equal" else getattr(self, choice)


@dataclass(frozen=True)
class Judgement:
    """One person's judgement.

    Attributes:
        verdict: accept or reject (of the quantized mask), or prefer (one of two masks, blinded).
        time: UTC, as 2026-01-31T12:00:00.000Z.
        reason: of a rejection, one of REASONS, else None.
        code: of a rejection, a letter and up to three digits of the site's own list, or None.
        draw: id of a preference's draw, else None.
        choice: of a preference, left, right or equal, else None.

    Raises:
        InputError: for fields that do not go together or are of any other form.
    """

    subject: Subject
    figures: Figures
    verdict: str
    time: str
    reason: str | None = None
    code: str | None = None
    draw: str | None = None
    choice: str | None = None

    def __post_init__(self) -> None:
        _one_of("verdict", self.verdict, VERDICTS)
        _spelled("time", self.time, TIME, "a time in UTC")
        if (self.verdict == "reject") != (self.reason is not None) or (self.code is not None and self.reason is None):
            raise InputError("A rejection has a reason, and nothing else has a reason or a code.")
        if not (self.verdict == "prefer") == (self.draw is not None) == (self.choice is not None):
            raise InputError("A preference has a draw and a choice, and nothing else has them.")
        if self.reason is not None:
            _one_of("reason", self.reason, tuple(REASONS))
        if self.code is not None:
            _spelled("code", self.code, CODE, "a capital letter and one to three digits, such as B12")
        if self.draw is not None:
            _spelled("draw", self.draw, PSEUDONYM, "the id of a draw")
            _one_of("choice", self.choice, CHOICES)

    def to_json(self) -> dict[str, Any]:
        """All fields in one level, as they are stored."""
        own = {name: getattr(self, name) for name in OWN}
        return {**asdict(self.subject), **asdict(self.figures), **own}

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """From what :meth:`to_json` gave.

        Raises:
            InputError: for other keys or values.
        """
        subject, figures = _part(document, SUBJECT), _part(document, FIGURES)
        return cls(Subject(**subject), Figures(**figures), **_part(document, OWN, len(COLUMNS)))


SUBJECT = tuple(field.name for field in fields(Subject))
FIGURES = tuple(field.name for field in fields(Figures))
OWN = tuple(field.name for field in fields(Judgement) if field.name not in ("subject", "figures"))
COLUMNS = ("time", *SUBJECT, *FIGURES, *(name for name in OWN if name != "time"))
DRAW = ("id", "left", "time")


def _part(document: dict[str, Any], names: Sequence[str], total: int | None = None) -> dict[str, Any]:
    if not document.keys() >= {*names} or (total is not None and len(document) != total):
        raise InputError("The record has other fields than this version of dfqsam knows.")
    return {name: document[name] for name in names}


def draw_to_json(draw: Draw) -> dict[str, Any]:
    """All fields in one level, as they are stored."""
    return {**asdict(draw.subject), **{name: getattr(draw, name) for name in DRAW}}


def draw_of(document: dict[str, Any]) -> Draw:
    """From what :func:`draw_to_json` gave.

    Raises:
        InputError: for other keys or values.
    """
    subject = Subject(**_part(document, SUBJECT))
    return Draw(subject=subject, **_part(document, DRAW, len(SUBJECT) + len(DRAW)))
