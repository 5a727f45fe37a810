"""Ask both models about every sample; a picture is encoded once a model, and what is measured is kept as it comes."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dfqsam.errors import InputError
from dfqsam.evaluate.models import Models
from dfqsam.evaluate.prompts import make
from dfqsam.evaluate.rows import Row, compare
from dfqsam.evaluate.samples import Sample, by_view, state
from dfqsam.processor import processor_features
from dfqsam.progress import stage
from dfqsam.runtime import Predictor

RESULTS = "results.jsonl"
FORMAT = 1
# Unless asked for: each worker holds both models, 0.8 GB for LiteMedSAM and several for ViT-B.
MOST_WORKERS = 4


@dataclass(frozen=True)
class Settings:
    """What decides the figures besides models and data: kinds of prompt, and the seed of their random draws."""

    prompts: tuple[str, ...]
    seed: int = 0


def heading(models: Models, settings: Settings) -> dict[str, Any]:
    """The first line of the results: everything that decides a figure, the processor and libraries included."""
    import cv2
    import onnxruntime
    import scipy

    versions = {"numpy": np.__version__, "scipy": scipy.__version__, "opencv": cv2.__version__}
    versions |= {"onnxruntime": onnxruntime.__version__}
    return {
        "format": FORMAT,
        "bundle": models.quantized.sha256,
        "reference": models.reference.sha256,
        "prompts": list(settings.prompts),
        "seed": settings.seed,
        "versions": versions,
        "machine": [platform.machine(), *processor_features()],
    }


def settings_of(folder: Path, models: Models, wanted: Settings) -> Settings:
    """The settings of the results that are kept in ``folder``, where these are of the same models and seed and have
    all kinds of prompt that are wanted; else what is wanted."""
    try:
        with open(folder / RESULTS, "rb") as file:
            first = json.loads(file.readline())
        kept = Settings(tuple(first["prompts"]), wanted.seed)
    except (OSError, ValueError, KeyError, TypeError):
        return wanted
    return kept if first == heading(models, kept) and {*wanted.prompts} <= {*kept.prompts} else wanted


def _stamp(group: Sequence[Sample], files: dict[Path, list[Any]]) -> str:
    """Tells whether the files and cases of a picture are still those that were measured.

    Args:
        files: what is known of files by now; the slices of a volume share theirs.
    """
    facts: list[Any] = [[sample.key, sample.box, sample.spacing, sample.thickness, sample.shown] for sample in group]
    facts += [[sample.dataset, sample.modality, sample.patient, sample.label] for sample in group]
    for path in sorted({path for sample in group for path in sample.files}):
        if path not in files:
            files[path] = [str(path.resolve()), *state(path)]
        facts.append(files[path])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _ask(predictors: tuple[Predictor, Predictor], group: Sequence[Sample], settings: Settings) -> list[Row]:
    """The rows of one picture; a sample whose reference mask is empty gives none."""
    picture = group[0].picture()
    shape = picture.shape[0], picture.shape[1]
    for predictor in predictors:
        predictor.set_image(picture)
    rows = []
    for sample in group:
        mask = None if sample.reference is None else sample.reference()
        if mask is not None and mask.shape != shape:
            raise InputError(
                f"{sample.files[-1]} has {mask.shape} pixels and its image {shape} (height, width); they must agree."
            )
        if mask is not None and not mask.any():
            continue
        for kind in settings.prompts:
            prompt = make(kind, sample.key, settings.seed, shape, mask, sample.box)
            try:
                found = [
                    np.asarray(predictor.predict(prompt.points, prompt.labels, prompt.box)[0][0], bool)
                    for predictor in predictors
                ]
            except InputError as error:
                raise InputError(f"{sample.key}: {error}") from error
            rows.append(compare(sample, kind, found[0], found[1], mask))
    return rows


def _kept(path: Path, head: dict[str, Any]) -> tuple[dict[str, list[Row]], int]:
    """Stamp to rows of what an earlier run has measured, and how many bytes of the file are whole lines."""
    if not path.is_file():
        return {}, 0
    lines = path.read_bytes().split(b"\n")
    whole = lines[:-1]  # what follows the last line break was cut off
    try:
        first = json.loads(whole[0]) if whole else head
        if first != head:
            raise InputError(
                f"{path} holds results of another bundle, of other settings, library versions or another machine; "
                "name another folder with -o, or remove it."
            )
        entries = [json.loads(line) for line in whole[1:]]
        found = {entry["stamp"]: [Row.of(row) for row in entry["rows"]] for entry in entries}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged; remove it and measure again.") from error
    return found, sum(len(line) + 1 for line in whole)


def _append(file: Any, document: Any) -> None:
    file.write(json.dumps(document, ensure_ascii=False).encode() + b"\n")
    file.flush()
    os.fsync(file.fileno())


def measure(
    models: Models, samples: Sequence[Sample], settings: Settings, folder: Path, workers: int | None = None
) -> list[Row]:
    """The rows of all samples, in their order; ``folder/results.jsonl`` gets those of a picture once they are there.

    A run that was stopped goes on where it was, and gives the same rows as one that was not. Each worker has sessions
    of one thread (see :meth:`Models.predictors`), so that rows do not depend on how many there are.

    Args:
        workers: threads that ask, each with both models in memory; None for one a core, at most 4.

    Raises:
        InputError: when a file cannot be read or a prompt not used, or when ``folder`` holds results of other models,
            settings, library versions or of another machine.
    """
    if workers is not None and workers < 1:
        raise InputError(f"{workers} workers were asked for; give at least 1.")
    groups = by_view(samples)
    seen: dict[Path, list[Any]] = {}
    stamps = [_stamp(group, seen) for group in groups]
    head, path = heading(models, settings), folder / RESULTS
    done, whole = _kept(path, head)
    todo = [i for i, stamp in enumerate(stamps) if stamp not in done]
    own = threading.local()

    def work(i: int) -> tuple[int, list[Row]]:
        if not hasattr(own, "predictors"):
            own.predictors = models.predictors()
        return i, _ask(own.predictors, groups[i], settings)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file, stage("Asking both models", len(groups)) as advance:
            file.truncate(whole)
            if not whole:
                _append(file, head)
            advance(len(groups) - len(todo))
            pool = ThreadPoolExecutor(workers or min(os.cpu_count() or 1, MOST_WORKERS))
            try:
                for future in as_completed([pool.submit(work, i) for i in todo]):
                    i, rows = future.result()
                    _append(file, {"stamp": stamps[i], "rows": [row.to_json() for row in rows]})
                    done[stamps[i]] = rows
                    advance()
            finally:
                pool.shutdown(cancel_futures=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); free some space or name another folder."
        ) from error
    return [row for stamp in stamps for row in done[stamp]]
