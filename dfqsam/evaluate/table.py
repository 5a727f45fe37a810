"""The table of a README: bundles against their full-precision model and reference masks, exact boxes as prompts.

    python -m dfqsam.evaluate.table FOLDER BUNDLE [BUNDLE ...] [--limit 10] [--json FILE]

The first bundle must hold the full-precision graphs. Figures are means over data sets of the mean over their masks.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.bundle import open_bundle
from dfqsam.errors import DfqsamError
from dfqsam.evaluate.medseg import THIN, Case, cases
from dfqsam.evaluate.metrics import dice
from dfqsam.progress import track
from dfqsam.runtime import Predictor

Mask = NDArray[np.bool_]


def masks(predictor: Predictor, chosen: list[Case], title: str) -> Iterator[tuple[Case, Mask]]:
    """The mask for the exact box of every case; each picture is encoded once."""
    groups = [list(group) for _, group in groupby(chosen, key=lambda case: case.image)]
    for group in track(groups, title):
        predictor.set_image(group[0].picture())
        for case in group:
            yield case, np.asarray(predictor.predict(box=case.box())[0][0], bool)


def mean_over_sets(scores: dict[Case, float], thin: bool = False) -> float:
    """Mean over data sets of their mean scores; thin structures left out unless asked for."""
    by_set: dict[str, list[float]] = {}
    for case, score in scores.items():
        if thin or case.dataset not in THIN:
            by_set.setdefault(case.dataset, []).append(score)
    return fmean(fmean(values) for values in by_set.values())


def evaluate(folder: Path, bundles: list[Path], limit: int | None = None) -> list[dict[str, Any]]:
    """One row a bundle, the full-precision model first: Dice and agreement (0 to 100), megabytes of the encoder."""
    chosen = cases(folder, limit=limit)
    first = open_bundle(bundles[0])
    full = dict(masks(Predictor(first, full_precision=True), chosen, "full precision"))
    reference = {case: dice(mask, case.reference()) for case, mask in full.items()}
    base = 100 * mean_over_sets(reference)
    size = first.manifest.files["encoder_fp32.onnx"].bytes / 1e6
    rows: list[dict[str, Any]] = [
        {"profile": "fp32", "method": "", "megabytes": size, "dice": base, "drop": 0.0, "agreement": 100.0}
    ]
    rows[0]["dice_by_set"] = {
        name: 100 * fmean(s for case, s in reference.items() if case.dataset == name)
        for name in sorted({case.dataset for case in chosen})
    }
    for path in bundles:
        bundle = open_bundle(path)
        found = dict(masks(Predictor(bundle), chosen, path.name))
        score = 100 * mean_over_sets({case: dice(mask, case.reference()) for case, mask in found.items()})
        rows.append(
            {
                "profile": bundle.manifest.profile,
                "method": bundle.manifest.calibration.get("method", ""),
                "megabytes": bundle.manifest.files["encoder.onnx"].bytes / 1e6,
                "dice": score,
                "drop": base - score,
                "agreement": 100 * mean_over_sets({case: dice(mask, full[case]) for case, mask in found.items()}),
            }
        )
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = [
        "| profile | calibration | encoder MB | Dice | drop | agreement |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        figures = " | ".join(f"{row[key]:.1f}" for key in ("megabytes", "dice", "drop", "agreement"))
        lines.append(f"| {row['profile']} | {row['method']} | {figures} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="pictures, masks and manifest.csv")
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--limit", type=int, default=None, help="at most so many masks of a data set")
    parser.add_argument("--json", type=Path, default=None, help="write the rows there as well")
    options = parser.parse_args()
    try:
        rows = evaluate(options.folder, options.bundles, options.limit)
    except DfqsamError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(markdown(rows))
    if options.json:
        document = {
            "rows": rows,
            "limit": options.limit,
            "machine": platform.machine(),
            "python": sys.version.split()[0],
        }
        options.json.write_text(json.dumps(document, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
