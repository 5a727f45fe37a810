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
    ("geometry", "elements", "kept", "drawing", "toolbar", "keys", "pointer", "picture"),
)
PLANES = Component("dfqsam_planes", _PANEL, ("geometry", "elements", "kept", "keys", "drawing", "planes"))
SURFACE = Component("dfqsam_surface", _PANEL, ("geometry", "elements", "drawing", "solid", "surface"))
CHART = Component(
    "dfqsam_chart", '<div class="dqc"></div>', ("geometry", "elements", "keys", "plot", "chart"), "chart.css"
)
ALL = (PICTURE, PLANES, SURFACE, CHART)


def _read(name: str) -> str:
    return files("dfqsam.app.component").joinpath(name).read_text(encoding="utf-8")


@cache
def script(one: Component = PICTURE) -> str:
    """The parts as one module, each without its imports of the ones before it."""
    return "\n".join(re.sub(r"^import .*\n", "", _read(f"{part}.mjs"), flags=re.MULTILINE) for part in one.parts)


@cache
def style(one: Component = PICTURE) -> str:
    """The component's CSS; colours and fonts are those of Streamlit's theme."""
    return _read(one.css)
