"""What the components told the page since it last listened.

A run of the page listens as it begins, and there are no callbacks: Streamlit (1.67) ends a callback, as it does a
run, at its next look into the session where a rerun of the whole page is asked for in that moment, and does not call
it again. What a component tells is a numbered state (component/telling.mjs), which is there until the next one; what
that comes to is kept in :class:`Work`, so that nothing of Streamlit lies between having heard and having done.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from dfqsam.app.session import Work


def nothing() -> None:
    """For a component's callbacks, without which Streamlit takes no state from it."""


def news(work: Work, key: str, name: str) -> dict[str, Any] | None:
    """What the component ``key`` told under ``name``, once; None where there is nothing new."""
    told = st.session_state[key].get(name) if key in st.session_state else None
    turn = told.get("turn") if isinstance(told, dict) else None
    if type(turn) is not int or work.heard.get((key, name)) == turn:
        return None
    work.heard[key, name] = turn
    return told
