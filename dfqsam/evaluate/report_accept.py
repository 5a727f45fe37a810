"""The report of an acceptance: the verdict first, then what it rests on."""

from __future__ import annotations

from math import isfinite
from typing import Any

from dfqsam.evaluate import charts, page
from dfqsam.evaluate.accept import TAIL, Judgement, Rules
from dfqsam.evaluate.models import Models
from dfqsam.evaluate.report import LOCAL, PROMPTS, figures, foot, identity, worst_table
from dfqsam.evaluate.summary import worst
from dfqsam.evaluate.verdict import BROKEN, FAIL, MET, PASS, TAIL_LOSS, Criterion

WORST = 5
CSS = {PASS: "good", FAIL: "bad"}
STATES = {MET: "met", BROKEN: "broken"}
AGREEMENT_ONLY = (
    "There were no reference masks, so only agreement of the two models is judged. Whether the masks are right was not "
    "tested, and this report does not say so."
)


def _limits(criterion: Criterion) -> list[str]:
    state = STATES.get(criterion.state, "undecided")
    share = criterion.name.endswith(TAIL)
    found = (criterion.value, criterion.lower, criterion.upper)
    values = [
        "none" if not isfinite(value) else f"{100 * value:.1f} %" if share else f"{round(value, 4) + 0.0:.4f}"
        for value in found
    ]
    allowed = f"{100 * criterion.allowed:.0f} %" if share else f"{criterion.allowed:g}"
    needed = "" if criterion.needed is None else str(criterion.needed)
    return [criterion.name, state, str(criterion.patients), *values, allowed, needed]


def _method(judgement: Judgement, rules: Rules, prompt: str) -> str:
    said = (
        f"Both models were asked with the {PROMPTS[prompt]} of every object. The cases of a patient were averaged; "
        f"patients, not cases, are counted. Limits of means are one-sided at 97.5 %: the wider of a bootstrap over "
        f"patients (BCa, {rules.resamples:,} resamples, seed {rules.seed}) and of Student's t. "
    )
    if judgement.patients.dice is not None:
        said += (
            "A loss is the Dice (or surface Dice) of full precision less that of the quantized model. The share of "
            "patients who lose more than 0.10 has an exact limit (Clopper-Pearson) at 95 %. "
        )
    return said + (
        "PASS: everything is shown to be within what is allowed. FAIL: something is shown to be beyond it. "
        "INCONCLUSIVE: neither. The number of patients should be fixed beforehand (dfqsam accept --plan): adding "
        "patients until the verdict pleases makes a false PASS likelier than 2.5 %."
    )


def acceptance(judgement: Judgement, rules: Rules, prompt: str, models: Models, document: dict[str, Any]) -> str:
    """The whole report as HTML; it holds no names of cases or patients, yet single values, so it stays on the site."""
    patients, rows, verdict = judgement.patients, judgement.rows, judgement.verdict
    referenced = patients.dice is not None
    parts = [page.verdict(verdict.word, verdict.reason, CSS.get(verdict.word, "open")), identity(models)]
    if not referenced:
        parts.insert(1, page.note(AGREEMENT_ONLY))
    counts = document["counts"]
    facts = [(str(counts[name]), name) for name in ("patients", "pictures", "cases")]
    parts += [page.cards(facts), page.heading("What was to be shown")]
    head = ["criterion", "state", "patients", "measured", "lower limit", "upper limit", "allowed", "patients needed"]
    lines = [_limits(criterion) for criterion in judgement.criteria]
    if not any(line[-1] for line in lines):
        head, lines = head[:-1], [line[:-1] for line in lines]
    parts += [page.table(head, lines, words=2)]
    caption = "A bar that ends left of the red line: shown to be allowed. One that begins right of it: shown not to be."
    if len(lines) > charts.MOST_CRITERIA:
        caption += f" Of {len(lines)} criteria, the {charts.MOST_CRITERIA} that reach furthest to the right."
    parts += [page.plots([page.plot(charts.criteria(judgement.criteria), caption, wide=True)])]
    parts += [page.text(_method(judgement, rules, prompt), "soft"), page.heading("Patients and cases")]
    shown = []
    if patients.dice is not None and patients.surface is not None:
        shown.append(
            page.plot(
                charts.losses(patients.dice.tolist(), rules.margin, "Dice", TAIL_LOSS),
                "Loss of Dice, mean over the cases of each patient; margin of the mean, and where a large loss begins.",
            )
        )
        surface = charts.losses(patients.surface.tolist(), rules.surface_margin, "surface Dice")
        shown.append(page.plot(surface, "Loss of surface Dice, likewise."))
    parts += [
        page.plots([*shown, *figures(rows)]),
        page.heading("Worst cases"),
        page.text(LOCAL.format("acceptance-cases.csv"), "soft"),
    ]
    parts += [worst_table(rows, worst(rows, WORST))]
    return page.page("Acceptance of a quantized model", parts, foot(models))
