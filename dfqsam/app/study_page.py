"""An open study: how it is shown, the panels to draw on, the figures, and the mask to take away."""

from __future__ import annotations

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from dfqsam.app import (
    cards,
    display,
    judge,
    reference_page,
    report_page,
    review_page,
    save,
    volume_page,
    vote,
    who,
    whole,
)
from dfqsam.app.case import Case
from dfqsam.app.compare import figures, preparations
from dfqsam.app.component import PICTURE
from dfqsam.app.heard import news, nothing
from dfqsam.app.models import Ahead, Choice
from dfqsam.app.session import Work
from dfqsam.app.stack import labels_of
from dfqsam.errors import DfqsamError
from dfqsam.imaging import PRESETS, Volume, Window

CUSTOM = "own"
PLANES = {"stored": "as stored", "axial": "axial", "coronal": "coronal", "sagittal": "sagittal"}

_picture = volume_page.registered(PICTURE)


def _close() -> None:
    work: Work | None = st.session_state.pop("work", None)
    if work is not None:
        work.close()


def _windows(volume: Volume) -> dict[str, Window]:
    """Those to choose from, the first being the one to begin with."""
    found = {one.name or f"of the file ({number})": one for number, one in enumerate(volume.windows, start=1)}
    if volume.hounsfield:
        found |= PRESETS
    return {**found, "automatic": volume.window("percentiles")}


def _window(work: Work) -> Window | None:
    """Presets and sliders; None for a picture in colour."""
    volume = work.volume
    if volume.colour:
        return None
    known = _windows(volume)
    key = f"window {work.number}"
    low, high = float(np.nanmin(volume.array)), float(np.nanmax(volume.array))
    span = max(high - low, 1e-3)
    step = 1.0 if span > 50 else span / 200

    def preset() -> None:
        chosen = known[st.session_state[key]]
        work.level, work.levels = (float(chosen.centre), float(chosen.width)), work.levels + 1

    if work.level is None:
        st.session_state[key] = next(iter(known))
        preset()
    assert work.level is not None
    st.selectbox("Window", list(known), key=key, on_change=preset)
    # Sliders of their own after every choice, as for slices (below).
    (centre, width), own = work.level, f"{work.number} {work.levels}"
    written = "%d" if step == 1 else None
    places = min(low, centre), max(high, centre), centre
    centre = st.slider("Centre", *places, key=f"centre {own}", step=step, format=written)
    places = min(step, width), max(2 * span, width), width
    width = st.slider("Width", *places, key=f"width {own}", step=step, format=written)
    work.level = centre, width
    base = known[st.session_state[key]]
    if abs(centre - base.centre) <= step / 2 and abs(width - base.width) <= step / 2:
        return base
    return Window(centre, width, "LINEAR_EXACT", CUSTOM)


def controls(work: Work) -> None:
    """The side bar of an open study; its choices are kept in the session."""
    with st.sidebar:
        st.button("Close study", icon=":material/arrow_back:", on_click=_close, width="stretch")
        who.controls()
        review_page.link()
        if len(work.planes) > 1 or not work.volume.colour:
            st.subheader("Picture", anchor=False)
        if len(work.planes) > 1:
            key = f"plane {work.number}"
            st.session_state.setdefault(key, work.plane)
            work.plane = st.selectbox("Plane", work.planes, key=key, format_func=lambda one: PLANES[one])
        st.session_state["shown window"] = _window(work)
        st.subheader("Masks", anchor=False)
        mode = st.segmented_control("Masks as", ["contour", "fill"], default="contour", required=True, width="stretch")
        opacity = st.slider("Opacity of areas", 0, 100, 45, step=5, format="%d %%")
        st.session_state["look"] = display.Look(mode or "contour", opacity / 100)
        reference_page.controls(work)


def _facts(volume: Volume) -> str:
    slices, rows, columns = volume.shape
    size = f"{columns} x {rows} pixels" + (f", {slices} slices" if slices > 1 else "")
    spacing = volume.spacing
    if spacing is not None:
        size += f" · {spacing[2]:.3g} x {spacing[1]:.3g} mm" + (f", every {spacing[0]:.3g} mm" if spacing[0] else "")
    return f"{volume.modality} · {size}" if volume.modality else size


def _slice(work: Work) -> int:
    """Which slice is shown, from 0 on."""
    count = work.view.count
    if count == 1:
        return 0
    # A slider of its own after every move: where a run is ended before the page has heard of it, the page still tells
    # where the former slider stood, and would go back to that with whatever it asks for next. It begins where the study
    # is, and is not set by the session: a browser that draws only the second of two runs in quick succession hears of
    # that in the first alone, would take the slider for one at its first slice, and tell so.
    key = f"slice {work.number} {work.plane} {work.moves}"
    k = st.slider("Slice", 1, count, work.at + 1, key=key, label_visibility="collapsed") - 1
    work.shown[work.plane] = k
    return k


