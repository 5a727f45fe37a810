"""Dice of a SAM with boxes and clicks on a folder of pictures with masks, beside what needs no learning.

    python -m dfqsam.sam.reference.measure CHECKPOINT DATA [--split validation] [--limit N] [--json FILE]

Asked with exact boxes, jittered boxes, and 1, 3 and 5 clicks, each of which after the first is placed at the deepest
pixel of the largest error. Only what the model was trained on is asked. Means over masks with 95 % bootstrap intervals
for each data set, patients drawn again; and the mean over data sets, thin structures apart, data sets drawn again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from dfqsam.errors import DfqsamError, InputError
from dfqsam.evaluate.medseg import THIN, samples
from dfqsam.evaluate.metrics import dice
from dfqsam.evaluate.prompts import CLICK, EXACT, JITTERED, make
from dfqsam.evaluate.samples import Sample
from dfqsam.evaluate.statistics import mean_limits
from dfqsam.evaluate.summary import grouped
from dfqsam.progress import stage
from dfqsam.sam.device import computing_on
from dfqsam.sam.geometry import as_rgb, resize_longest_side, undo_on_logits
from dfqsam.sam.model import Sam, load_sam
from dfqsam.sam.prompts import prompt_tensors
from dfqsam.sam.reference.answers import answer
from dfqsam.sam.reference.floors import ellipse, grab_cut

DESCRIPTION = "Dice of a SAM with boxes and clicks, beside an ellipse and GrabCut."
AFTER = (1, 3, 5)  # clicks
RESAMPLES = 5000
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Scored:
    """Dice of one case, by the way of asking."""

    dataset: str
    patient: str
    dice: dict[str, float]


def next_click(found: Mask, wanted: Mask) -> tuple[tuple[float, float], float]:
    """The centre (x, y) of the deepest pixel of the largest connected error, and its label: 1 on what was missed. On
    the deepest pixel of ``wanted`` where nothing is wrong."""
    missed, spilt = wanted & ~found, found & ~wanted
    largest, label, size = wanted, 1.0, 0
    for error, own in ((missed, 1.0), (spilt, 0.0)):
        _, parts, stats, _ = cv2.connectedComponentsWithStats(error.astype(np.uint8), connectivity=8)
        if len(stats) > 1 and (biggest := int(stats[1:, cv2.CC_STAT_AREA].argmax()) + 1):
            area = int(stats[biggest, cv2.CC_STAT_AREA])
            if area > size:
                largest, label, size = parts == biggest, own, area
    depth = cv2.distanceTransform(np.pad(largest, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return (float(column) + 0.5, float(row) + 0.5), label


class Asker:
    """One picture, encoded once, and its masks in the original frame."""

    @torch.no_grad()
    def __init__(self, sam: Sam, picture: NDArray[np.uint8], device: torch.device) -> None:
        self.sam, self.device = sam, device
        rgb, self.size = as_rgb(picture), sam.family.image_size
        self.shape = rgb.shape[0], rgb.shape[1]
        pixels = torch.from_numpy(resize_longest_side(rgb, self.size)).permute(2, 0, 1)[None].float() / 255
        self.embedding = sam.embed(pixels.to(device))

    @torch.no_grad()
    def mask(
        self,
        box: Sequence[float] | None = None,
        points: Sequence[tuple[float, float]] | None = None,
        labels: Sequence[float] | None = None,
    ) -> Mask:
        """H x W."""
        prompt = prompt_tensors(self.shape, self.size, points, labels, box)
        coords, marks = (torch.from_numpy(value).to(self.device) for value in prompt)
        logits, _ = answer(self.sam.prompt_encoder, self.sam.mask_decoder, self.embedding, coords, marks)
        return undo_on_logits(logits.cpu().numpy(), self.shape, self.size)[0] > 0

    def clicks(self, first: NDArray[np.float64], wanted: Mask) -> dict[str, Mask]:
        """Masks after 1, 3 and 5 clicks."""
        points, labels = [(float(first[0, 0]), float(first[0, 1]))], [1.0]
        masks = {}
        for count in range(1, max(AFTER) + 1):
            mask = self.mask(points=points, labels=labels)
            if count in AFTER:
                masks[f"clicks_{count}"] = mask
            point, label = next_click(mask, wanted)
            points.append(point)
            labels.append(label)
        return masks


def score(sam: Sam, chosen: Sequence[Sample], floors: bool = True, seed: int = 0) -> list[Scored]:
    """Dice of every sample with a mask, each way of asking that the model was trained on.

    Raises:
        InputError: when a file cannot be read.
    """
    found = []
    parts = [sam.encoder, sam.prompt_encoder, sam.mask_decoder]
    views = grouped(chosen, lambda sample: f"{sample.dataset}/{sample.view}")
    with computing_on(parts) as device, stage("Measuring", len(chosen)) as advance:
        for group in views.values():
            picture = as_rgb(group[0].picture())
            asker = Asker(sam, picture, device)
            for sample in group:
                wanted = sample.reference() if sample.reference is not None else None
                if wanted is None or not wanted.any():
                    raise InputError(f"{sample.key} has no reference mask, or an empty one; leave it out.")
                masks = _masks(asker, sample, wanted, sam.family.prompts, seed)
                if floors:
                    box = make(EXACT, sample.key, seed, asker.shape, wanted).box
                    assert box is not None
                    masks |= {"ellipse": ellipse(asker.shape, box), "grabcut": grab_cut(picture, box, seed)}
                scores = {name: dice(mask, wanted) for name, mask in masks.items()}
                found.append(Scored(sample.dataset, sample.patient, scores))
                advance()
    return found


def _masks(asker: Asker, sample: Sample, wanted: Mask, kinds: Sequence[str], seed: int) -> dict[str, Mask]:
    masks = {}
    if "box" in kinds:
        for kind, name in ((EXACT, "box_exact"), (JITTERED, "box_jittered")):
            masks[name] = asker.mask(make(kind, sample.key, seed, asker.shape, wanted).box)
    if "point" in kinds:
        points = make(CLICK, sample.key, seed, asker.shape, wanted).points
        assert points is not None
        masks |= asker.clicks(points, wanted)
    return masks


def report(found: Sequence[Scored], seed: int = 0) -> dict[str, Any]:
    """Means with 95 % limits, 0 to 100: of the masks of each data set, and of data sets over all but thin ones.

    The limits of a data set are percentiles of means over masks with patients drawn again; none with one patient.
    """
    names = list(dict.fromkeys(name for one in found for name in one.dice))
    sets: dict[str, Any] = {}
    for dataset, group in grouped(found, lambda one: one.dataset).items():
        patients = list(grouped(group, lambda one: one.patient).values())
        sets[dataset] = {"masks": len(group), "patients": len(patients)}
        for name in names:
            values = [[100 * one.dice[name] for one in own] for own in patients]
            mean = float(np.mean(np.concatenate(values)))
            sets[dataset][name] = _rounded(mean, *patient_limits(values, seed))
    thick = [values for dataset, values in sets.items() if dataset not in THIN]
    overall = {}
    for name in names if thick else ():
        means = [values[name]["mean"] for values in thick]
        limits = mean_limits(means, seed)
        overall[name] = _rounded(float(np.mean(means)), float(limits.lower), float(limits.upper))
    return {"mean_over_data_sets": overall, "data_sets": sets, "left_out_of_mean": sorted(set(sets) & {*THIN})}


def patient_limits(values: Sequence[Sequence[float]], seed: int) -> tuple[float, float]:
    """95 % limits of the mean over masks, from the values of each patient; infinite with one patient."""
    if len(values) < 2:
        return -np.inf, np.inf
    sums, counts = np.array([sum(own) for own in values]), np.array([len(own) for own in values])
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])
    return float(low), float(high)


def _rounded(mean: float, low: float, high: float) -> dict[str, float | None]:
    return {
        "mean": round(mean, 2),
        "low": round(max(low, 0.0), 2) if np.isfinite(low) else None,
        "high": round(min(high, 100.0), 2) if np.isfinite(high) else None,
    }


def markdown(found: dict[str, Any]) -> str:
    """The report as a table."""
    sets = found["data_sets"]
    names = [name for name in next(iter(sets.values())) if name not in ("masks", "patients")]

    def cell(value: dict[str, float | None]) -> str:
        if value["low"] is None:
            return f"{value['mean']:.1f}"
        return f"{value['mean']:.1f} ({value['low']:.1f} to {value['high']:.1f})"

    lines = [f"| data set | masks | {' | '.join(names)} |", f"| --- | --- |{' --- |' * len(names)}"]
    for name, values in sets.items():
        lines.append(f"| {name} | {values['masks']} | {' | '.join(cell(values[n]) for n in names)} |")
    if overall := found["mean_over_data_sets"]:
        lines.append(f"| **mean over data sets** | | {' | '.join(cell(overall[n]) for n in names)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m dfqsam.sam.reference.measure", description=DESCRIPTION)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--limit", type=int, help="masks of each data set, at most")
    parser.add_argument("--no-floors", action="store_true", help="without the ellipse and GrabCut")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    try:
        if given.limit is not None and given.limit < 1:
            raise InputError(f"{given.limit} masks are none; give a --limit of at least 1.")
        chosen = samples(given.data, given.split)
        if given.limit is not None:
            chosen = [one for group in grouped(chosen, lambda s: s.dataset).values() for one in group[: given.limit]]
        sam = load_sam(given.checkpoint)
        found = report(score(sam, chosen, not given.no_floors, given.seed), given.seed)
        if given.json is not None:
            given.json.write_text(json.dumps(found, indent=1) + "\n")
        print(markdown(found))
    except (DfqsamError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
