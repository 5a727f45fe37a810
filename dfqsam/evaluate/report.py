"""The report of an evaluation, for those who decide whether a device goes live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dfqsam import __version__
from dfqsam.evaluate import charts, page
from dfqsam.evaluate.models import Models
from dfqsam.evaluate.rows import Row
from dfqsam.evaluate.summary import worst
from dfqsam.evaluate.verdict import TAIL_LOSS

WORST = 10
SHORT = 12  # digits of a hash that people compare
PROMPTS = {
    "exact": "exact box",
    "jittered": "jittered box (each side moved by about a tenth, at most 20 pixels)",
    "click": "one click inside",
    "clicks": "three clicks inside, one outside",
}
PATIENT_DATA = (
    "This report contains pictures of patients. It must stay where the patients' data may stay; make it without "
    "--pictures to hand it on."
)
TERMS = (
    "Drop: points of Dice that quantization costs (below 0: that it gains). NSD: surface Dice, the share of the "
    "outlines within the tolerance. HD95: 95th percentile of the distance between outlines. Area: how much larger (+) "
    "or smaller (-) than the reference."
)
LOCAL = "Cases are named by their number in {}, which stays here."
FOOT = f"dfqsam {__version__}. For research; no medical device. Made on this machine; nothing was sent anywhere."


def points(value: float | None) -> str:
    """A share as points of a hundred."""
    return "n/a" if value is None else f"{round(100 * value, 1) + 0.0:.1f}"


def plain(value: float | None, digits: int = 2) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"


def signed(value: float | None) -> str:
    """A share as points of a hundred with its sign."""
    return "n/a" if value is None else f"{round(100 * value, 1) + 0.0:+.1f}"


def both(one: str, two: str) -> str:
    """The figures of full precision and quantized in one cell."""
    return f"{one} / {two}"


def identity(models: Models) -> str:
    """A paragraph that says which two models were compared; :func:`foot` has the whole hashes."""
    one, two = models.quantized, models.reference
    against = "the same bundle" if one.sha256 == two.sha256 else f"bundle {two.sha256[:SHORT]}"
    return page.text(
        f"{one.manifest.model.title}, quantized as {one.manifest.profile} (bundle {one.sha256[:SHORT]}), against its "
        f"full precision ({against}).",
        "soft",
    )


def foot(models: Models) -> str:
    """What stands at the end of a report."""
    hashes = f"SHA-256 of the quantized bundle {models.quantized.sha256}, of full precision {models.reference.sha256}."
    return page.text(FOOT) + page.text(hashes)


def sentence(mean: dict[str, Any], rows: Sequence[Row]) -> str:
    """The finding in plain words."""
    if "dice_fp" not in mean:
        return f"The masks of the two models agree to {points(mean.get('agreement'))} of 100 on average (Dice)."
    drop, lost = mean["dice_drop"], losing(rows)
    size = points(abs(drop))
    said = f"{'loses' if drop > 0 else 'gains'} {size} points of Dice"
    said = "has the same Dice" if float(size) == 0 else said
    return (
        f"On average the quantized model {said} ({points(mean['dice_fp'])} in full precision, {points(mean['dice_q'])} "
        f"quantized). In {lost} of {len(rows)} cases it loses more than {100 * TAIL_LOSS:.0f} points."
    )


def losing(rows: Sequence[Row]) -> int:
    """How many rows lose more than 0.10 Dice."""
    return sum(
        row.dice_fp is not None and row.dice_q is not None and row.dice_fp - row.dice_q > TAIL_LOSS for row in rows
    )


def _overview(summary: dict[str, Any], rows: Sequence[Row]) -> list[str]:
    prompt = next(iter(summary["prompts"]))
    mean = summary["prompts"][prompt]["mean_over_data_sets"]
    facts = [(str(len({row.case for row in rows})), "cases"), (str(len({row.view for row in rows})), "pictures")]
    facts += [(str(len({row.patient for row in rows})), "patients")]
    if "dice_fp" in mean:
        facts += [(points(mean["dice_fp"]), "Dice, full precision"), (points(mean["dice_q"]), "Dice, quantized")]
    if "agreement" in mean:
        facts += [(points(mean["agreement"]), "agreement of the two")]
    sets = len({row.dataset for row in rows})
    about = f"Figures: with the {PROMPTS[prompt]} of every object"
    about += "; means over cases" if sets == 1 else f"; means over {sets} data sets of means over their cases"
    if "thin_structures" in summary["prompts"][prompt]:
        about += ", without vessels and thin bleedings, about which a box says nothing"
    about += ". Figures are points of 100; agreement is the Dice between the masks of the two models."
    return [
        page.text(sentence(mean, [row for row in rows if row.prompt == prompt])),
        page.cards(facts),
        page.text(about, "soft"),
    ]


def _line(name: str, means: dict[str, Any]) -> list[str]:
    cells = [name, str(means["cases"]), str(means["patients"])]
    if "dice_fp" in means:
        cells += [both(points(means["dice_fp"]), points(means["dice_q"])), points(means["dice_drop"])]
        cells += [both(points(means[f"{name}_fp"]), points(means[f"{name}_q"])) for name in ("iou", "nsd")]
        cells += [both(plain(means.get("hd95_fp"), 1), plain(means.get("hd95_q"), 1))]
        cells += [both(signed(means["area_error_fp"]), signed(means["area_error_q"]))]
    return [*cells, points(means.get("agreement"))]


def _head(name: str, summary: dict[str, Any], referenced: bool) -> list[str]:
    head = [name, "cases", "patients"]
    if referenced:
        unit = "/".join(summary["unit"])
        head += ["Dice", "drop", "IoU", f"NSD at {summary['tolerance']:g} {unit}", f"HD95, {unit}", "area, %"]
    return [*head, "agreement"]


def _tables(summary: dict[str, Any], referenced: bool) -> list[str]:
    parts = [page.heading("By kind of prompt")]
    lines, missing = [], 0
    for prompt, part in summary["prompts"].items():
        lines.append(_line(prompt, part["mean_over_data_sets"]))
        if "thin_structures" in part:
            lines.append(_line(f"{prompt}, thin structures", part["thin_structures"]))
        for name in ("mean_over_data_sets", "thin_structures"):
            means = part.get(name, {})
            missing += means.get("hd95_undefined_fp", 0) + means.get("hd95_undefined_q", 0)
    parts.append(page.table(_head("prompt", summary, referenced), lines))
    said = "; ".join(f"{prompt}: {PROMPTS[prompt]}" for prompt in summary["prompts"])
    parts.append(page.text(f"Full precision / quantized. {said}. {TERMS}" if referenced else f"{said}.", "soft"))
    if missing:
        parts.append(page.text(f"{missing} masks were empty: they have no HD95 and count as Dice 0 and NSD 0.", "soft"))
    first = next(iter(summary["prompts"].values()))
    for name, title in (("dataset", "data set"), ("modality", "modality"), ("label", "object")):
        groups = first[f"by_{name}"]
        if len(groups) > 1:
            lines = [_line(key or "not named", means) for key, means in groups.items()]
            parts += [page.heading(f"By {title}"), page.table(_head(title, summary, referenced), lines)]
    return parts


def figures(rows: Sequence[Row]) -> list[str]:
    """The plots of one kind of prompt."""
    parts = []
    referenced = all(row.dice_fp is not None for row in rows)
    if referenced:
        parts.append(
            page.plot(charts.paired(rows), "Each point is a case; on the grey line both models do equally well.")
        )
        parts.append(page.plot(charts.paired(rows, "nsd"), "The same for surface Dice, the agreement of outlines."))
    caption = "Bland-Altman: how much larger or smaller the quantized model draws; lines at the mean and ±1.96 SD."
    parts.append(page.plot(charts.bland_altman(rows), caption))
    parts.append(page.plot(charts.agreement(rows), "How closely the two models' masks agree."))
    if referenced:
        for name, title in (("modality", "modality"), ("dataset", "data set")):
            if len({getattr(row, name) for row in rows}) > 1:
                picture = charts.by_group(rows, name)
                parts.append(page.plot(picture, f"Mean Dice by {title}.", wide=True))
                break
    return parts


def worst_table(rows: Sequence[Row], indices: Sequence[int]) -> str:
    """Rows by their number in results.csv; nothing that names a case or a patient."""
    referenced = any(rows[i].dice_fp is not None for i in indices)
    lines = []
    for i in indices:
        row = rows[i]
        cells = [str(i + 1), row.modality, row.label, row.prompt]
        if referenced:
            lost = None if row.dice_fp is None or row.dice_q is None else row.dice_fp - row.dice_q
            cells += [points(row.dice_fp), points(row.dice_q), points(lost)]
        lines.append([*cells, points(row.agreement)])
    head = ["case", "modality", "object", "prompt"]
    head += ["Dice, full precision", "Dice, quantized", "lost"] if referenced else []
    return page.table([*head, "agreement"], lines, words=4)


def evaluation(
    rows: Sequence[Row], summary: dict[str, Any], models: Models, pictures: Sequence[tuple[int, bytes]] = ()
) -> str:
    """The whole report as HTML.

    Args:
        rows: at least one.
        summary: of :func:`dfqsam.evaluate.summary.summarise`.
        pictures: index of a row and a JPEG of its masks; patients' data.
    """
    prompt = next(iter(summary["prompts"]))
    first = [row for row in rows if row.prompt == prompt]
    referenced = all(row.dice_fp is not None for row in rows)
    title = "Quantized and full-precision model compared"
    parts = [page.note(PATIENT_DATA)] if pictures else []
    parts += [identity(models), *_overview(summary, rows)]
    if not referenced:
        parts.append(
            page.note("Without reference masks only agreement is measured, not whether either model is right.")
        )
    parts += [page.heading("Charts"), page.plots(figures(first)), *_tables(summary, referenced)]
    parts += [
        page.heading("Worst cases"),
        page.text(LOCAL.format("results.csv"), "soft"),
        worst_table(rows, worst(rows, WORST)),
    ]
    shown = [
        page.plot(
            png,
            f"Case {i + 1}. Difference: green where both models draw, orange full precision only, blue quantized only.",
            "jpeg",
            True,
        )
        for i, png in pictures
    ]
    parts += [page.plots(shown)] if shown else []
    return page.page(title, parts, foot(models))
