"""Agreement against bits, a line for each calibration source."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

from dfqsam.config import INTEGER, PAPER
from dfqsam.experiment.rows import REAL, ROWS
from dfqsam.experiment.store import Cell
from dfqsam.experiment.table import ordered, values

# Okabe and Ito's colours, which people with colour-blindness tell apart, without their yellow, which fades on white;
# black is the upper bound.
COLOURS = ("#999999", "#E69F00", "#CC79A7", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#000000")
MARKS = ("x", "s", "^", "v", "D", "o", "P", "h")
PANELS = (("simulated: every layer, as in the paper", tuple(PAPER)), ("deployable: integer kernels", tuple(INTEGER)))


def agreement_chart(cells: list[Cell], path: Path) -> None:
    """Draws a PNG (or what the ending of ``path`` says): one panel for the paper's settings, one for the profiles.

    Thick lines are with reparameterization, thin dotted ones without; bars span the seeds.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, measured, kinds = ordered(cells)
    panels = [(title, shown) for title, names in PANELS if (shown := [name for name in names if name in measured])]
    figure = Figure(figsize=(1.5 + 4.2 * max(1, len(panels)), 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    lines: dict[str, Any] = {}
    for number, (title, columns) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1, sharey=figure.axes[0] if figure.axes else None)
        for row in rows:
            for kind in kinds:
                line = _draw(axes, cells, row, kind, columns)
                if line is not None and kind is not None:
                    lines[row] = line
                elif line is not None:
                    lines.setdefault(row, line)
        axes.set_title(title, fontsize=11)
        axes.set_xticks(range(len(columns)), columns)
        axes.set_xlim(-0.2, len(columns) - 0.8)
        axes.grid(axis="y", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylabel("Dice with the full-precision masks" if number == 0 else "")
    note = "thick: reparameterized\nthin, dotted: not" if None in kinds and len(kinds) > 1 else None
    if lines:
        figure.legend(lines.values(), lines.keys(), loc="outside right center", frameon=False, title=note)
    figure.savefig(path, dpi=150)


def _draw(axes: Any, cells: list[Cell], row: str, kind: str | None, columns: list[str]) -> Any:
    """The line of one source, None where nothing was measured."""
    found = {i: values(cells, row, column, kind, "agreement") for i, column in enumerate(columns)}
    found = {i: each for i, each in found.items() if each}
    if not found:
        return None
    means = [fmean(each) for each in found.values()]
    spans = [[m - min(e) for m, e in zip(means, found.values(), strict=True)]]
    spans.append([max(e) - m for m, e in zip(means, found.values(), strict=True)])
    number = ROWS.index(row) if row in ROWS else 0
    style: dict[str, Any] = {"color": COLOURS[number], "marker": MARKS[number]}
    if kind is None:
        style |= {"linestyle": ":", "linewidth": 1.0, "markersize": 3.5, "alpha": 0.75}
    else:
        style |= {"linestyle": "--" if row == REAL else "-", "linewidth": 2.0, "markersize": 6.5}
    bars = spans if any(len(each) > 1 for each in found.values()) else None
    return axes.errorbar(list(found), means, yerr=bars, capsize=2.5, elinewidth=1, **style).lines[0]
