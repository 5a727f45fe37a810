"""A reference mask in the side bar, and each model's agreement with it among the figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from dfqsam.app import cards, reference
from dfqsam.app.case import Case
from dfqsam.app.reference import Reference
from dfqsam.app.session import Work
from dfqsam.errors import DfqsamError

ALL = "all labels"


def _key(work: Work) -> str:
    return f"reference {work.number}"


def _loaded(work: Work) -> Reference | None:
    return st.session_state.get(_key(work))


def _remove(work: Work) -> None:
    st.session_state.pop(_key(work), None)
    # A field of its own for the next file, so that this one is let go.
    st.session_state["references"] = st.session_state.get("references", 0) + 1


def controls(work: Work) -> None:
    """Draw it into the side bar."""
    st.subheader("Reference mask", anchor=False)
    loaded = _loaded(work)
    if loaded is None:
        number = st.session_state.get("references", 0)
        file = st.file_uploader(
            "NIfTI, DICOM SEG or PNG on the same grid", key=f"reference file {work.number} {number}"
        )
        if file is None:
            return
        try:
            with st.spinner("Reading the mask …"):
                loaded = reference.load(file.name, file.getvalue(), work.volume)
        except DfqsamError as error:
            st.error(str(error), icon=":material/error:")
            return
        st.session_state[_key(work)] = loaded
        st.rerun()
    if len(loaded.labels) > 1:
        st.selectbox("Label", [ALL, *loaded.labels], key=f"reference label {work.number}")
    elif not loaded.labels:
        st.warning(f"{cards.plain(loaded.name)} holds nothing but background.", icon=":material/warning:")
    st.button(
        f"Remove {cards.plain(loaded.name)}", icon=":material/delete:", on_click=_remove, args=(work,), width="stretch"
    )


def mask(case: Case) -> NDArray[np.bool_] | None:
    """The reference on the slice that is shown, H x W; None where none was loaded."""
    work = case.work
    loaded = _loaded(work)
    if loaded is None:
        return None
    label = st.session_state.get(f"reference label {work.number}", ALL)
    return loaded.on(case.k, case.view, None if label == ALL else int(label))


def panels(case: Case, named: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Panels with the reference's outline, where there is one."""
    wanted = mask(case)
    return named if wanted is None else reference.drawn(named, wanted)


def figures(case: Case) -> None:
    """Dice of each model against the reference, below the other figures."""
    wanted = mask(case)
    if wanted is None:
        return
    if not wanted.any():
        st.caption("The reference has nothing on this slice.")
        return
    full, quantized = reference.agreement(wanted, case.pair())
    shown = [] if full is None else [("Dice to reference, full precision", f"{full:.3f}")]
    shown.append(("Dice to reference, quantized", f"{quantized:.3f}"))
    st.html(cards.simple(shown, "all objects of this slice" if len(case.pairs) > 1 else ""))
