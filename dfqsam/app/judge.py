"""The verdict below the figures: accept, or reject with a reason; what was stored, and what had been before."""

from __future__ import annotations

import time

import streamlit as st

from dfqsam.app import records, who
from dfqsam.app.case import Case, same_case
from dfqsam.app.records import Records
from dfqsam.app.settings import current
from dfqsam.errors import DfqsamError
from dfqsam.judgement import REASONS, Stored

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


def _record(kept: Records, place: str, case: Case, keys: tuple[str, str] | None) -> None:
    """Store a verdict on what was on the screen when the button was pressed; a double click is one verdict."""
    last = st.session_state.get("judged")
    if last is not None and last[:2] == (place, keys is None) and last[2] and time.monotonic() - last[4] < DOUBLE:
        return
    try:
        subject, figures = case.subject(kept.key, who.rater(kept.key)), case.figures()
        if keys is None:
            stored = kept.store.accept(subject, figures)
        else:
            code = str(st.session_state.get(keys[1]) or "").strip().upper()
            stored = kept.store.reject(subject, figures, str(st.session_state.get(keys[0])), code or None)
    except DfqsamError as error:
        st.session_state["judged"] = place, keys is None, None, str(error), time.monotonic()
    else:
        st.session_state["judged"] = place, keys is None, stored, "", time.monotonic()
        st.session_state["fresh"] = True


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


def _told(place: str, own: list[Stored], others: list[Stored]) -> None:
    """What was stored just now, and what was there before."""
    last = st.session_state.get("judged")
    now = None
    if last is not None and last[0] == place:
        now = last[2]
        if now is None:
            st.error(f"Not stored. {last[3]}", icon=":material/error:")
        else:
            words = said(now)
            words = words[0].upper() + words[1:]
            if st.session_state.pop("fresh", False):  # seen wherever the page is scrolled to
                st.toast(f"{words}. Stored as entry {now.sequence}.", icon=":material/check_circle:")
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
    _told(place, own, others)
