"""One slice as a page to keep: pictures, figures, prompts, bundle and verdicts in one HTML file. Knows no Streamlit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import cv2
import numpy as np
from numpy.typing import NDArray

from dfqsam import __version__
from dfqsam.app import cards, reference
from dfqsam.app.case import Case
from dfqsam.app.compare import figures
from dfqsam.app.prompts import Target
from dfqsam.evaluate import page
from dfqsam.imaging import View
from dfqsam.judgement import REASONS, Stored
from dfqsam.runtime import overlay

# On one sheet of A4, and on a screen as wide as its pictures need.
STYLE = """<style>
@page { size: A4; margin: 12mm; }
.plots { grid-template-columns: repeat(3, 1fr); gap: 0.7rem; } figure img { display: block; background: #000; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 0 2rem; } .two h2 { margin-top: 1rem; }
h2 { margin-top: 1.2rem; font-size: 1.05rem; } table { font-size: 0.85rem; }
.two > div { min-width: 0; } .two td { overflow-wrap: anywhere; } .two thead { display: none; }
.two td:first-child { white-space: nowrap; }
.use { border: 1px solid #D55E00; padding: 0.3rem 0.7rem; margin: 0.5rem 0; font-weight: 600; max-width: none; }
@media (max-width: 46rem) { .two, .plots { grid-template-columns: 1fr; } }
@media print { html { font-size: 8.5pt; } body { font-size: 1rem; } .two { grid-template-columns: 1fr 1fr; }
  .plots { grid-template-columns: repeat(3, 1fr); } .scroll { overflow: visible; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; } }
</style>"""
LONGEST, SHORTEST = 1000, 800  # sides of a picture in the report, in pixels: what is larger is reduced for the eye
NONE = cards.NONE


def _shown(picture: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """In the shape that the patient has, not too small and not too large."""
    height, width = picture.shape[0] * max(view.aspect, 1.0), picture.shape[1] * max(1 / view.aspect, 1.0)
    scale = max(1.0, SHORTEST / max(height, width)) * min(1.0, LONGEST / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    smaller = size[0] < picture.shape[1]
    return np.asarray(
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_NEAREST), np.uint8
    )


def _png(picture: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()


def _enlarged(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask at the size of the picture that is shown."""
    return cv2.resize(mask.astype(np.uint8), (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST) > 0


def _prompted(base: NDArray[np.uint8], case: Case) -> NDArray[np.uint8]:
    """The picture with boxes and points in it."""
    down, right = base.shape[0] / case.picture.shape[0], base.shape[1] / case.picture.shape[1]
    for target in filter(None, case.targets):
        if target.box is not None:
            x0, y0, x1, y1 = target.box
            base = overlay.draw_box(base, (x0 * right, y0 * down, x1 * right, y1 * down), (255, 255, 255))
        if target.points:
            places = [(x * right, y * down) for x, y, _ in target.points]
            base = overlay.draw_points(base, places, [label for _, _, label in target.points])
    return base


def pictures(case: Case) -> list[tuple[str, bytes]]:
    """Captions and PNGs: full precision, quantized, difference, as the viewer shows them; the quantized one alone where
    there is no full-precision model."""
    base = _shown(case.picture, case.view)
    together = case.pair()
    quantized = _enlarged(together.quantized.mask, base.shape)
    shown = _prompted(overlay.draw_mask(base, quantized, overlay.SKY_BLUE, 0.25), case)
    made = [(f"Quantized ({case.choice.bundle.manifest.profile})", _png(shown))]
    if together.full is None:
        return made
    full = _enlarged(together.full.mask, base.shape)
    first = _prompted(overlay.draw_mask(base, full, overlay.ORANGE, 0.25), case)
    apart = overlay.fill(base, full & quantized, overlay.GREEN, 0.4)
    apart = overlay.fill(apart, full & ~quantized, overlay.ORANGE, 0.95)
    apart = overlay.fill(apart, quantized & ~full, overlay.SKY_BLUE, 0.95)
    words = "Difference: green both, orange full precision only, blue quantized only"
    return [("Full precision", _png(first)), *made, (words, _png(apart))]


def _prompt(target: Target | None) -> str:
    if target is None:
        return "propagated from another slice"
    parts = []
    if target.box is not None:
        x0, y0, x1, y1 = target.box
        parts.append(f"box {x0:g}, {y0:g} to {x1:g}, {y1:g}")
    if target.points:
        parts.append("; ".join(f"{'inside' if label else 'outside'} {x:g}, {y:g}" for x, y, label in target.points))
    return "; ".join(parts)


def _objects(case: Case) -> str:
    rows = []
    for number, target, pair in zip(case.labels, case.targets, case.pairs, strict=True):
        one = figures(case.work.volume, case.view, pair)
        dice = NONE if one.dice is None else f"{one.dice:.3f}"
        distance = NONE if one.hd95 is None else f"{one.hd95:.2f} {one.unit}"
        areas = cards.area(one.full_area, one.unit), cards.area(one.area, one.unit)
        rows.append((str(number), _prompt(target), dice, distance, *areas))
    heads = ("object", "prompt (pixels x, y)", "agreement (Dice)", "HD95", "area, full precision", "area, quantized")
    return page.table(heads, rows, words=2)


def _study(case: Case) -> list[tuple[str, str]]:
    volume, view = case.work.volume, case.view
    height, width = view.shape
    size = f"{width} x {height} pixels"
    if view.spacing is not None:
        size += f" of {view.spacing[1]:.3g} x {view.spacing[0]:.3g} mm"
    window = "colour" if volume.colour else NONE
    if case.window is not None:
        window = f"centre {case.window.centre:g}, width {case.window.width:g}"
    return [
        ("modality", volume.modality or "not said"),
        ("picture", size),
        ("plane, slice", f"{case.plane}, {case.k + 1} of {view.count}"),
        ("window", window),
    ]


def _models(case: Case) -> list[tuple[str, str]]:
    choice, together = case.choice, case.pair()
    manifest = choice.bundle.manifest
    rows = [
        ("model, profile", f"{manifest.model.title}, {manifest.profile}"),
        ("bundle", choice.bundle.sha256),
        (
            "quantized",
            _speed(cards.megabytes(choice.quantized), together.quantized.decoder, together.quantized.encoder),
        ),
    ]
    if choice.full is not None and together.full is not None:
        speed = _speed(cards.megabytes(choice.full), together.full.decoder, together.full.encoder)
        rows.append(("full precision", speed))
        if choice.full.bundle.sha256 != choice.bundle.sha256:
            rows.append(("in bundle", choice.full.bundle.sha256))
    return rows


def _speed(size: str, decoder: float, encoder: float) -> str:
    if math.isnan(decoder) or math.isnan(encoder):  # of a propagated mask nobody took the time
        return size
    return f"{size}; {cards.milliseconds(decoder)} the masks and {cards.milliseconds(encoder)} the slice"


def _verdicts(judged: Sequence[Stored]) -> str:
    if not judged:
        return page.text("Nothing was judged on this slice.", "soft")
    rows = []
    for one in judged:
        judgement = one.judgement
        words = {"accept": "accepted", "reject": "rejected", "prefer": "blinded vote"}[judgement.verdict]
        more = "" if judgement.reason is None else REASONS[judgement.reason]
        if one.preferred is not None:
            kind = {"full": "full precision", "quantized": "quantized", "equal": "no difference"}[one.preferred]
            more = kind if one.preferred == "equal" else f"{kind} ({judgement.choice} side)"
        more += f", {judgement.code}" if judgement.code else ""
        rows.append((judgement.time[:19].replace("T", " "), words, more, str(one.sequence)))
    return page.table(("time (UTC)", "verdict", "", "entry"), rows, words=3)


def document(
    case: Case,
    judged: Sequence[Stored] = (),
    expected: NDArray[np.bool_] | None = None,
    now: datetime | None = None,
) -> str:
    """The page. It fetches nothing, runs nothing, and names neither patient nor file.

    Args:
        judged: what the person who asks has judged on this slice.
        expected: a reference mask of the slice, H x W.
        now: time of the report.

    Raises:
        InputError: before anything was drawn.
    """
    made = (now or datetime.now(UTC)).astimezone(UTC)
    parts = [
        STYLE,
        '<p class="use">For research use, not for diagnosis</p>',
        page.plots([page.plot(data, words, "png") for words, data in pictures(case)]),
        page.heading("Agreement"),
        _objects(case),
    ]
    if expected is not None:
        full, quantized = reference.agreement(expected, case.pair())
        values = [
            f"{name} {value:.3f}"
            for name, value in (("full precision", full), ("quantized", quantized))
            if value is not None
        ]
        words = "; ".join(values) or "it has nothing on this slice"
        parts.append(page.text(f"Dice with the reference mask that was loaded, all objects together: {words}."))
    study, models = (page.table(("", ""), rows, words=2) for rows in (_study(case), _models(case)))
    parts.append(f'<div class="two"><div>{page.heading("Picture")}{study}</div>')
    parts.append(f"<div>{page.heading('Models')}{models}</div></div>")
    parts += [page.heading("Verdict"), _verdicts(judged)]
    foot = (
        f"Made {made:%Y-%m-%d %H:%M} UTC with dfqsam {__version__}. Agreement is the Dice coefficient of both masks; "
        "HD95 the 95th percentile of the distance of their outlines. Times include whatever else the machine was doing."
    )
    return page.page("Comparison of two segmentation masks", parts, foot)
