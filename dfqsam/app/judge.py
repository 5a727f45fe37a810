"""The verdict below the figures: accept, or reject with a reason; what was stored, and what had been before."""

from __future__ import annotations

import time

import streamlit as st
from streamlit.runtime.scriptrunner import RerunException

from dfqsam.app import records, who
from dfqsam.app.case import Case, same_case
from dfqsam.app.records import Records
from dfqsam.app.session import Verdict
from dfqsam.app.settings import current
from dfqsam.errors import DfqsamError
from dfqsam.judgement import REASONS, SiteKey, Stored

DONE = {"accept": "accepted", "reject": "rejected", "prefer": "voted on blinded"}
DOUBLE = 1.0  # seconds within which a second press of the same button is the same press


def when(stored: Stored) -> str:
    """Day and time of a judgement, UTC."""
    return f"{stored.judgement.time[:10]} {stored.judgement.time[11:16]} UTC"


def said(stored: Stored) -> str:
    """A judgement in a few words."""
    judgement = stored.judgement
    words = DONE[judgement.verdict]
    if judgement.reason is not None:
        words += f" ({REASONS[judgement.reason].lower()}{'' if judgement.code is None else f', {judgement.code}'})"
    return words


def _asked(key: SiteKey, keys: tuple[str, str] | None) -> tuple[str, str | None, str | None]:
    """Who judges, and the reason and the code of a rejection."""
    rater = who.rater(key)
    if keys is None:
        return rater, None, None
    return rater, str(st.session_state.get(keys[0])), str(st.session_state.get(keys[1]) or "").strip().upper() or None


def _record(kept: Records, place: str, case: Case, keys: tuple[str, str] | None) -> None:
    """Store a verdict on what was on the screen when the button was pressed; a double click is one verdict."""
    last, now, later = case.work.verdict, time.monotonic(), None
    if last and (last.place, last.accepts) == (place, keys is None) and last.stored and now - last.time < DOUBLE:
        return
    # Streamlit (1.67) ends a callback at its next look into the session where a rerun of the whole page is asked for in
    # that moment, and does not call it again. So it looks once more, and no more after that. (What is asked for before
    # the callback begins, within a millisecond of the press, still takes its place.)
    try:
        asked = _asked(kept.key, keys)
    except RerunException as ended:
        later, asked = ended, _asked(kept.key, keys)
    rater, reason, code = asked
    try:
        subject, figures = case.subject(kept.key, rater), case.figures()
        if reason is None:
            stored = kept.store.accept(subject, figures)
        else:
            stored = kept.store.reject(subject, figures, reason, code)
    except DfqsamError as error:
        case.work.verdict = Verdict(place, keys is None, None, str(error), time.monotonic())
    else:
        case.work.verdict = Verdict(place, keys is None, stored, "", time.monotonic())
    if later is not None:
        raise later


def before(kept: Records, case: Case) -> tuple[list[Stored], list[Stored]]:
    """Earlier judgements of the same slice and models: by the same person, and by others. Makes no file.

    Raises:
        DfqsamError: when the store cannot be read, or the case cannot be judged.
    """
    if not kept.begun:
        return [], []
    subject = case.subject(kept.key, who.rater(kept.key))
    found = [one for one in kept.judgements() if same_case(one.judgement.subject, subject)]
    own = [one for one in found if one.judgement.subject.rater == subject.rater]
    return own, [one for one in found if one.judgement.subject.rater != subject.rater]


def _told(case: Case, place: str, own: list[Stored], others: list[Stored]) -> None:
    """What was stored just now, and what was there before."""
    last, now = case.work.verdict, None
    if last is not None and last.place == place:
        now = last.stored
        if now is None:
            st.error(f"Not stored. {last.refused}", icon=":material/error:")
        else:
            words = said(now)
            words = words[0].upper() + words[1:]
            if not last.told:  # seen wherever the page is scrolled to
                st.toast(f"{words}. Stored as entry {now.sequence}.", icon=":material/check_circle:")
                last.told = True
            st.success(
                f"{words}. Stored as entry {now.sequence}, {when(now)}; nothing of the patient is in it.",
                icon=":material/check_circle:",
            )
    earlier = [one for one in own if now is None or one.sequence != now.sequence]
    if earlier:
        words = "; ".join(f"{said(one)}, {when(one)}" for one in earlier[-3:])
        again = (
            "Judged again"
            if now is not None
            else "You have judged this slice before; a further judgement is kept beside it"
        )
        st.info(f"{again}. Before: {words}{'' if len(earlier) < 4 else f', and {len(earlier) - 3} more'}.")
    if others:
        people = len({one.judgement.subject.rater for one in others})
        st.caption(f"{'Another person has' if people == 1 else f'{people} other people have'} judged this slice too.")


def show(case: Case) -> None:
    """Draw it for a slice with masks."""
    kept = records.shared(current().judgements)
    if not kept.on or not case.pairs:
        return
    st.markdown("#### Your judgement")
    if case.choice.full is None:
        st.caption("Judging compares both models; choose a bundle with its full-precision model.")
        return
    try:
        own, others = before(kept, case)
    except DfqsamError as error:
        st.error(f"Nothing can be judged. {error}", icon=":material/error:")
        return
    count = len(case.pairs)
    many = "" if count == 1 else f" ({count} objects together)"
    st.caption(f"Is the quantized mask of this slice{many} good enough, beside the full-precision one?")
    place = f"{case.work.number} {case.plane} {case.k} {case.choice.name}"
    keys = f"reason {place} {len(own)}", f"code {place} {len(own)}"
    columns = st.columns([1.1, 2.6, 1.1, 3], vertical_alignment="bottom")
    columns[0].button(
        "Accept",
        key=f"accept {place}",
        icon=":material/check:",
        on_click=_record,
        args=(kept, place, case, None),
        width="stretch",
    )
    reason = columns[1].selectbox(
        "Reason to reject",
        list(REASONS),
        index=None,
        key=keys[0],
        format_func=lambda one: REASONS[one],
        placeholder="choose a reason to reject",
    )
    columns[2].button(
        "Reject",
        key=f"reject {place}",
        icon=":material/close:",
        disabled=reason is None,
        on_click=_record,
        args=(kept, place, case, keys),
        width="stretch",
    )
    if reason is not None:
        columns[3].text_input(
            "Code of your own list (optional)", key=keys[1], max_chars=4, placeholder="a letter and a number: B12"
        )
    _told(case, place, own, others)
