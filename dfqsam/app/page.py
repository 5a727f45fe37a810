"""The page: a start page until a study is open, then the study."""

from __future__ import annotations

import streamlit as st
from PIL import Image

from dfqsam.app import blinded, cards, login, open_page, review_page, study_page, who
from dfqsam.app.models import Choice, Library, shared
from dfqsam.app.samples import icon
from dfqsam.app.session import Work
from dfqsam.app.settings import current
from dfqsam.errors import DfqsamError


def choose_bundle(library: Library, hidden: bool) -> Choice:
    """The bundle of this session; a switch where there are several. Nothing of it is drawn where it is hidden."""
    names = list(library.choices)
    if hidden:
        return library.choices[st.session_state.get("bundle", names[0])]
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
    if not login.gate():
        return
    try:
        library, ahead = shared(current())
    except DfqsamError as error:
        st.error(str(error))
        return
    who.keep()
    work: Work | None = st.session_state.get("work")
    review = review_page.is_open()
    blind = who.blinded() and work is not None and not review
    if work is not None and not review:
        study_page.controls(work)
    choice = choose_bundle(library, blind or review)
    st.html(blinded.banner(choice) if blind else cards.banner(choice))
    if review:
        review_page.show()
    elif work is None:
        # So that the first box is not answered later than others: the models load while somebody looks for a study.
        ahead.ask(f"load {choice.name}", *(model.predictor for model in choice.models))
        open_page.show()
    else:
        study_page.show(work, choice, ahead)
    with st.sidebar:
        if not review and work is None:
            review_page.link()
        who.account()
