"""The page: a start page until a study is open, then the study."""

from __future__ import annotations

import streamlit as st
from PIL import Image

from dfqsam.app import cards, open_page, study_page
from dfqsam.app.models import Choice, Library, shared
from dfqsam.app.samples import icon
from dfqsam.app.session import Work
from dfqsam.app.settings import current
from dfqsam.errors import DfqsamError


def choose_bundle(library: Library) -> Choice:
    """The bundle of this session; a switch where there are several."""
    names = list(library.choices)
    with st.sidebar:
        st.subheader("Model", anchor=False)
        name = st.selectbox("Bundle", names, key="bundle", label_visibility="collapsed") if len(names) > 1 else names[0]
        choice = library.choices[name]
        sizes = f"quantized {cards.megabytes(choice.quantized)}"
        if choice.full is not None:
            sizes += f", full precision {cards.megabytes(choice.full)}"
        st.caption(f"{choice.name}: {sizes}; {choice.bundle.trust.sentence}")
        if choice.full is None:
            st.info(choice.why, icon=":material/info:")
    return choice


def show() -> None:
    """Draw the page of one session."""
    st.set_page_config(page_title="dfqsam viewer", page_icon=Image.fromarray(icon()), layout="wide")
    try:
        library, ahead = shared(current())
    except DfqsamError as error:
        st.error(str(error))
        return
    work: Work | None = st.session_state.get("work")
    if work is not None:
        study_page.controls(work)
    choice = choose_bundle(library)
    st.html(cards.banner(choice))
    if work is None:
        open_page.show()
    else:
        study_page.show(work, choice, ahead)
