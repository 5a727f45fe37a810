"""The plots of a report, as SVG. Colours are Okabe and Ito's, which the colour-blind tell apart."""

from __future__ import annotations

import io
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from dfqsam.errors import InputError
from dfqsam.evaluate.rows import Row
from dfqsam.evaluate.summary import grouped, volumes
from dfqsam.evaluate.verdict import TAIL_LOSS, Criterion

ORANGE, BLUE, VERMILION, GREY = "#E69F00", "#0072B2", "#D55E00", "#767676"
LONGEST_NAME = 42
LEAST_SHOWN, FEW = 0.7, 0.1
MANY = 200  # points, from which on they are drawn small
MOST_CRITERIA, WIDEST = 20, 6.0
HEIGHT = 4.0  # inches, of charts that stand side by side


def _figure(width: float, height: float) -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("The report needs matplotlib; install it with: pip install 'dfqsam[evaluate]'.") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    return figure, axes


def _svg(figure: Any) -> bytes:
    """The same bytes for the same figure: fixed names of its parts, no date."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "dfqsam", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _whole_numbers(axes: Any) -> None:
    """Of cases or patients on the vertical axis."""
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _referenced(rows: Sequence[Row]) -> list[tuple[Row, float, float]]:
    return [(row, row.dice_fp, row.dice_q) for row in rows if row.dice_fp is not None and row.dice_q is not None]


def paired(rows: Sequence[Row], name: str = "dice") -> bytes:
    """A point for every case: ``dice`` or ``nsd`` of full precision to the right, of quantized upwards; the line is no
    change. For Dice, a second line shows where a large loss begins."""
    figure, axes = _figure(4.6, HEIGHT)
    title = {"dice": "Dice", "nsd": "Surface Dice"}[name]
    values = [(getattr(row, f"{name}_fp"), getattr(row, f"{name}_q")) for row, *_ in _referenced(rows)]
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, zorder=1)
    if name == "dice":
        axes.plot([TAIL_LOSS, 1], [0, 1 - TAIL_LOSS], color=VERMILION, linewidth=1, linestyle="--", zorder=1)
        axes.annotate(f"{TAIL_LOSS:.2f} lost", (0.6, 0.47), ha="left", va="top", fontsize=9, color=VERMILION)
    axes.scatter([one for one, _ in values], [two for _, two in values], zorder=2, **_points(len(values)))
    axes.set(xlim=(0, 1.01), ylim=(0, 1.01), aspect="equal")
    axes.set(xlabel=f"{title}, full precision", ylabel=f"{title}, quantized")
    return _svg(figure)


def _points(count: int) -> dict[str, Any]:
    """How points are drawn: large where there are few."""
    if count > MANY:
        return {"s": 14, "color": BLUE, "alpha": 0.35, "linewidths": 0}
    return {"s": 34, "color": BLUE, "alpha": 0.6, "linewidths": 0}


def _plain_decades(axes: Any, values: Any) -> None:
    """A logarithmic axis with numbers as people write them, as many as there is room for."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    decades = float(np.log10(values.max() / values.min()))
    subs = (1.0,) if decades > 2.5 else (1.0, 2.0, 5.0) if decades > 0.7 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _signed(value: float) -> str:
    """Per cent with a sign, of which zero has none."""
    near = round(value, 1)
    return f"{near:+.1f} %".replace("-", "\u2212") if near else "0.0 %"


def bland_altman(rows: Sequence[Row]) -> bytes:
    """Difference of the two models' areas (or volumes, of slices of volumes) against their mean, with the mean
    difference and the limits of agreement (1.96 standard deviations)."""
    figure, axes = _figure(4.6, HEIGHT)
    added = volumes(rows)
    if added:
        pairs, what = list(added.values()), "volume, ml"
    else:
        unit = "mm²" if all(row.unit == "mm" for row in rows) else "pixels" if all(r.unit == "px" for r in rows) else ""
        pairs, what = [(row.area_fp, row.area_q) for row in rows], f"area, {unit}" if unit else "area"
    both = np.array([pair for pair in pairs if sum(pair) > 0] or [(1.0, 1.0)])
    mean, change = both.mean(axis=1), 100 * (both[:, 1] - both[:, 0]) / both.mean(axis=1)
    axes.scatter(mean, change, **_points(len(mean)))
    centre, reach = float(change.mean()), 1.96 * float(change.std())
    for level, style in ((centre, "-"), (centre - reach, "--"), (centre + reach, "--")):
        axes.axhline(level, color=VERMILION, linewidth=1, linestyle=style)
        place = {"transform": axes.get_yaxis_transform(), "ha": "left", "va": "center"}
        axes.text(1.01, level, _signed(level), fontsize=9, color=VERMILION, **place)
    _plain_decades(axes, mean)
    axes.set(xlabel=f"Mean of both models' {what}", ylabel="Quantized less full precision, % of the mean")
    return _svg(figure)


