"""The components: plain JavaScript and CSS, inline in the page, nothing fetched when they run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Component:
    """One component: its name for Streamlit, its element, and the parts of its script, each after those it imports."""

    name: str
    html: str
    parts: tuple[str, ...]
    css: str = "picture.css"


_PANEL = '<div class="dq"></div>'
PICTURE = Component(
    "dfqsam_picture",
    _PANEL,
    ("asked", "geometry", "elements", "kept", "drawing", "toolbar", "keys", "pointer", "telling", "picture"),
)
PLANES = Component("dfqsam_planes", _PANEL, ("geometry", "elements", "kept", "keys", "drawing", "telling", "planes"))
SURFACE = Component("dfqsam_surface", _PANEL, ("geometry", "elements", "drawing", "solid", "surface"))
CHART = Component(
    "dfqsam_chart", '<div class="dqc"></div>', ("geometry", "elements", "keys", "plot", "telling", "chart"), "chart.css"
)
ALL = (PICTURE, PLANES, SURFACE, CHART)


def _read(name: str) -> str:
    return files("dfqsam.app.component").joinpath(name).read_text(encoding="utf-8")


@cache
def script(one: Component = PICTURE) -> str:
    """The parts as one module, each without its imports of the ones before it; Streamlit sends it again with every
    answer, so lines of comment and indentation stay behind."""
    text = "\n".join(_read(f"{part}.mjs") for part in one.parts)
    return re.sub(r"^(import .*|\s*//.*|\s*/\*\*[\s\S]*?\*/|\s*)\n|^[ \t]+", "", text, flags=re.MULTILINE)


@cache
def style(one: Component = PICTURE) -> str:
    """The component's CSS; colours and fonts are those of Streamlit's theme."""
    return _read(one.css)
