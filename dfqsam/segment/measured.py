"""How well objects are followed through real volumes, with the rules that ship and with rules chosen on other volumes.

    python -m dfqsam.segment.measured study.nii.gz=reference.nii.gz ... [--bundle BUNDLE] [--json FILE]

Every structure starts from the exact box on its middle slice. One walk for each margin goes on until the model finds
nothing, and keeps what the rules would look at; where a rule would have stopped is told from that afterwards, so that
every combination of rules costs no further question to the model. Rules are never chosen on what they are reported on:
for each volume on the other volumes, and for each structure on all other structures.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.imaging import View, Volume, open_study, read_study_mask
from dfqsam.progress import stage
from dfqsam.runtime import Predictor
from dfqsam.segment.prompt import Box
from dfqsam.segment.rules import Propagation
from dfqsam.segment.slices import Slices
from dfqsam.segment.step import box_of, part

MARGINS = (0.0, 1.0, 2.0, 3.0, 4.0)
# Least share, quality and overlap, and most growth; the first of each is no rule.
GRID = (
    (0.0, 0.1, 0.2),
    (0.0, 0.4, 0.5, 0.55, 0.6, 0.7, 0.8),
    (0.0, 0.4, 0.5, 0.6, 0.7, 0.8),
    (np.inf, 4.0, 2.5, 2.0, 1.5),
)
LEAST_SLICES = 5  # of a structure, or there is nothing to follow
FOUND = 0.7  # Dice with exact boxes on every slice, from which on the model is said to know a structure


@dataclass(frozen=True)
class Step:
    """One slice of a walk: pixels of the object, of the slice before and of the largest, and what rules look at."""

    area: int
    before: int
    largest: int
    quality: float
    overlap: float
    hits: int  # pixels that the reference has too


@dataclass(frozen=True)
class Structure:
    """One label of one volume.

    Attributes:
        volume: number of the volume.
        label: in the reference.
        voxels: of the reference.
        exact: volumetric Dice with exact boxes on every slice.
        begin: pixels and hits on the slice of the box.
        ways: for each margin the steps upwards and downwards, until the model finds nothing.
    """

    volume: int
    label: int
    voxels: int
    exact: float
    begin: tuple[int, int]
    ways: dict[float, tuple[list[Step], list[Step]]]

    def dice(self, rules: Propagation) -> float:
        """Volumetric Dice where the rules end the walk."""
        area, hits = self.begin
        for way in self.ways[rules.margin]:
            for step in way:
                if not _goes_on(step, rules):
                    break
                area, hits = area + step.area, hits + step.hits
        return 2 * hits / (area + self.voxels)


def _goes_on(step: Step, rules: Propagation) -> bool:
    """As :func:`dfqsam.segment.step.verdict`."""
    return (
        step.area >= max(rules.least_pixels, rules.least_share * step.largest)
        and step.quality >= rules.least_quality
        and step.overlap >= rules.least_overlap
        and 1 / rules.most_growth <= step.area / step.before <= rules.most_growth
    )


def _box(mask: NDArray[np.bool_]) -> Box:
    rows, columns = np.nonzero(mask)
    x0, x1, y0, y1 = float(columns.min()), float(columns.max()), float(rows.min()), float(rows.max())
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def _walk(
    slices: Slices, start: int, mask: NDArray[np.bool_], truth: list[Any], margin: float, step: int
) -> list[Step]:
    """One direction, until the model finds nothing or the stack ends."""
    found: list[Step] = []
    largest, before, k = int(mask.sum()), mask, start + step
    while 0 <= k < slices.view.count:
        given, quality = slices.ask(k, box_of(before, margin, Propagation().margin_share), True)
        here = part(given, before)
        if not here.any():
            break
        area, last = int(here.sum()), int(before.sum())
        overlap = 2 * int((here & before).sum()) / (area + last)
        found.append(Step(area, last, largest, quality, overlap, int((here & truth[k]).sum())))
        largest, before, k = max(largest, area), here, k + step
    return found


def structures(predictor: Predictor, study: Volume, reference: NDArray[Any], number: int) -> list[Structure]:
    """Every label of a reference (S x R x C) that reaches over five slices or more."""
    view: View = study.view(study.natural_plane)
    slices = Slices(predictor, study, view, kept_bytes=1 << 31)
    found = []
    labels = [int(label) for label in np.unique(reference) if label]
    with stage("structures", len(labels)) as advance:
        for label in labels:
            advance()
            truth = [view.show(np.take(reference == label, k, axis=view.axis)) for k in range(view.count)]
            there = [k for k in range(view.count) if truth[k].any()]
            if len(there) < LEAST_SLICES:
                continue
            asked = {k: slices.ask(k, _box(truth[k]), True)[0] for k in there}
            voxels = int(sum(mask.sum() for mask in truth))
            both = sum(int((asked[k] & truth[k]).sum()) for k in there)
            exact = 2 * both / (voxels + sum(int(mask.sum()) for mask in asked.values()))
            middle = there[len(there) // 2]
            begin = asked[middle]
            if not begin.any():
                continue
            ways = {
                margin: (
                    _walk(slices, middle, begin, truth, margin, 1),
                    _walk(slices, middle, begin, truth, margin, -1),
                )
                for margin in MARGINS
            }
            first = int(begin.sum()), int((begin & truth[middle]).sum())
            found.append(Structure(number, label, voxels, exact, first, ways))
    return found


def candidates() -> list[Propagation]:
    """Every combination of the grid."""
    return [
        Propagation(least_share=share, least_quality=quality, least_overlap=overlap, most_growth=growth, margin=margin)
        for margin, share, quality, overlap, growth in product(MARGINS, *GRID)
    ]


def chosen(scores: NDArray[np.float64], volumes: NDArray[np.int_], left_out: int) -> int:
    """Index of the rules that do best where volume ``left_out`` is not looked at.

    Args:
        scores: rules x structures, Dice.
        volumes: of each structure.
        left_out: its structures do not count; the others count by volume, however many structures those have.
    """
    others = [number for number in np.unique(volumes) if number != left_out]
    return int(np.mean([scores[:, volumes == number].mean(axis=1) for number in others], axis=0).argmax())


def report(found: list[Structure], names: list[str]) -> dict[str, Any]:
    """For each volume, mean Dice over its structures: with exact boxes on every slice, without rules, with the rules
    that ship, with those chosen on the other volumes, with those chosen for each structure on all others, and, as what
    rules could do at most, with those chosen on the volume itself."""
    rules = candidates()
    scores = np.array([[one.dice(rule) for one in found] for rule in rules])
    volumes = np.array([one.volume for one in found])
    none = np.array([one.dice(Propagation(0, 0.0, 0.0, 0.0, np.inf)) for one in found])
    shipped = np.array([one.dice(Propagation()) for one in found])
    exact = np.array([one.exact for one in found])
    others = scores.sum(axis=1, keepdims=True) - scores
    single_out = scores[others.argmax(axis=0), np.arange(len(found))]
    rows = []
    for number in np.unique(volumes):
        mine = volumes == number
        best = chosen(scores, volumes, number)
        rows.append(
            {
                "study": names[number],
                "structures": int(mine.sum()),
                "exact": round(float(exact[mine].mean()), 4),
                "no_rules": round(float(none[mine].mean()), 4),
                "shipped": round(float(shipped[mine].mean()), 4),
                "other_volumes": round(float(scores[best, mine].mean()), 4),
                "other_structures": round(float(single_out[mine].mean()), 4),
                "at_most": round(float(scores[:, mine].mean(axis=1).max()), 4),
                "rules": {name: value for name, value in vars(rules[best]).items() if np.isfinite(value)},
            }
        )
    single = [
        {"study": names[one.volume], "label": one.label, "exact": round(one.exact, 4), "shipped": round(value, 4)}
        for one, value in zip(found, shipped.tolist(), strict=True)
    ]
    return {"volumes": rows, "structures": single}


def main(arguments: list[str] | None = None) -> None:
    """The command; see the top of this file."""
    from dfqsam.assets import shipped_bundle

    parser = argparse.ArgumentParser(prog="python -m dfqsam.segment.measured")
    parser.add_argument("pairs", nargs="+", metavar="STUDY=REFERENCE")
    parser.add_argument("--bundle", default=None)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args(arguments)
    predictor = Predictor(options.bundle or shipped_bundle(), threads=1)
    found: list[Structure] = []
    names = []
    for number, pair in enumerate(options.pairs):
        study, _, reference = pair.partition("=")
        if not reference:
            raise InputError(f"{pair} is no pair; give STUDY=REFERENCE.")
        names.append(Path(study).name)
        volume = open_study(study)
        found += structures(predictor, volume, read_study_mask(reference, volume), number)
    document = {
        "known": report([one for one in found if one.exact >= FOUND], names),
        "all": report(found, names),
    }
    text = json.dumps(document, indent=1)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
