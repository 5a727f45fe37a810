"""Every calibration source with every setting: quantizes, scores, and writes each figure down when it is known."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dfqsam.assets import shipped_images
from dfqsam.config import INTEGER, PAPER, QuantConfig
from dfqsam.errors import InputError
from dfqsam.evaluate.medseg import Case
from dfqsam.experiment.cases import by_picture, search_subset
from dfqsam.experiment.keep import fingerprint
from dfqsam.experiment.machine import machine
from dfqsam.experiment.rows import ROWS, synthesis_of
from dfqsam.experiment.rungs import CORRECTED, IDLE, adds, config_of
from dfqsam.experiment.score import Judge
from dfqsam.experiment.sets import calibration_images
from dfqsam.experiment.store import Cell, append_cell, key, load_cells
from dfqsam.memory import keep_freed_memory
from dfqsam.mended import mended
from dfqsam.mixed import settled_bits
from dfqsam.progress import stage
from dfqsam.quant.calibration import calibrate
from dfqsam.quant.encoder import quantizable
from dfqsam.sam.known import LITE_MEDSAM, get_model
from dfqsam.sam.model import Sam, load_sam

STUDY = "study.json"
Setting = tuple[str, QuantConfig]  # a rung, and a column on it
COLUMNS = (*PAPER, *INTEGER)
# With and without scale reparameterization.
REPARAMETERIZE: tuple[str | None, ...] = ("center", None)


def run(
    folder: Path,
    data: Path,
    rows: Sequence[str] = ROWS,
    columns: Sequence[str] = COLUMNS,
    seeds: Sequence[int] = (0,),
    images: int = 32,
    masks: int | None = 150,
    checkpoint: Path | None = None,
    reparameterize: Sequence[str | None] = REPARAMETERIZE,
    rungs: Sequence[str] = (CORRECTED,),
) -> list[Cell]:
    """Measures the cells that ``folder`` lacks and returns all that it holds; a run that was cut off goes on.

    Args:
        folder: gets ``cells.jsonl``, the synthetic sets below ``sets`` and the full-precision answers below ``judge``.
        data: pictures with reference masks and a ``manifest.csv``; see :func:`dfqsam.evaluate.medseg.cases`.
        rows: calibration sources, see :data:`dfqsam.experiment.rows.ROWS`.
        columns: names that :meth:`QuantConfig.of` knows.
        seeds: of the synthesis (of the choice of pictures in the row ``real``).
        images: calibration images of each source.
        masks: judge on about so many masks of the validation split; None for all.
        checkpoint: None for LiteMedSAM.
        reparameterize: values of :attr:`QuantConfig.reparameterize` to compare.
        rungs: of the ladder, see :data:`dfqsam.experiment.rungs.RUNGS`.

    Raises:
        InputError: for unknown names, or when ``folder`` holds cells of another model, of other images or masks.
    """
    for row in rows:
        synthesis_of(row, images, seed=0)
    settings = [(rung, config_of(name, rung, value)) for name in columns for value in reparameterize for rung in rungs]
    settings = [(rung, config) for rung, config in settings if adds(rung, config)]
    if not settings:
        raise InputError(
            f"The rung {rungs[0]} has nothing new for {', '.join(columns)}, {IDLE[rungs[0]]}; take the one before it."
        )
    wanted = [(row, seed) for row in rows for seed in seeds]
    keep_freed_memory()
    with stage("Loading the checkpoint"):
        sam = load_sam(checkpoint or get_model("lite-medsam"))
    shipped = shipped_images(LITE_MEDSAM.sha256, sam.family.image_size) if checkpoint is None else None
    chosen = search_subset(data, masks=masks)
    folder.mkdir(parents=True, exist_ok=True)
    study = _study(sam, data, chosen, images)
    _require_same(folder / STUDY, study)
    known = {key(cell) for cell in load_cells(folder)}
    missing = {
        (row, seed): [(rung, c) for rung, c in settings if (row, seed, c.profile, c.reparameterize, rung) not in known]
        for row, seed in wanted
    }
    if any(missing.values()):
        judge = Judge(sam, chosen, folder / "judge")
        for (row, seed), todo in missing.items():
            if todo:
                pictures = calibration_images(sam, row, images, seed, folder / "sets", data, shipped)
                _fill(folder, sam, judge, pictures, todo, {"row": row, "seed": seed, "study": study})
    return load_cells(folder)


@torch.no_grad()
def _fill(folder: Path, sam: Sam, judge: Judge, pictures: list[Tensor], todo: list[Setting], head: Cell) -> None:
    """Measures the cells of one calibration set; its activations are observed once for all of them."""
    sites = sam.sites()
    union = {site.name for _, config in todo for site in quantizable(sites, config)}
    names = [site.name for site in sites if site.name in union]
    title = f"{head['row']}, seed {head['seed']}"
    begin = time.perf_counter()
    rows = max(config.rows for _, config in todo)
    seen = calibrate(sam.encoder, sam.normalise, names, pictures, rows, f"Observing activations ({title})")
    observed = time.perf_counter() - begin
    synthesis = synthesis_of(head["row"], len(pictures), head["seed"])
    for rung, config in todo:
        begin = time.perf_counter()
        config = settled_bits(sam, pictures, config)
        made = mended(sam, pictures, config, seen, title=f"Quantizing: {config.profile} ({title})")
        quantized = time.perf_counter()
        with stage(f"Judging: {config.profile} ({title})", len(judge)) as advance:
            score = judge.score(made.sam.encoder, advance, made.sam.mask_decoder)
        seconds = {"observing": observed, "quantizing": quantized - begin, "judging": time.perf_counter() - quantized}
        cell = {
            **head,
            "column": config.profile,
            "reparameterize": config.reparameterize,
            "rung": rung,
            "figures": asdict(score),
            "seconds": {name: round(value, 2) for name, value in seconds.items()},
            "machine": machine(),
            "quantization": asdict(config),
            "passes": made.changed,
            "synthesis": None if synthesis is None else asdict(synthesis),
        }
        append_cell(folder, cell)


def _require_same(path: Path, study: dict[str, Any]) -> None:
    """Writes the study down when a folder is new, and else compares: figures of two studies belong into no table."""
    if not path.exists():
        path.write_text(json.dumps(study, indent=1) + "\n")
        return
    try:
        same = json.loads(path.read_text()) == study
    except ValueError:
        same = False
    if not same:
        raise InputError(f"{path.parent} is of another model, other masks or images; start in another folder.")


def _study(sam: Sam, data: Path, chosen: list[Case], images: int) -> dict[str, Any]:
    """What all cells of a table must have in common for their figures to be comparable."""
    files = [[case.dataset, str(case.image.relative_to(data)), str(case.mask.relative_to(data))] for case in chosen]
    return {
        "family": sam.family.name,
        "image_size": sam.family.image_size,
        "model": fingerprint(sam),
        "calibration_images": images,
        "split": "validation",
        "pictures": len(by_picture(chosen)),
        "masks": len(chosen),
        "cases": hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16],
    }
