"""The record of an acceptance that may leave the site: aggregates only, in one spelling that can be signed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dfqsam import __version__
from dfqsam.bundle import Bundle, strict
from dfqsam.evaluate.accept import Floats, Judgement, Rules, settings
from dfqsam.evaluate.metrics import TOLERANCE
from dfqsam.evaluate.models import Models
from dfqsam.evaluate.statistics import CONFIDENCE, SHARE_CONFIDENCE
from dfqsam.evaluate.verdict import TAIL_LOSS, Criterion

FORMAT = 1
RECORD = "acceptance.json"
# The mean of fewer patients comes close to saying what one of them had.
FEWEST = 5
DIGITS = 6


def _number(value: float) -> float | None:
    return round(float(value), DIGITS) if math.isfinite(value) else None


def _spread(values: Floats | None) -> dict[str, Any] | None:
    """Mean and standard deviation over patients."""
    if values is None:
        return None
    return {"mean": _number(float(values.mean())), "sd": _number(float(np.std(values, ddof=1)))}


def _criterion(criterion: Criterion) -> dict[str, Any]:
    found: dict[str, Any] = {"name": criterion.name, "state": criterion.state, "allowed": _number(criterion.allowed)}
    found |= {"patients": criterion.patients, "needed": criterion.needed}
    if criterion.patients >= FEWEST:
        found |= {name: _number(getattr(criterion, name)) for name in ("value", "lower", "upper")}
    return found


def _bundle(bundle: Bundle) -> dict[str, Any]:
    model = bundle.manifest.model
    return {
        "sha256": bundle.sha256,
        "title": model.title,
        "checkpoint_sha256": model.checkpoint_sha256,
        "profile": bundle.manifest.profile,
    }


def record(judgement: Judgement, rules: Rules, prompt: str, models: Models, versions: dict[str, Any]) -> dict[str, Any]:
    """What may be handed on: verdict, limits, counts, means and spreads; no case, patient, file or data set is named.

    With fewer than 5 patients means and limits are withheld, for they come close to single values. Names of objects
    appear only where they were judged one by one.
    """
    patients, rows = judgement.patients, judgement.rows
    smallest = min([len(patients), *(len(part.patients) for part in judgement.by_label.values())])
    hidden = len(patients) < FEWEST
    few = f"Fewer than {FEWEST} patients: figures are withheld."
    document: dict[str, Any] = {
        "format": FORMAT,
        "created_by": f"dfqsam {__version__}",
        "verdict": judgement.verdict.word,
        "reason": judgement.verdict.reason if smallest >= FEWEST else few,
        "more_patients": judgement.verdict.more,
        "claim": "agreement" if patients.dice is None else "non-inferiority",
        "bundle": _bundle(models.quantized),
        "reference": _bundle(models.reference),
        "rules": {**settings(rules, prompt), "confidence": CONFIDENCE, "share_confidence": SHARE_CONFIDENCE},
        "unit": sorted({row.unit for row in rows}),
        "tolerance": TOLERANCE,
        "counts": {
            "patients": len(patients),
            "pictures": len({row.view for row in rows}),
            "cases": len(rows),
            "data_sets": len({row.dataset for row in rows}),
        },
        "criteria": [_criterion(criterion) for criterion in judgement.criteria],
        "versions": versions,
    }
    if hidden:
        return document
    figures = {"dice_fp": patients.dice_fp, "dice_q": patients.dice_q, "dice_loss": patients.dice}
    figures |= {"nsd_loss": patients.surface, "agreement": patients.agreement}
    document["over_patients"] = {name: _spread(values) for name, values in figures.items() if values is not None}
    if patients.dice is not None:
        document["counts"]["patients_losing"] = int((patients.dice > TAIL_LOSS).sum())
    return document


def signable(document: dict[str, Any]) -> bytes:
    """The bytes of a record: the same for the same content, and what a signature is made over.

    ``acceptance.json`` holds exactly these bytes; a signature goes into a file beside it.
    """
    return strict.canonical(document)
