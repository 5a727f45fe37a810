"""The figures of one case and one prompt, for both models."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from dfqsam.evaluate.metrics import dice, iou, surface
from dfqsam.evaluate.samples import Mask, Sample

DIGITS = 6


@dataclass(frozen=True)
class Row:
    """A case and a prompt. What needs a reference mask, or a distance that does not exist, is None.

    ``fp`` is the full-precision model, ``q`` the quantized one.

    Attributes:
        case: names the case; ``view`` its picture. Both may identify a patient.
        unit: ``mm`` or ``px``, of ``hd95``, ``area`` (squared), ``volume`` (cubed) and of the tolerance of ``nsd``, 2.
        area_ref, area_fp, area_q: of the masks.
        volume_ref, volume_fp, volume_q: the same times the thickness of the slice, None for a picture that is no slice.
        agreement: Dice of the two models' masks, 0 to 1; agreement_iou and agreement_nsd likewise.
        agreement_hd95: distance between the two models' outlines.
        dice_fp, dice_q, iou_fp, iou_q, nsd_fp, nsd_q: against the reference, 0 to 1.
        hd95_fp, hd95_q: against the reference.
        area_error_fp, area_error_q: area of the mask over that of the reference, less 1.
    """

    case: str
    view: str
    dataset: str
    modality: str
    patient: str
    label: str
    prompt: str
    unit: str
    area_ref: float | None
    area_fp: float
    area_q: float
    volume_ref: float | None
    volume_fp: float | None
    volume_q: float | None
    agreement: float
    agreement_iou: float
    agreement_hd95: float | None
    agreement_nsd: float
    dice_fp: float | None = None
    dice_q: float | None = None
    iou_fp: float | None = None
    iou_q: float | None = None
    hd95_fp: float | None = None
    hd95_q: float | None = None
    nsd_fp: float | None = None
    nsd_q: float | None = None
    area_error_fp: float | None = None
    area_error_q: float | None = None

    @classmethod
    def of(cls, document: Any) -> Self:
        """From parsed JSON; TypeError for other keys."""
        return cls(**document)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


COLUMNS = tuple(field.name for field in fields(Row))


def _rounded(value: float) -> float | None:
    return round(value, DIGITS) if math.isfinite(value) else None


def compare(sample: Sample, prompt: str, full: Mask, quantized: Mask, reference: Mask | None) -> Row:
    """The figures of one case: masks H x W of the two models, and the reference where there is one."""
    spacing = sample.spacing or (1.0, 1.0)
    pixel = spacing[0] * spacing[1]
    areas = {"ref": None if reference is None else reference.sum() * pixel}
    areas |= {"fp": full.sum() * pixel, "q": quantized.sum() * pixel}
    values: dict[str, float | None] = {}
    for name, area in areas.items():
        values[f"area_{name}"] = None if area is None else float(area)
        known = None if area is None else sample.thickness
        values[f"volume_{name}"] = None if area is None or known is None else float(area * known)
    apart = surface(full, quantized, spacing)
    values |= {"agreement": dice(full, quantized), "agreement_iou": iou(full, quantized)}
    values |= {"agreement_hd95": apart.hd95, "agreement_nsd": apart.nsd}
    if reference is not None:
        for name, mask in (("fp", full), ("q", quantized)):
            apart = surface(mask, reference, spacing)
            values |= {f"dice_{name}": dice(mask, reference), f"iou_{name}": iou(mask, reference)}
            values |= {f"hd95_{name}": apart.hd95, f"nsd_{name}": apart.nsd}
            values[f"area_error_{name}"] = float(mask.sum() / reference.sum() - 1)
    about = {"case": sample.key, "view": sample.view, "dataset": sample.dataset, "modality": sample.modality}
    about |= {"patient": sample.patient, "label": sample.label, "prompt": prompt, "unit": sample.unit}
    figures: dict[str, Any] = {name: None if value is None else _rounded(value) for name, value in values.items()}
    return Row(**about, **figures)
