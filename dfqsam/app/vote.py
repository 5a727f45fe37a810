"""The blinded vote: which side is better, before anybody is told which model is where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from dfqsam.app import blinded, display, records, who
from dfqsam.app.case import Case
from dfqsam.app.judge import when
from dfqsam.app.records import Records
from dfqsam.app.session import Work
from dfqsam.app.settings import current
from dfqsam.errors import DfqsamError
from dfqsam.judgement import Draw, Figures, Stored

Place = tuple[int, str, int]  # number of the study, plane, slice
Named = dict[Place, tuple[Draw, Stored] | None]
# In the order of the panels above them; where they differ comes last.
CHOICES = {"left": "The left one is better", "right": "The right one is better", "equal": "No difference"}


@dataclass(frozen=True)
class Ballot:
    """How far a slice is in a blinded vote.

    Args:
        hidden: names must not be shown.
        draw: which model is on which side; None while nothing is drawn, and where there is no vote.
        vote: that was cast on this slice in this session.
        problem: why there can be no vote, one sentence.
    """

    hidden: bool = False
    draw: Draw | None = None
    vote: Stored | None = None
    problem: str = ""


def _place(case: Case) -> Place:
    return case.work.number, case.plane, case.k


def _named() -> Named:
    """Slices whose masks this session has seen with names, with the vote that came before that."""
    return st.session_state.setdefault("named", {})


def all_named(work: Work) -> None:
    """Take note that masks of all slices were shown with names, as in three planes."""
    if work.stacks or any(one.targets for one in work.prompts.values()):
        st.session_state.setdefault("all named", set()).add(work.number)


def ballot(case: Case) -> Ballot:
    """Where this slice stands; draws sides when its first masks are there, before anybody has seen them.

    A slice that was seen with names stays named: a vote on it would not be blind.
    """
    named, place = _named(), _place(case)
    if not who.blinded():
        if case.pairs:
            named.setdefault(place, None)
        return Ballot()
    if place in named:
        found = named[place]
        if found is not None:
            return Ballot(draw=found[0], vote=found[1])
        return Ballot(
            problem="This slice was shown with names before, so a vote on it would not be blind; take another."
        )
    if case.work.number in st.session_state.get("all named", ()):
        return Ballot(problem="All slices were shown with names, so a vote would not be blind; open another study.")
    kept = records.shared(current().judgements)
    if case.choice.full is None or not kept.on:
        return Ballot(problem="A blinded vote needs a bundle with its full-precision model, and a store of judgements.")
    if not case.pairs:
        return Ballot(hidden=True)
    try:
        subject = case.subject(kept.key, who.rater(kept.key))
        last: Draw | None = st.session_state.get("draw")
        if last is None or last.subject != subject:
            last = st.session_state["draw"] = kept.store.draw(subject)
    except DfqsamError as error:
        return Ballot(hidden=True, problem=str(error))
    return Ballot(hidden=True, draw=last)


def panels(found: Ballot, named: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The panels to show, of those with names."""
    if found.hidden:
        # Without a draw no mask is shown at all.
        shown = named if found.draw is not None else display.panels([], True, "")
        return blinded.panels(shown, "full" if found.draw is None else found.draw.left)
    return named if found.draw is None else blinded.revealed(named, found.draw.left)


def _cast(kept: Records, draw: Draw, choice: str, figures: Figures, place: Place, named: Named) -> None:
    """Store a vote. Looks into the session when all is done, as Streamlit may end a callback there (judge.py)."""
    try:
        stored = kept.store.vote(draw.id, draw.subject.rater, choice, figures)
    except DfqsamError as error:
        st.session_state["vote refused"] = str(error)
        st.session_state.pop("draw", None)
    else:
        named[place] = draw, stored
        st.session_state.pop("draw", None)


def show(case: Case, found: Ballot) -> None:
    """The buttons, before the vote."""
    kept = records.shared(current().judgements)
    refused = st.session_state.pop("vote refused", "") or found.problem
    if refused:
        st.error(f"There is no vote. {refused}", icon=":material/error:")
    if found.draw is None:
        if not refused:
            st.caption("Draw a box: two masks come without names, on sides settled by chance.")
        return
    st.markdown("#### Which mask is better?")
    figures = case.figures()
    for column, (choice, label) in zip(st.columns(3), CHOICES.items(), strict=True):
        column.button(
            label,
            key=f"vote {choice} {case.work.number} {case.plane} {case.k}",
            on_click=_cast,
            args=(kept, found.draw, choice, figures, _place(case), _named()),
            width="stretch",
        )
    st.caption("Names, times and sizes are shown after your vote, which cannot be changed.")


def result(found: Ballot) -> None:
    """What the vote was, once names are shown; why there is none, where there is none."""
    if found.vote is not None and found.draw is not None:
        words = blinded.result(str(found.vote.judgement.choice), found.draw.left)
        st.success(
            f"{words} Stored as entry {found.vote.sequence}, {when(found.vote)}; nothing of the patient is in it.",
            icon=":material/how_to_vote:",
        )
    elif found.problem:
        st.info(found.problem, icon=":material/info:")