def _listen(work: Work) -> str | None:
    """Do what was asked for in the picture: other prompts, another slice, a picture that the page lacks. Returns why
    prompts were refused."""
    key, refused = f"picture {work.number}", None
    try:
        if (drawn := news(work, key, "prompts")) is not None:
            work.take(drawn)
    except DfqsamError as error:
        refused = str(error)
    if (lacking := news(work, key, "missing")) is not None:
        work.sent[key].lacks(lacking.get("key"))
    if (asked := news(work, key, "slice")) is not None and work.shows(asked.get("epoch")):
        work.go(asked.get("index"))
    return refused


def _save(work: Work, choice: Choice, window: Window | None, k: int, case: Case | None) -> None:
    drawn = any(plane == work.plane and prompts.targets for (plane, _), prompts in work.prompts.items())
    drawn = drawn or whole.stack_of(work, choice) is not None
    kinds = save.kinds(work.volume)
    columns = st.columns([1.4, 1.4, 1.2, 1.2, 1.8], vertical_alignment="bottom")
    kind = columns[0].selectbox("Save the mask as", kinds, key=f"kind {work.number}")
    options = ["quantized"] if choice.full is None else ["quantized", "full precision"]
    which = columns[1].selectbox("of", options, key=f"which {choice.name}")
    name, mime = save.KINDS[kind]
    view = work.view

    def made() -> bytes:
        masks = whole.masks(work, choice, window, full=which == "full precision")
        return save.file_bytes(kind, work.volume, view, masks, k)

    columns[2].download_button(
        "Download", made, name, mime, icon=":material/download:", on_click="ignore", disabled=not drawn, width="stretch"
    )
    if case is not None:
        with columns[3]:
            report_page.button(case)


@st.fragment
def _compare(work: Work, choice: Choice, ahead: Ahead) -> None:
    window: Window | None = st.session_state["shown window"]
    refused = _listen(work)
    volume_page.listen(work)
    with st.container():  # is there in a blinded vote too, so that the picture stays where it is
        shown = volume_page.COMPARE if who.blinded() else volume_page.switch(work)
    k = _slice(work)
    picture = work.volume.picture(k, work.view, window)
    # So that the first box on this slice is answered without waiting for the encoders, or for a hash of the voxels.
    ahead.ask(f"{work.number} {id(work)}", *preparations(choice, picture), lambda: work.study)
    case = None
    if shown != volume_page.COMPARE:
        vote.all_named(work)
    with st.container():
        if shown == volume_page.THREE:
            volume_page.planes(work, choice, window, k)
        elif shown == volume_page.SOLID:
            volume_page.surface(work, choice, window)
        else:
            case = _panels(work, choice, window, k, picture, refused)
    if who.blinded():  # what is known of all slices, and their files, would tell before their vote
        return
    with st.container():
        volume_page.propagation(work, choice, window, k)
    _save(work, choice, window, k, case)


def _panels(
    work: Work, choice: Choice, window: Window | None, k: int, picture: NDArray[np.uint8], refused: str | None
) -> Case:
    """The models side by side on a slice, the figures of its objects, and the judgement of it."""
    key = f"picture {work.number}"
    try:
        pairs = work.answers(choice, k, picture, window)
    except DfqsamError as error:
        pairs, refused = [], str(error)
    drawn, stack = work.drawn(k), whole.stack_of(work, choice)
    objects = whole.on_slice(stack, k, drawn.targets, pairs)
    targets = dict(zip(labels_of(stack, k, drawn.targets), drawn.targets, strict=True))
    case = Case.of(work, choice, k, window, picture, objects, targets, drawn.selected)
    ballot = vote.ballot(case)
    shown = display.panels(case.pairs, choice.full is not None, f"Quantized ({choice.bundle.manifest.profile})")
    scene = display.scene(
        picture,
        work.view,
        k,
        work.epoch(k),
        drawn,
        vote.panels(ballot, shown) if ballot.hidden else reference_page.panels(case, vote.panels(ballot, shown)),
        st.session_state["look"],
        choice.prompts,
        cards.understood(choice, "This model" if who.blinded() else None),
        sent=work.sent[key],
    )

    _picture(key=key, data=scene, on_prompts_change=nothing, on_slice_change=nothing, on_missing_change=nothing)
    if refused:
        st.error(refused, icon=":material/error:")
    if ballot.hidden:
        vote.show(case, ballot)
        return case
    vote.result(ballot)
    if case.pairs:
        found = [figures(work.volume, work.view, pair) for pair in case.pairs]
        at = case.selected
        st.html(cards.cards(found[at], case.pairs[at], choice) + cards.table(found, at, case.labels))
        reference_page.figures(case)
        judge.show(case)
    return case


def show(work: Work, choice: Choice, ahead: Ahead) -> None:
    """The study."""
    st.markdown(f"**{cards.plain(work.name)}** &nbsp; :gray[{_facts(work.volume)}]")
    for note in work.volume.notes:
        st.caption(note)
    with st.container():  # a place of its own, so that what follows does not move as the bar comes and goes
        volume_page.running(work)
    _compare(work, choice, ahead)
