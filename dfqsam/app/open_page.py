"""The start page: samples, upload, and the folder of studies on the server."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from dfqsam.app import studies
from dfqsam.app.samples import SAMPLES
from dfqsam.app.session import Work
from dfqsam.app.settings import current
from dfqsam.errors import DfqsamError
from dfqsam.imaging import Series, Volume, open_study, open_uploads, study_series, upload_series

KINDS = "NIfTI, DICOM (files of a series, or a zip), NRRD, MHA, PNG, JPEG or TIFF"


def open_work(name: str, volume: Volume) -> None:
    """Make a volume the study of this session."""
    st.session_state["opened"] = number = st.session_state.get("opened", 0) + 1
    st.session_state["work"] = Work(name, volume, number)


@cache
def _thumbnail(name: str) -> NDArray[np.uint8]:
    volume = SAMPLES[name][1]()
    return volume.picture(volume.shape[0] // 2)


def _open_sample(name: str) -> None:
    open_work(name, SAMPLES[name][1]())


def _samples() -> None:
    for column, (name, (what, _)) in zip(st.columns(len(SAMPLES)), SAMPLES.items(), strict=True):
        with column, st.container(border=True):
            st.image(_thumbnail(name), width="stretch")
            st.markdown(f"**{name}**")
            st.caption(what)
            st.button(
                f"Open the {name[0].lower() if name[1].islower() else name[0]}{name[1:]}",
                key=f"sample {name}",
                on_click=_open_sample,
                args=(name,),
                width="stretch",
            )


def _read(
    name: str,
    key: str,
    opens: Callable[[int | None], Volume],
    lists: Callable[[], list[Series]],
) -> None:
    """Open a study and go to it; where it has several series, offer them; one sentence for what is wrong."""
    series: list[Series] = st.session_state.get(f"series {key}", [])
    chosen = None
    if series:
        chosen = st.selectbox("There are several series; choose one.", series, index=None, format_func=str)
        if chosen is None:
            return
    try:
        with st.spinner("Reading the study …"):
            volume = opens(None if chosen is None else chosen.number)
    except DfqsamError as error:
        found: list[Series] = []
        if not series:
            try:
                found = lists()
            except DfqsamError:
                found = []
        if len(found) < 2:
            st.error(str(error), icon=":material/error:")
            return
        st.session_state[f"series {key}"] = found
        st.rerun()
    else:
        st.session_state.pop(f"series {key}", None)
        open_work(name, volume)
        st.rerun()


def _upload() -> None:
    # A key of its own for every study, so that the files of the one before are let go.
    number = st.session_state.get("opened", 0)
    files = st.file_uploader(KINDS, accept_multiple_files=True, key=f"upload {number}")
    if not files:
        return
    data = {file.name: file.getvalue() for file in files}
    name = files[0].name if len(files) == 1 else f"{len(files)} files"
    key = ",".join(file.file_id for file in files)
    _read(name, key, lambda series: open_uploads(data, series), lambda: upload_series(data))


def _go(parts: tuple[str, ...]) -> None:
    st.session_state["folder"] = parts


def _browse(root: Path) -> None:
    parts: tuple[str, ...] = st.session_state.get("folder", ())
    if parts:
        st.button("Up", icon=":material/arrow_upward:", on_click=_go, args=(parts[:-1],))
    try:
        found = studies.entries(root, parts)
    except DfqsamError as error:
        st.error(str(error), icon=":material/error:")
        return
    where = "/".join(parts) or "the study folder"
    if not found:
        st.caption(f"There is nothing in {where}.")
        return
    label = f"In {where} ({len(found)})" if len(found) < studies.MOST else f"The first {len(found)} in {where}"
    entry = st.selectbox(
        label,
        found,
        index=None,
        format_func=lambda one: f"{one.name}/" if one.folder else one.name,
        placeholder="choose a file or folder",
        key=f"entry {where}",
    )
    if entry is None:
        return
    if entry.folder and not entry.series:
        _go((*parts, entry.name))
        st.rerun()
    path = studies.inside(root, (*parts, entry.name))
    _read(entry.name, str(path), lambda series: open_study(path, series), lambda: study_series(path))


def show() -> None:
    """Everything that opens a study."""
    st.header("Compare two models on your own pictures", anchor=False)
    st.markdown(
        "Open a study, draw a box around something, and see the mask of the full-precision model, that of the "
        "quantized one, and where they differ."
    )
    root = current().studies
    columns = st.columns(1 if root is None else 2, gap="large")
    with columns[0]:
        st.subheader("Open your own", anchor=False)
        _upload()
        st.caption("Files stay in memory while they are open; nothing is written to a disk.")
    if root is not None:
        with columns[1]:
            st.subheader("From the server", anchor=False)
            _browse(root)
    st.subheader("Or try it on a drawing", anchor=False)
    _samples()
