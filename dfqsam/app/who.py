"""Who judges, and whether names of models are shown: the part of the side bar that belongs to judging."""

from __future__ import annotations

import streamlit as st

from dfqsam.app import cards, login, records
from dfqsam.app.settings import current
from dfqsam.judgement import SiteKey, session_rater

NAME, BLIND = "judge name", "blinded"

# Widgets forget what they were set to where they are not drawn, as on the review page and in a blinded vote.
KEPT = (NAME, BLIND, "bundle", "plane ", "window ", "reference label ")


def keep() -> None:
    """Keep the choices of this session, on whatever page they were made. Before any widget is drawn."""
    for key in list(st.session_state):
        if str(key).startswith(KEPT):
            st.session_state[key] = st.session_state[key]


def blinded() -> bool:
    """Whether names of models are to be hidden before a vote."""
    return bool(st.session_state.get(BLIND))


def rater(key: SiteKey) -> str:
    """The pseudonym of who judges: of the login, else of the name that was typed, else of this session alone."""
    known = login.person()
    if known is not None:
        return key.rater(known[0])
    name = str(st.session_state.get(NAME) or "").strip()
    return key.rater(name) if name else st.session_state.setdefault("session rater", session_rater())


def controls() -> None:
    """Draw it into the side bar."""
    if not records.shared(current().judgements).on:
        return
    st.subheader("Judging", anchor=False)
    known = login.person()
    if known is None:
        st.text_input(
            "Your name or initials",
            key=NAME,
            max_chars=80,
            placeholder="unnamed",
            help="It is stored as a keyed hash, so that your judgements belong together. Left empty, they belong to "
            "this session only.",
        )
    st.toggle(
        "Blinded vote",
        key=BLIND,
        help="Two masks without names, sides by chance: say which is better. Names, times and sizes are shown after "
        "your vote.",
    )


def account() -> None:
    """Who is logged in, and the way out."""
    known = login.person()
    if known is not None:
        st.caption(f"Logged in as {cards.plain(known[1][:80])}")
        st.button("Log out", icon=":material/logout:", on_click=st.logout, width="stretch")
