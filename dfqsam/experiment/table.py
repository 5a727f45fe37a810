"""The cells of an experiment as tables: one for each figure, calibration sources down, settings across."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean, stdev

from dfqsam.config import PAPER, PROFILES, ROTATION
from dfqsam.experiment.rows import ROWS
from dfqsam.experiment.rungs import CORRECTED, RUNGS, TITLES
from dfqsam.experiment.store import Cell, key

FIGURES = {
    "agreement": "Agreement: Dice with the full-precision masks, 0 to 100",
    "embedding_error": "Embedding error: norm of the difference over the norm, 0 is perfect",
    "drop": "Drop: how many points of Dice with the reference masks are lost",
}
DIGITS = {"agreement": 1, "embedding_error": 3, "drop": 1}


def values(cells: list[Cell], row: str, column: str, reparameterize: str | None, figure: str) -> list[float]:
    """A figure of one place of the table, once for each seed."""
    place = (row, column, reparameterize, CORRECTED)
    return [c["figures"][figure] for c in cells if (c["row"], *key(c)[2:]) == place]


def ordered(cells: list[Cell]) -> tuple[list[str], list[str], list[str | None]]:
    """The rows, columns and reparameterizations that occur, in the order in which tables and charts show them."""
    rows, columns = list(dict.fromkeys(c["row"] for c in cells)), list(dict.fromkeys(c["column"] for c in cells))
    rows.sort(key=_rank(list(ROWS)))
    columns.sort(key=_rank([*PAPER, *PROFILES]))
    kinds: list[str | None] = list(dict.fromkeys(c["reparameterize"] for c in cells))
    return rows, columns, sorted(kinds, key=lambda kind: kind or "")


def _rank(known: list[str]) -> Callable[[str], tuple[int, str]]:
    return lambda name: (known.index(name) if name in known else len(known), name)


def text(found: list[float], digits: int) -> str:
    """The mean, with the standard deviation where there are several; empty where there is nothing.

    >>> text([90.0, 92.0], 1), text([90.0], 1), text([], 1)
    ('91.0 ± 1.4', '90.0', '')
    """
    if not found:
        return ""
    mean = f"{fmean(found):.{digits}f}"
    return f"{mean} ± {stdev(found):.{digits}f}" if len(found) > 1 else mean


def markdown(cells: list[Cell], command: str = "dfqsam experiment") -> str:
    """Three tables; a place that was not measured stays empty.

    Args:
        cells: as :func:`dfqsam.experiment.store.load_cells` gives them.
        command: what made them, for the comment at the head.
    """
    rows, columns, kinds = ordered(cells)
    lines = [f"<!-- Made by: {command} -->", "", *_about(cells)]
    for figure, title in FIGURES.items():
        lines += ["", f"**{title}**", "", f"| calibration | reparameterized | {' | '.join(columns)} |"]
        lines.append("| --- | --- |" + " ---: |" * len(columns))
        for row in rows:
            for kind in kinds:
                places = [text(values(cells, row, column, kind, figure), DIGITS[figure]) for column in columns]
                if any(places):
                    lines.append(f"| {row} | {kind or 'no'} | {' | '.join(places)} |")
    return "\n".join([*lines, *_ladders(cells)]) + "\n"


def _ladders(cells: list[Cell]) -> list[str]:
    """For every calibration source that was measured on other rungs too: techniques down, settings across."""
    lines = []
    rows, columns, kinds = ordered(cells)
    for row in rows:
        own = [c for c in cells if c["row"] == row]
        if all(key(c)[4] == CORRECTED for c in own):
            continue
        across = [name for name in columns if any(c["column"] == name and key(c)[4] != CORRECTED for c in own)]
        lines += ["", f"**Ladder, {row}: agreement / embedding error / drop (minutes)**", ""]
        lines += [f"| technique | {' | '.join(across)} |", "| --- |" + " ---: |" * len(across)]
        for rung in RUNGS:
            for kind in kinds:
                places = [_summary([c for c in own if key(c)[2:] == (name, kind, rung)]) for name in across]
                if any(places):
                    lines.append(f"| {TITLES[rung]}{_aside(kind)} | {' | '.join(places)} |")
    return lines


def _aside(kind: str | None) -> str:
    """What to say of a reparameterization that is not the default."""
    if kind is None:
        return ", without reparameterization"
    return {"center": "", ROTATION: ", rotated behind norms"}.get(kind, f", reparameterized to the {kind}")


def _summary(cells: list[Cell]) -> str:
    """All figures of one place of a ladder, and the minutes that quantization took."""
    if not cells:
        return ""
    parts = [text([c["figures"][figure] for c in cells], digits) for figure, digits in DIGITS.items()]
    minutes = fmean(c["seconds"]["observing"] + c["seconds"]["quantizing"] for c in cells) / 60
    return f"{' / '.join(parts)} ({minutes:.0f})"


def _about(cells: list[Cell]) -> list[str]:
    """What the figures rest on, in sentences."""
    if not cells:
        return ["No cell has been measured yet."]
    study, seeds = cells[0]["study"], sorted({cell["seed"] for cell in cells})
    full = fmean(cell["figures"]["dice"] + cell["figures"]["drop"] for cell in cells)
    several = "; ± is the standard deviation over seeds, where there are several" if len(seeds) > 1 else ""
    return [
        f"{study['family']} at {study['image_size']} px, {study['masks']} masks on {study['pictures']} pictures of the "
        f"split {study['split']}, exact boxes; Dice with the reference masks in full precision {full:.1f}.",
        f"{study['calibration_images']} calibration images, seed{'s' * (len(seeds) > 1)} "
        f"{', '.join(map(str, seeds))}{several}.",
    ]
