"""What a bench has measured, as a table, as JSON and as bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dfqsam.bench.run import TURN, WARM, Result


def document(results: list[Result], machine: dict[str, Any]) -> dict[str, Any]:
    """Everything, in seconds, bytes and MB; ``ratio`` is the median over that of the bundle's own part."""
    return {
        "machine": machine,
        "results": [
            {
                "part": result.part,
                "name": result.name,
                "bytes": result.size,
                "load_seconds": round(result.load, 4),
                "p50_seconds": round(result.p50, 5),
                "p95_seconds": round(result.p95, 5),
                "images_per_second": round(1 / result.p50, 3),
                "peak_megabytes": result.peak,
                "ratio": round(ratio(result, results), 3),
                "seconds": [round(value, 5) for value in result.seconds],
            }
            for result in results
        ],
    }


def ratio(result: Result, results: list[Result]) -> float:
    """How many times as long as the bundle's own part, the first of its kind, it takes."""
    own = next(other for other in results if other.part == result.part)
    return result.p50 / own.p50


def markdown(results: list[Result], machine: dict[str, Any], command: str) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    features = ", ".join(machine["processor"]) or "unknown"
    runs = len(results[0].seconds)
    lines = [
        f"<!-- Made by: {command} -->",
        "",
        f"{machine['architecture']} ({features}), {machine['threads']} threads, medians of {runs} runs in turns of "
        f"{TURN}, each after {WARM} that do not count; memory is the peak of a process of its own. {versions}.",
        "",
        "| part | model | file, MB | load, s | p50, ms | p95, ms | a second | peak, MB | times the bundle's |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for result in results:
        peak = "" if result.peak is None else f"{result.peak:.0f}"
        lines.append(
            f"| {result.part} | {result.name} | {result.size / 1e6:.1f} | {result.load:.2f} | {1e3 * result.p50:.0f} | "
            f"{1e3 * result.p95:.0f} | {1 / result.p50:.1f} | {peak} | {ratio(result, results):.2f} |"
        )
    return "\n".join(lines) + "\n"


def chart(results: list[Result], path: Path, title: str) -> None:
    """Horizontal bars: the median of every model in milliseconds, a panel for each part; the bundle's own in blue."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    parts = list(dict.fromkeys(result.part for result in results))
    groups = [[result for result in results if result.part == part] for part in parts]
    heights = [len(group) + 0.6 for group in groups]
    figure = Figure(figsize=(8, 0.9 + 0.42 * sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(parts), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axes, part, group in zip(panels, parts, groups, strict=True):
        values = [1e3 * result.p50 for result in group]
        bars = axes.barh([result.name for result in group], values, color=["#0072B2", *["#999999"] * (len(group) - 1)])
        axes.bar_label(bars, [f"{value:.0f} ms" for value in values], padding=3)
        axes.set_title(part, loc="left", fontsize=10)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.18 * max(values))
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
