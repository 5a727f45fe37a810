"""The two jobs of this room, from folders to files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfqsam.errors import InputError
from dfqsam.evaluate import files, report, report_accept
from dfqsam.evaluate.accept import Judgement, Rules, accept
from dfqsam.evaluate.measure import Settings, heading, measure, settings_of
from dfqsam.evaluate.models import Models
from dfqsam.evaluate.prompts import offered
from dfqsam.evaluate.record import RECORD, record, signable
from dfqsam.evaluate.rows import Row
from dfqsam.evaluate.samples import Sample
from dfqsam.evaluate.summary import summarise, worst
from dfqsam.evaluate.worst_pictures import draw


@dataclass(frozen=True)
class Work:
    """How figures are measured: kinds of prompt (None for all that the model understands), seed of their random draws,
    and workers (None for one a core, at most 4)."""

    prompts: Sequence[str] | None = None
    seed: int = 0
    workers: int | None = None


def _rows(
    models: Models, samples: Sequence[Sample], work: Work, folder: Path, reuse: bool = False
) -> tuple[list[Row], Settings]:
    kinds = offered(models.quantized.manifest.prompts, work.prompts)
    if any(sample.reference is None for sample in samples):
        kinds = [kind for kind in kinds if kind in ("exact", "jittered")]
        if not kinds:
            raise InputError("Without reference masks only boxes can be asked with, and the model does not take them.")
    settings = Settings(tuple(kinds), work.seed)
    if reuse:
        settings = settings_of(folder, models, settings)
    rows = measure(models, samples, settings, folder, work.workers)
    if not rows:
        raise InputError("Every reference mask is empty; there is nothing to compare.")
    return rows, settings


def run_evaluation(
    models: Models, samples: Sequence[Sample], folder: Path, work: Work, pictures: bool = False
) -> dict[str, Any]:
    """Write ``results.csv``, ``summary.json`` and ``report.html`` into ``folder`` and give the summary.

    Args:
        pictures: put pictures of the worst cases into the report; they are patients' data.

    Raises:
        InputError: as :func:`dfqsam.evaluate.measure.measure`.
    """
    rows, settings = _rows(models, samples, work, folder)
    summary = {**summarise(rows), "measured": heading(models, settings)}
    shown = draw(rows, worst(rows, report.WORST), samples, models, settings) if pictures else []
    files.write(folder / "results.csv", files.results_csv(rows))
    files.write(folder / "summary.json", files.document_json(summary))
    files.write(folder / "report.html", report.evaluation(rows, summary, models, shown).encode())
    return summary


def run_acceptance(
    models: Models, samples: Sequence[Sample], folder: Path, rules: Rules, work: Work
) -> tuple[Judgement, dict[str, Any]]:
    """Judge a bundle and give the verdict and its record.

    ``acceptance.json`` may leave the site. ``acceptance.html``, ``acceptance-cases.csv`` and
    ``acceptance-patients.csv`` may not. Where ``folder`` is that of an evaluation, what it has measured is used.

    Args:
        work: its first kind of prompt is judged, without one the exact box, or a click where the model takes no boxes.

    Raises:
        InputError: as :func:`dfqsam.evaluate.measure.measure`.
    """
    kinds = offered(models.quantized.manifest.prompts, work.prompts)
    prompt = kinds[0]
    rows, settings = _rows(models, samples, Work([prompt], work.seed, work.workers), folder, reuse=True)
    judgement = accept([row for row in rows if row.prompt == prompt], rules)
    document = record(judgement, rules, prompt, models, heading(models, settings)["versions"])
    patients = judgement.patients
    columns: dict[str, Any] = {"dice_loss": patients.dice, "nsd_loss": patients.surface}
    columns = {name: values for name, values in columns.items() if values is not None}
    columns["agreement"] = patients.agreement
    page = report_accept.acceptance(judgement, rules, prompt, models, document)
    files.write(folder / "acceptance-cases.csv", files.results_csv(judgement.rows))
    files.write(folder / "acceptance-patients.csv", files.patients_csv(patients.names, columns))
    files.write(folder / "acceptance.html", page.encode())
    files.write(folder / RECORD, signable(document))
    return judgement, document