def agreement(rows: Sequence[Row]) -> bytes:
    """How many cases have which Dice between the masks of the two models; those below 0.7 share a bar, if few."""
    figure, axes = _figure(4.6, HEIGHT)
    values = np.array([row.agreement for row in rows])
    least = LEAST_SHOWN if float(np.mean(values < LEAST_SHOWN)) <= FEW else 0.0
    below = int((values < least).sum())
    counts, *_ = axes.hist(values.clip(least), bins=np.linspace(least, 1, 31).tolist(), color=BLUE)
    axes.set_ylim(0, 1.2 * float(np.max(counts)))  # room for words
    median = float(np.median(values))
    axes.axvline(median, color=VERMILION, linewidth=1.2)
    place = {"xycoords": "axes fraction", "va": "top", "fontsize": 9}
    axes.annotate(f"median {median:.3f}", (0.02, 1), color=VERMILION, **place)
    if below:
        axes.annotate(f"{below} below {least:g}, in the first bar", (0.02, 0.92), **place)
    _whole_numbers(axes)
    axes.set(xlabel="Dice between the masks of the two models", ylabel="Cases", xlim=(least, 1))
    return _svg(figure)


def by_group(rows: Sequence[Row], name: str) -> bytes:
    """Mean Dice of both models for every value of an attribute of the rows, such as ``modality``."""
    groups = grouped(_referenced(rows), lambda pair: getattr(pair[0], name) or "not named")
    figure, axes = _figure(7.4, 1.1 + 0.27 * len(groups))
    places = range(len(groups))
    full = [fmean(one for _, one, _ in pairs) for pairs in groups.values()]
    quantized = [fmean(two for *_, two in pairs) for pairs in groups.values()]
    axes.hlines(places, full, quantized, color=GREY, linewidth=1.5)
    axes.scatter(full, places, 46, "white", edgecolors=ORANGE, linewidths=1.8, label="full precision", zorder=2)
    axes.scatter(quantized, places, 16, BLUE, label="quantized", zorder=3)
    axes.set_yticks(places, [f"{_short(key)} ({len(pairs)})" for key, pairs in groups.items()], fontsize=8.5)
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.set(xlim=(0, 1.01), xlabel="Mean Dice with the reference masks (cases in brackets)")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper right", ncols=2, fontsize=9, frameon=False)
    return _svg(figure)


def losses(values: Sequence[float], margin: float, what: str, large: float | None = None) -> bytes:
    """How many patients lose how much; the margin, and where a large loss begins."""
    figure, axes = _figure(4.6, 3.4)
    reach = max(0.15, float(np.ceil(np.abs(values).max() * 20) / 20))
    axes.hist(values, bins=np.linspace(-reach, reach, 61).tolist(), color=BLUE)
    marks = [(margin, "-", 1.0, f" margin {margin:g}")]
    if large is not None:
        marks.append((large, "--", 0.88, f" large loss {large:g}"))
    for level, style, height, text in marks:
        axes.axvline(level, color=VERMILION, linewidth=1.2, linestyle=style)
        place = {"xycoords": ("data", "axes fraction"), "va": "top", "fontsize": 9}
        axes.annotate(text, (level, height), color=VERMILION, **place)
    _whole_numbers(axes)
    axes.set(xlabel=f"Loss of {what} (below 0: quantized is better)", ylabel="Patients")
    return _svg(figure)


def criteria(found: Sequence[Criterion]) -> bytes:
    """What was seen, its limits and what is allowed, each as a share of what is allowed: left of 1 is good.

    Of more than 20 those that reach furthest to the right; bars end at six times of what is allowed, or beyond the
    largest loss that was seen.
    """
    shown = sorted(found, key=lambda one: -one.upper / one.allowed)[:MOST_CRITERIA]
    found = [one for one in found if one in shown]
    figure, axes = _figure(7.4, 0.9 + 0.42 * len(found))
    furthest, largest = 1.15, WIDEST
    for place, criterion in enumerate(found):
        low, value, high = (x / criterion.allowed for x in (criterion.lower, criterion.value, criterion.upper))
        if np.isfinite([low, high]).all():
            axes.plot([low, high], [place, place], color=BLUE, linewidth=3, solid_capstyle="butt")
            furthest = max(furthest, 1.05 * high)
        largest = max(largest, 1.1 * value)
        axes.scatter([value], [place], 46, BLUE, zorder=3)
    axes.axvline(1, color=VERMILION, linewidth=1.2)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.set_yticks(range(len(found)), [_short(criterion.name) for criterion in found], fontsize=9)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlim(max(-WIDEST, axes.get_xlim()[0]), min(largest, max(furthest, axes.get_xlim()[1])))
    axes.annotate(
        "allowed", (1, 1), xycoords=("data", "axes fraction"), color=VERMILION, fontsize=9, ha="center", va="bottom"
    )
    axes.set(xlabel="Loss as a multiple of what is allowed (bar: from lower to upper limit)")
    return _svg(figure)
