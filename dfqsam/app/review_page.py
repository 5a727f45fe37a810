"""The review: what was judged, by filter, with counts, preference, agreement, CSV, and whether the store is whole."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dfqsam.app import records, review_parts, who
from dfqsam.app.records import Records
from dfqsam.app.settings import current
from dfqsam.errors import ChainError, DfqsamError
from dfqsam.judgement import Filter, Head, Stored, agreement, counts, preference, to_csv

ALL, NOTED = "all", "noted head"


def is_open() -> bool:
    """Whether this session looks at the review."""
    return bool(st.session_state.get("review"))


def _turn(to: bool) -> None:
    st.session_state["review"] = to
    st.session_state.pop("chain", None)


def link() -> None:
    """The way there, for the side bar."""
    if records.shared(current().judgements).on:
        st.button("Review judgements", icon=":material/fact_check:", on_click=_turn, args=(True,), width="stretch")


def _verify(kept: Records, noted: str) -> tuple[Head | None, str, bool]:
    """Head, sentence of what is wrong, and whether it is the chain that is."""
    try:
        return kept.store.verify(noted or None), "", False
    except ChainError as error:
        return None, str(error), True
    except DfqsamError as error:
        return None, str(error), False


def _chain(kept: Records) -> None:
    """Whether the store is as it was written: read anew when the page is opened, and when asked for."""
    if "chain" not in st.session_state:
        noted = str(st.session_state.get(NOTED) or "").strip()
        with st.spinner("Following the chain …"):
            st.session_state["chain"] = *_verify(kept, noted), noted
    head, wrong, broken, against = st.session_state["chain"]
    if head is not None:
        words = "The chain is whole" + (" and goes on from the head that was noted" if against else "")
        st.success(f"{words}: {head.count} entries, none altered, removed or put in.", icon=":material/verified:")
    elif broken:
        st.error(f"The store was altered. {wrong}", icon=":material/gpp_bad:")
    else:
        st.warning(wrong, icon=":material/warning:")
    with st.expander("The head of the chain, and checking against one that was noted"):
        if head is not None:
            st.caption("Note it elsewhere, such as in the log book: it shows later that nothing before was cut off.")
            st.code(str(head), language=None)
        columns = st.columns([3, 1], vertical_alignment="bottom")
        columns[0].text_input("A head that was noted before (optional)", key=NOTED, placeholder="57:9f86d081…")
        columns[1].button("Check again", icon=":material/verified:", on_click=_check_again, width="stretch")


def _check_again() -> None:
    st.session_state.pop("chain", None)


def _filter(stored: Sequence[Stored], own: str) -> Filter:
    subjects = [one.judgement.subject for one in stored]
    bundles = {subject.quantized: review_parts.bundle(subject) for subject in subjects}
    judges = {subject.rater: review_parts.judge(subject.rater, own) for subject in subjects}
    columns = st.columns(6)
    bundle = columns[0].selectbox("Bundle", [ALL, *bundles], format_func=lambda one: bundles.get(one, ALL))
    verdict = columns[1].selectbox(
        "Verdict", [ALL, *review_parts.VERDICTS], format_func=lambda one: review_parts.VERDICTS.get(one, ALL)
    )
    modality = columns[2].selectbox("Modality", [ALL, *sorted({subject.modality for subject in subjects})])
    judge = columns[3].selectbox("Judge", [ALL, *judges], format_func=lambda one: judges.get(one, ALL))
    since = columns[4].date_input("From", value=None, format="YYYY-MM-DD")
    until = columns[5].date_input("To", value=None, format="YYYY-MM-DD")
    return Filter(
        bundle=None if bundle == ALL else bundle,
        verdict=None if verdict == ALL else verdict,
        modality=None if modality == ALL else modality,
        rater=None if judge == ALL else judge,
        since=None if since is None else review_parts.day(since),
        until=None if until is None else review_parts.day(until, end=True),
    )


def _show(kept: Records) -> None:
    if not kept.begun:
        st.info("Nothing was judged yet.", icon=":material/info:")
        return
    try:
        stored, draws = kept.judgements(), kept.store.open_draws()
        own = who.rater(kept.key)
    except ChainError as error:
        st.error(f"The store was altered. {error}", icon=":material/gpp_bad:")
        return
    except DfqsamError as error:
        st.error(str(error), icon=":material/error:")
        return
    _chain(kept)
    chosen = _filter(stored, own)
    wanted = chosen.chosen(stored)
    st.html(review_parts.counted(counts(wanted), draws if chosen == Filter() else None))
    if any(one.preferred is not None for one in wanted):
        st.markdown("#### Preference, blinded")
        st.html(review_parts.preference(preference(wanted)))
    st.markdown("#### Judgements")
    if wanted:
        widths = {"entry": 60, "reason or vote": 210, "judgement of this slice": 150}
        st.dataframe(
            review_parts.rows(stored, wanted),
            hide_index=True,
            width="stretch",
            column_config={name: st.column_config.Column(width=width) for name, width in widths.items()},
        )
    else:
        st.caption("None fits these filters.")
    st.download_button(
        f"Download {len(wanted)} as CSV",
        to_csv(wanted),
        "judgements.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
        disabled=not wanted,
    )
    for what, title in (
        ("verdict", "Agreement of judges on the verdict"),
        ("preference", "Agreement of judges on votes"),
    ):
        pairs = agreement(wanted, what)
        if pairs:
            st.markdown(f"#### {title}")
            st.dataframe(review_parts.agreement(pairs, own), hide_index=True, width="content")


def show() -> None:
    """The page."""
    kept = records.shared(current().judgements)
    with st.sidebar:
        st.button("Back", icon=":material/arrow_back:", on_click=_turn, args=(False,), width="stretch")
    st.header("Review of judgements", anchor=False)
    st.caption("Judges and studies are shown by the beginning of their keyed hashes; no name is stored.")
    _show(kept)
