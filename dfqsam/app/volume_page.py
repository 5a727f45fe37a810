"""The whole volume on the page: propagation, its figures, three planes, and the surface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from streamlit.components.v2 import component

from dfqsam.app import agreement, cards, display, orthogonal, whole
from dfqsam.app.component import CHART, PLANES, SURFACE, Component, script, style
from dfqsam.app.heard import news, nothing
from dfqsam.app.models import Choice
from dfqsam.app.propagate import Job
from dfqsam.app.session import Work
from dfqsam.app.surface_scene import surface_scene
from dfqsam.errors import DfqsamError
from dfqsam.imaging import Window, area_mm2

COMPARE, THREE, SOLID = "Compare", "Three planes", "Surface"


def registered(one: Component) -> Callable[..., Any]:
    """The component, made known to Streamlit."""
    return component(one.name, html=one.html, css=style(one), js=script(one))


_planes, _surface, _chart = registered(PLANES), registered(SURFACE), registered(CHART)


def switch(work: Work) -> str:
    """What is shown of the study; compared slices where there is nothing else to show."""
    if work.volume.shape[0] == 1:
        return COMPARE
    options = [COMPARE, *([THREE] if orthogonal.planes(work.volume) else []), SOLID]
    key = f"shown {work.number}"
    return st.segmented_control("Show", options, default=COMPARE, required=True, key=key, label_visibility="collapsed")


def _masks(work: Work, choice: Choice, window: Window | None) -> NDArray[np.uint8]:
    """As :func:`whole.bits`, made anew only where something has changed."""
    return work.made("masks", whole.state(work, choice, window), lambda: whole.bits(work, choice, window))


def _cursor(work: Work, masks: NDArray[np.uint8], k: int) -> orthogonal.Voxel:
    """The voxel that all planes go through: on slice ``k``, at first in the middle of what was found there."""
    view = work.view
    if work.cursor is None:
        rows, columns = np.nonzero(view.show(np.take(masks, k, axis=view.axis)))
        height, width = view.shape
        x, y = (int(columns.mean()), int(rows.mean())) if rows.size else (width // 2, height // 2)
        work.cursor = orthogonal.voxel(view, orthogonal.Spot(k, x, y))
    here = orthogonal.spot(view, work.cursor)
    return orthogonal.voxel(view, orthogonal.Spot(k, here.x, here.y))


def listen(work: Work) -> None:
    """Do what was asked for in the planes and in the chart: another point or slice, pictures that the page lacks."""
    key = f"planes {work.number}"
    if (asked := news(work, key, "point")) is not None and work.cursor is not None:
        work.cursor = orthogonal.moved(work.volume, work.cursor, asked)
        work.go(orthogonal.spot(work.view, work.cursor).k)
    if (lacking := news(work, key, "missing")) is not None:
        keys = lacking.get("keys")
        for one in keys if isinstance(keys, list) else []:
            work.sent[key].lacks(one)
    if (asked := news(work, f"chart {work.number}", "slice")) is not None:
        work.go(asked.get("index"))


def planes(work: Work, choice: Choice, window: Window | None, k: int) -> None:
    """Axial, coronal and sagittal through one point."""
    key = f"planes {work.number}"
    masks = _masks(work, choice, window)
    at = _cursor(work, masks, k)
    work.cursor = at
    colours = {whole.QUANTIZED_BIT: display.QUANTIZED}
    if choice.full is not None:
        colours = {whole.FULL_BIT: display.FULL, **colours}
    scene = orthogonal.scene(
        work.volume,
        at,
        window,
        masks,
        colours,
        st.session_state["look"],
        str(work.number),
        "Press or drag in a plane to move the point that all three go through; the wheel goes through slices, Ctrl and "
        "the wheel zoom. Full precision is orange, quantized blue and dashed.",
        work.sent[key],
    )
    _planes(key=key, data=scene, on_point_change=nothing, on_missing_change=nothing)


def surface(work: Work, choice: Choice, window: Window | None) -> None:
    """The masks of all slices as solids."""

    def make() -> dict[str, Any] | None:
        with st.spinner("Making the surfaces …"):
            return surface_scene(work.volume, _masks(work, choice, window), choice.full is not None, str(work.number))

    scene = work.made("surface", whole.state(work, choice, window), make)
    if scene is None:
        st.info("There is no mask yet: draw a box, then propagate it.", icon=":material/info:")
        return
    _surface(key=f"surface {work.number}", data=scene)


def _begin(work: Work, choice: Choice, window: Window | None) -> None:
    begun = whole.starts(work, whole.stack_of(work, choice))
    if begun and work.job is None:
        work.follow(Job(choice, work.volume, work.plane, window, begun))
        st.session_state["propagation begun"] = True


def propagation(work: Work, choice: Choice, window: Window | None, k: int) -> None:
    """The button that follows boxes through the slices, and what came of it."""
    if work.view.count == 1:
        return
    if st.session_state.pop("propagation begun", False):
        st.rerun()  # all of the page, which then shows the bar
    drawn = [prompts for (plane, _), prompts in work.prompts.items() if plane == work.plane and prompts.targets]
    objects = sum(len(one.targets) for one in drawn)
    boxes = "box" in choice.prompts
    columns = st.columns([1.5, 4.5], vertical_alignment="center")
    columns[0].button(
        "Propagate",
        icon=":material/layers:",
        on_click=_begin,
        args=(work, choice, window),
        disabled=not objects or not boxes or work.job is not None,
        width="stretch",
        key=f"propagate {work.number}",
    )
    models = "both models" if choice.full is not None else "the model"
    if not boxes:
        words = f"{choice.bundle.manifest.model.title} takes no boxes, which propagation needs."
    elif not objects:
        words = f"Draw a box, then follow the object through all slices with {models}."
    else:
        many = f"{objects} box{'es' if objects > 1 else ''} on {len(drawn)} slice{'s' if len(drawn) > 1 else ''}"
        words = f"Follows {many} through all slices with {models}."
    columns[1].caption(words)
    try:
        _results(work, choice, window, k, len(drawn))
    except DfqsamError as error:
        st.error(str(error), icon=":material/error:")


def _results(work: Work, choice: Choice, window: Window | None, k: int, drawn: int) -> None:
    stack = whole.stack_of(work, choice)
    if stack is None and drawn < 2:
        return
    counts = whole.counts(work, choice, window)
    if not counts:
        return
    everything = whole.total([one for here in counts.values() for one in here.values()])
    if stack is not None:
        stale = whole.why_stale(work, stack, window)
        if stale:
            st.warning(f"{stale} Propagate again to bring all slices up to date.", icon=":material/update:")
        if stack.stopped:
            st.caption("The propagation was stopped; the slices that were done are kept.")
    st.html(cards.STYLE + agreement.table(whole.totals(counts), everything))
    pixel = None
    if work.view.spacing is not None:
        pixel = area_mm2(work.volume, work.view, np.ones(work.view.shape, bool)) / np.prod(work.view.shape)
    shown = agreement.chart(counts, pixel, k, work.view.count)
    _chart(key=f"chart {work.number}", data=shown, on_slice_change=nothing)
    worst = agreement.worst(counts)
    columns = st.columns([2.2, 4], vertical_alignment="center")
    if worst is not None:
        columns[0].button(
            f"Least agreement: slice {worst[0] + 1} ({worst[1]:.3f})",
            on_click=work.go,
            args=(worst[0],),
            width="stretch",
        )
    columns[1].caption("Click a point, or use the arrow keys in the chart, to go to a slice.")
    if stack is not None:
        with st.expander("How far each object was followed, and why it ends there"):
            for line in agreement.ends(stack.ends):
                st.caption(line)


@st.fragment(run_every=0.5)
def _bar(work: Work) -> None:
    job = work.job
    if job is None:
        return
    if job.done:
        work.finish()
        st.rerun()
    columns = st.columns([4, 1.2, 1.2], vertical_alignment="center")
    models = "both models" if job.choice.full is not None else "the quantized model"
    columns[0].progress(job.progress, f"Propagating with {models}: {job.words}")
    columns[1].button("Stop and keep", on_click=job.stop, args=(True,), width="stretch", key="propagation keep")
    columns[2].button("Cancel", on_click=job.stop, args=(False,), width="stretch", key="propagation cancel")


def running(work: Work) -> None:
    """The bar of a propagation, as long as one runs; where one has failed, why."""
    if work.job is not None:
        _bar(work)
    if work.trouble:
        st.error(work.trouble, icon=":material/error:")
