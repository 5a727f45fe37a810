"""The button that makes a report of the slice that is shown."""

from __future__ import annotations

import streamlit as st

from dfqsam.app import judge, records, reference_page, report
from dfqsam.app.case import Case
from dfqsam.app.settings import current
from dfqsam.errors import DfqsamError
from dfqsam.judgement import Stored


def _judged(case: Case) -> list[Stored]:
    kept = records.shared(current().judgements)
    if not kept.begun or case.choice.full is None:
        return []
    try:
        return judge.before(kept, case)[0]
    except DfqsamError:  # a report is possible with a store that is not
        return []


def button(case: Case) -> None:
    """Draw it."""

    # Read here: when the button is pressed, no session is at hand.
    judged = _judged(case) if case.pairs else []
    expected = reference_page.mask(case)

    def made() -> bytes:
        return report.document(case, judged, expected).encode()

    st.download_button(
        "Report",
        made,
        "report.html",
        "text/html",
        key=f"report {case.work.number}",
        icon=":material/description:",
        help="Pictures, figures, prompts, bundle and your verdicts of this slice: one HTML file, to read or print.",
        on_click="ignore",
        disabled=not case.pairs,
        width="stretch",
    )
