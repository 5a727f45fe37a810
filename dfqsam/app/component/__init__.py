"""The picture component: plain JavaScript and CSS, inline in the page, nothing fetched when it runs."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

NAME = "dfqsam_picture"
HTML = '<div class="dq"></div>'
PARTS = ("geometry.mjs", "drawing.mjs", "picture.mjs")


def _read(name: str) -> str:
    return files("dfqsam.app.component").joinpath(name).read_text(encoding="utf-8")


@cache
def script() -> str:
    """The parts as one module, each without its imports of the ones before it."""
    return "\n".join(re.sub(r"^import .*\n", "", _read(name), flags=re.MULTILINE) for name in PARTS)


@cache
def style() -> str:
    """The component's CSS; colours and fonts are those of Streamlit's theme."""
    return _read("picture.css")
