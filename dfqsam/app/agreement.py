"""Agreement and size slice by slice, for the chart and its table. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dfqsam.app.cards import NONE
from dfqsam.app.display import BOTH, FULL, QUANTIZED
from dfqsam.app.stack import Counted, End
from dfqsam.app.whole import Total, total
from dfqsam.segment.step import WORDS

Counts = Mapping[int, Mapping[int, Counted]]


def by_slice(found: Counts) -> dict[int, Counted]:
    """All objects of a slice together."""

    def one(here: Sequence[Counted]) -> Counted:
        sums = total(here)
        common = None if sums.full_voxels is None else sum(c.common or 0 for c in here)
        return Counted(sums.voxels, sums.full_voxels, common, sums.ml, sums.full_ml)

    return {k: one(list(here.values())) for k, here in found.items() if here}


def worst(found: Counts) -> tuple[int, float] | None:
    """The slice on which both models agree least, and their Dice there; None where nothing compares."""
    scores = [(one.dice, k) for k, one in by_slice(found).items() if one.dice is not None]
    if not scores:
        return None
    dice, k = min(scores)
    return k, dice


def chart(found: Counts, pixel: float | None, current: int, count: int) -> dict[str, Any]:
    """What the chart component is told.

    Args:
        found: what was counted.
        pixel: area of a pixel in mm2; None where unknown.
        current: the slice that is shown.
        count: how many there are.
    """
    slices = by_slice(found)
    ks = sorted(slices)
    dice = [slices[k].dice for k in ks]
    known = [value for value in dice if value is not None]
    rows = []
    if known:
        low = min(0.9, math.floor(min(known) * 10 - 1e-9) / 10)
        series = [{"name": "Dice", "colour": BOTH, "values": [_short(value) for value in dice]}]
        title = "Agreement of both models on each slice (Dice)"
        rows.append({"title": title, "series": series, "low": max(0.0, low), "high": 1.0, "unit": ""})
    full = any(slices[k].full is not None for k in ks)
    most = max(max(slices[k].quantized, slices[k].full or 0) for k in ks)
    scale, unit = 1.0, " px"
    if pixel is not None:
        scale, unit = (pixel / 100, " cm²") if most * pixel >= 1000 else (pixel, " mm²")
    drawn = [{"name": "quantized", "colour": QUANTIZED, "values": [slices[k].quantized * scale for k in ks]}]
    if full:
        drawn.insert(
            0, {"name": "full precision", "colour": FULL, "values": [(slices[k].full or 0) * scale for k in ks]}
        )
    words = "Area: full precision orange, quantized blue" if full else "Area"
    rows.append({"title": words, "series": drawn, "low": 0.0, "high": max(most * scale, 1e-9), "unit": unit})
    # One slice more on both sides, so that where the object ends is seen.
    return {
        "slices": ks,
        "rows": rows,
        "first": max(0, ks[0] - 1),
        "last": min(count - 1, ks[-1] + 1),
        "current": current,
        "count": count,
    }


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def millilitres(value: float | None) -> str:
    """A volume for people.

    >>> millilitres(1234.5), millilitres(56.78), millilitres(0.1234), millilitres(None)
    ('1234 ml', '56.8 ml', '0.123 ml', '-')
    """
    if value is None:
        return NONE
    return f"{value:.0f} ml" if value >= 1000 else f"{value:.1f} ml" if value >= 10 else f"{value:.3g} ml"


def _size(ml: float | None, voxels: int | None) -> str:
    if voxels is None:
        return NONE
    return f"{voxels} voxels" if ml is None else millilitres(ml)


def _change(one: Total) -> str:
    return f"{100 * (one.voxels / one.full_voxels - 1):+.1f} %".replace("+-", "-") if one.full_voxels else NONE


def _line(name: str, one: Total, strong: bool = False) -> str:
    dice = NONE if one.dice is None else f"{one.dice:.3f}"
    values = [name, dice]
    if one.full_voxels is not None:
        values += [str(one.full_slices), _size(one.full_ml, one.full_voxels)]
    values += [str(one.slices), _size(one.ml, one.voxels)]
    if one.full_voxels is not None:
        values.append(_change(one))
    cells = "".join(f"<td>{value}</td>" for value in values)
    return f"<tr{' class=on' if strong else ''}>{cells}</tr>"


def table(totals: Mapping[int, Total], everything: Total) -> str:
    """Volumes by object as HTML; a last line for all of several."""
    heads = ["object", "Dice over the volume"]
    compared = everything.full_voxels is not None
    heads += ["slices, full", "volume, full"] if compared else []
    heads += ["slices, quantized", "volume, quantized", *(["difference"] if compared else [])]
    lines = [_line(str(label), one) for label, one in totals.items()]
    if len(totals) > 1:
        lines.append(_line("all", everything, strong=True))
    return f'<table class="dqt"><tr>{"".join(f"<th>{head}</th>" for head in heads)}</tr>{"".join(lines)}</table>'


def ends(found: Sequence[End]) -> list[str]:
    """How far each object was followed, and why it ends there: one line for each prompt and model."""
    lines = []
    for one in found:
        model = "full precision" if one.full else "quantized"
        where = f"Object {one.start.label} from slice {one.start.k + 1}, {model}"
        if one.first is None or one.last is None:
            lines.append(f"{where}: the model finds nothing.")
            continue
        below, above = (WORDS[why] if why else "it was stopped" for why in (one.below, one.above))
        lines.append(f"{where}: slices {one.first + 1} to {one.last + 1}; below, {below}; above, {above}.")
    return lines
