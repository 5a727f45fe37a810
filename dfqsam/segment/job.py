"""One study of a batch: what is to be done, and doing it in a process of its own."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dfqsam.errors import DfqsamError, InputError
from dfqsam.imaging import Window, open_study, write_picture
from dfqsam.segment.outputs import ending_for, write_segmentation
from dfqsam.segment.prompt import Prompt
from dfqsam.segment.rules import Propagation
from dfqsam.segment.sheet import contact_sheet
from dfqsam.segment.study import segment_study


@dataclass(frozen=True)
class Settings:
    """How every study of a batch is done.

    Args:
        rules: when propagation stops.
        window: as for :func:`segment_study`.
        ending: of the masks, None for what the study is kept as.
        overlay: whether a contact sheet is drawn.
    """

    rules: Propagation = field(default_factory=Propagation)
    window: Window | str | None = None
    ending: str | None = None
    overlay: bool = False


@dataclass(frozen=True)
class Job:
    """A study, its prompts, the path (without ending) of what is written for it, and which series of a folder it is."""

    study: Path
    prompts: tuple[Prompt, ...]
    settings: Settings
    target: Path
    series: int | None = None


def fingerprint(job: Job) -> str:
    """SHA-256, in hexadecimal digits, of all that a result depends on but the bundle: the prompts, the settings, and
    names, sizes and times of change of the study's files.

    Raises:
        InputError: when the study is not there.
    """
    try:
        paths = sorted(path for path in job.study.rglob("*") if path.is_file()) if job.study.is_dir() else [job.study]
        found = [(path.stat(), path.relative_to(job.study).as_posix()) for path in paths]
    except FileNotFoundError as error:
        raise InputError(f"There is no file or folder {job.study}.") from error
    except OSError as error:
        raise InputError(f"{job.study} cannot be read ({error.strerror}).") from error
    files = [(name, stat.st_size, stat.st_mtime_ns) for stat, name in found]
    prompts = [{name: value for name, value in asdict(one).items() if name != "origin"} for one in job.prompts]
    document = {"files": files, "prompts": prompts, "settings": asdict(job.settings), "series": job.series}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def do(predictor: Any, job: Job) -> dict[str, Any]:
    """Segment the study and write ``target`` + ending, and ``target`` + ``.sheet.png`` where a sheet is wanted.

    Returns:
        what was found, as :meth:`Segmentation.to_json`, with ``ending`` and ``mask_sha256``.

    Raises:
        InputError: for anything wrong with the study or its prompts.
    """
    volume = open_study(job.study, job.series)
    ending = job.settings.ending or ending_for(volume)
    found = segment_study(predictor, volume, job.prompts, job.settings.rules, job.settings.window)
    path = job.target.with_name(job.target.name + ending)
    write_segmentation(path, found)
    if job.settings.overlay:
        write_picture(job.target.with_name(job.target.name + ".sheet.png"), contact_sheet(found, job.settings.window))
    return {**found.to_json(), "ending": ending, "mask_sha256": file_hash(path)}


_predictor: Any = None
_refused = ""


def settle() -> None:
    """Make this process a worker: silent (libraries quote what they read), and gone as soon as the process that started
    it is, however that ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)


def start_worker(bundle: str, threads: int, force: bool) -> None:
    """:func:`settle`, with a predictor of its own; why there is none (this device computes wrong results, say) becomes
    the result of every study."""
    global _predictor, _refused
    settle()
    from dfqsam.runtime import Predictor

    try:
        _predictor = Predictor(bundle, threads=threads, force_prompts=force)
    except DfqsamError as error:
        _refused = str(error)


def run_in_worker(job: Job) -> dict[str, Any]:
    """:func:`do` with this process's predictor; ``{"error": sentence}`` where it fails."""
    if _refused:
        return {"error": _refused}
    try:
        return do(_predictor, job)
    except DfqsamError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": f"{job.study} needs more memory than there is; use fewer workers."}
    except Exception as error:  # a defect must not end the batch; what libraries say may quote identifiers
        return {"error": f"{job.study} failed with an unexpected {type(error).__name__}; report it as a defect."}
