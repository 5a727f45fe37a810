"""Figures as a few lines of HTML. Whatever comes from a manifest is escaped; pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from dfqsam.app.compare import Figures, Pair
from dfqsam.app.models import Choice, Model

NONE = "-"

STYLE = """<style>
.dqf { display: grid; grid-template-columns: repeat(auto-fit, minmax(120px, 1fr)); gap: 10px; margin: 2px 0 4px; }
.dqf > div { border: 1px solid color-mix(in srgb, currentColor 16%, transparent); border-radius: 8px;
  padding: 9px 12px; }
.dqf span { display: block; font-size: 12px; opacity: 0.72; }
.dqf b { font-size: 19px; font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap; }
.dqf small { font-size: 12px; opacity: 0.72; display: block; }
.dqt { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin: 4px 0; }
.dqt th { font-weight: 600; text-align: right; padding: 3px 16px 3px 0; opacity: 0.75; }
.dqt td { text-align: right; padding: 3px 16px 3px 0;
  border-top: 1px solid color-mix(in srgb, currentColor 12%, transparent); }
.dqt .on td { font-weight: 600; }
</style>"""

BANNER_STYLE = """<style>
.dqb { position: fixed; left: 0; right: 0; bottom: 0; z-index: 1000000; font-size: 13px; line-height: 20px;
  padding: 6px 18px; background: #1d3b45; color: #fff; display: flex; gap: 22px; justify-content: space-between; }
.dqb b { font-weight: 600; } .dqb span { opacity: 0.85; font-variant-numeric: tabular-nums; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
[data-testid="stMainBlockContainer"] { padding: 2.2rem 2.2rem 4rem; }
[data-testid="stSidebarUserContent"] { padding-bottom: 4rem; }
[data-testid="stHeader"] { height: 2.4rem; min-height: 2.4rem; background: transparent; }
</style>"""


def banner(choice: Choice) -> str:
    """The strip that is always there: for research only, and which bundle answers."""
    manifest = choice.bundle.manifest
    model, profile = escape(manifest.model.title), escape(manifest.profile)
    return (
        f'{BANNER_STYLE}<div class="dqb" role="note"><b>For research use, not for diagnosis</b>'
        f"<span>{model} · profile {profile} · bundle {choice.bundle.sha256[:12]}</span></div>"
    )


def milliseconds(seconds: float) -> str:
    """A time for people.

    >>> milliseconds(0.0384), milliseconds(2.5)
    ('38 ms', '2.5 s')
    """
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def area(value: float | None, unit: str) -> str:
    """An area for people; in cm2 where it is large.

    >>> area(51.26, "mm"), area(5126.0, "mm"), area(80.0, "px"), area(None, "mm")
    ('51.3 mm²', '51.3 cm²', '80 px', '-')
    """
    if value is None:
        return NONE
    if unit != "mm":
        return f"{value:.0f} px"
    return f"{value / 100:.1f} cm²" if value >= 1000 else f"{value:.1f} mm²"


def _distance(one: Figures) -> str:
    return NONE if one.hd95 is None else f"{one.hd95:.2f} {one.unit}"


def _card(title: str, value: str, below: str = "") -> str:
    return f"<div><span>{title}</span><b>{value}</b><small>{below}</small></div>"


def _time(title: str, encoder: float, decoder: float) -> str:
    return _card(title, milliseconds(decoder), f"and {milliseconds(encoder)} a slice")


def megabytes(model: Model) -> str:
    """Size of a model's graphs."""
    return f"{model.bytes / 1e6:.1f} MB"


def cards(one: Figures, pair: Pair, choice: Choice) -> str:
    """The figures of one object."""
    made = []
    if pair.full is not None:
        made.append(_card("Agreement (Dice)", NONE if one.dice is None else f"{one.dice:.3f}", "of both masks"))
        made.append(_card("Distance (HD95)", _distance(one), "of the outlines"))
        made.append(_card("Area, full precision", area(one.full_area, one.unit)))
    change = ""
    if one.full_area:
        change = f"{100 * (one.area / one.full_area - 1):+.1f} %".replace("+-", "-")
    made.append(_card("Area, quantized", area(one.area, one.unit), change))
    timed = not math.isnan(pair.quantized.decoder)  # not so where propagation came from another slice
    if timed and pair.full is not None:
        made.append(_time("Time, full precision", pair.full.encoder, pair.full.decoder))
    if timed:
        made.append(_time("Time, quantized", pair.quantized.encoder, pair.quantized.decoder))
    size = megabytes(choice.quantized)
    made.append(_card("Model size", size, "" if choice.full is None else f"full: {megabytes(choice.full)}"))
    return f'{STYLE}<div class="dqf">{"".join(made)}</div>'


def simple(values: Sequence[tuple[str, str]], below: str = "") -> str:
    """Titles and values as cards; both are escaped."""
    made = [_card(escape(title), escape(value), escape(below)) for title, value in values]
    return f'{STYLE}<div class="dqf">{"".join(made)}</div>'


def plain(text: str) -> str:
    """A name as Markdown that means nothing but its letters.

    >>> print(plain("a_b.nii"))
    a\\_b\\.nii
    """
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]()#+-.!|<>~:$&" else letter for letter in text)


def table(all_figures: Sequence[Figures], selected: int, numbers: Sequence[int] | None = None) -> str:
    """A line for each of several objects; nothing for one. ``numbers`` are the objects', 1 and so on by default."""
    if len(all_figures) < 2:
        return ""
    heads = ("object", "Dice", "HD95", "full precision", "quantized")
    lines = []
    for number, one in enumerate(all_figures):
        values = (
            str(number + 1 if numbers is None else numbers[number]),
            NONE if one.dice is None else f"{one.dice:.3f}",
            _distance(one),
            area(one.full_area, one.unit),
            area(one.area, one.unit),
        )
        mark = ' class="on"' if number == selected else ""
        lines.append(f"<tr{mark}>{''.join(f'<td>{value}</td>' for value in values)}</tr>")
    return f'<table class="dqt"><tr>{"".join(f"<th>{head}</th>" for head in heads)}</tr>{"".join(lines)}</table>'


def understood(choice: Choice, title: str | None = None) -> str:
    """Which prompts the model takes, and why no others: the sentence below the picture. Its own title unless given."""
    title = title or choice.bundle.manifest.model.title
    boxes, points = "box" in choice.prompts, "point" in choice.prompts
    if boxes and points:
        return "Drag a box around the object, or click inside (+) and outside (-) it."
    if boxes:
        return f"Drag a box around the object. {title} was trained on boxes only: a click would give a worthless mask."
    if points:
        return f"Click inside the object (+), or outside (-). {title} was trained on clicks only."
    return f"{title} takes neither boxes nor clicks; choose another bundle."
