"""A folder of studies, by processes that work side by side; ended at any moment, the next run goes on."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfqsam.bundle import open_bundle
from dfqsam.errors import InputError
from dfqsam.imaging.files import write_whole
from dfqsam.imaging.masks import ENDINGS
from dfqsam.progress import stage
from dfqsam.segment import job as jobs
from dfqsam.segment.job import Job, Settings
from dfqsam.segment.journal import Journal
from dfqsam.segment.outputs import stem, volumes_csv
from dfqsam.segment.plan import WORK, planned
from dfqsam.segment.prompt import Prompt


@dataclass
class Report:
    """What a run did.

    Attributes:
        done: records of the studies done in this run, in the order in which they were finished.
        before: records of those that were done before and are left as they are.
        failed: study and one sentence each.
        notes: one sentence for each mask that was changed by someone since and is left as it is.
    """

    done: list[dict[str, Any]] = field(default_factory=list)
    before: list[dict[str, Any]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class _Batch:
    output: Path
    sheets: Path
    bundle: str
    journal: Journal
    report: Report
    keys: dict[str, str] = field(default_factory=dict)

    def open(self, study: str, job: Job) -> bool:
        """Whether the study is still to be done; where it is not, why is put into the report."""
        try:
            self.keys[study] = jobs.fingerprint(job)
        except InputError as error:
            self.report.failed.append((study, str(error)))
            return False
        records = self.journal.of(study)
        if not records:
            return True
        last = records[-1]
        same = last["bundle"] == self.bundle and last["work"] == self.keys[study]
        mask = self.output / last["mask"]
        if not mask.exists():
            return True
        digest = jobs.file_hash(mask)
        ours = digest in {record["mask_sha256"] for record in records}
        if same and not ours:
            self.report.notes.append(f"{mask} was changed since it was written, and is left as it is.")
        if same and (digest == last["mask_sha256"] or not ours):
            if job.settings.overlay and not self._sheet(study).exists():
                return True
            self.report.before.append(last)
            return False
        return True

    def commit(self, study: str, job: Job, result: dict[str, Any]) -> None:
        """Journal first, then move the files into place: a study counts as done when both have happened."""
        if "error" in result:
            self.report.failed.append((study, result["error"]))
            return
        ending = result.pop("ending")
        mask = self.output / f"{stem(study)}_mask{ending}"
        known = {record["mask_sha256"] for record in self.journal.of(study)}
        if mask.exists() and jobs.file_hash(mask) not in known:
            text = f"{mask} is there and not as this batch wrote it; move it away, or choose another folder."
            self.report.failed.append((study, text))
            return
        record = {"study": study, "bundle": self.bundle, "work": self.keys[study], **result}
        record["mask"] = mask.relative_to(self.output).as_posix()
        sheet = self._sheet(study)
        try:
            if job.settings.overlay:
                sheet.parent.mkdir(parents=True, exist_ok=True)
            mask.parent.mkdir(parents=True, exist_ok=True)
            self.journal.add(record)
            if job.settings.overlay:
                shutil.move(job.target.with_name(job.target.name + ".sheet.png"), sheet)
            job.target.with_name(job.target.name + ending).replace(mask)
        except OSError as error:
            self.report.failed.append((study, f"{mask} cannot be written ({error.strerror})."))
            return
        self.report.done.append(record)

    def _sheet(self, study: str) -> Path:
        return self.sheets / f"{stem(study)}_overlay.png"


Result = dict[str, Any]


def _run(todo: Mapping[str, Job], names: list[str], processes: int, start: Any) -> Iterator[tuple[str, Result | None]]:
    """Do the studies ``names``, which are taken off the list as they are begun, until a process dies; those that were
    on the way then have no result."""
    # Spawned, as forked threads of ONNX Runtime would hang.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), jobs.start_worker, start)
    running: dict[Future[Result], str] = {}
    broken = False
    try:
        while running or (names and not broken):
            while names and not broken and len(running) < processes:
                try:
                    running[pool.submit(jobs.run_in_worker, todo[names[0]])] = names[0]
                    names.pop(0)
                except BrokenProcessPool:
                    broken = True
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                study = running.pop(future)
                try:
                    yield study, future.result()
                except BrokenProcessPool:
                    broken = True
                    yield study, None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _results(todo: Mapping[str, Job], bundle: Path, workers: int, force: bool) -> Iterator[tuple[str, Result]]:
    """Results as they come. A study on the way when a process dies is tried once more alone."""
    start = (str(bundle), max(1, cores() // workers), force)
    waiting = list(todo)
    while waiting:
        suspects: list[str] = []
        for study, result in _run(todo, waiting, workers, start):
            if result is None:
                suspects.append(study)
            else:
                yield study, result
        for study in suspects:
            for _, result in _run(todo, [study], 1, start):
                text = f"{todo[study].study} ended the process that read it, perhaps for lack of memory."
                yield study, result or {"error": text}


def segment_folder(
    bundle: str | Path,
    folder: str | Path,
    prompts: Mapping[str, Sequence[Prompt]],
    output: str | Path,
    settings: Settings | None = None,
    overlays: str | Path | None = None,
    workers: int = 1,
    force_prompts: bool = False,
    series: int | None = None,
    choices: Mapping[str, int] | None = None,
) -> Report:
    """Segment many studies; masks go to ``output`` under the studies' names with ``_mask`` before the ending.

    ``output/journal.jsonl`` has a line for every study done, with the bundle's SHA-256 and a hash of prompts, settings
    and files. What is done with the same is left as it is; what was done with another bundle or other prompts is done
    anew, unless somebody has changed the mask since. One bad study does not stop the others. ``output/volumes.csv`` has
    a row for every object.

    Args:
        bundle: a bundle's directory.
        folder: the studies are below it.
        prompts: for each study, by its path below ``folder``.
        output: folder of masks, sheets and journal; made where it is missing.
        settings: how every study is done.
        overlays: folder of contact sheets, where ``settings.overlay`` asks for them; None for ``output``.
        workers: processes, each with a predictor of its own and its share of the cores, at least 1.
        force_prompts: as for :class:`dfqsam.runtime.Predictor`.
        series: of every folder and archive with DICOM files, from 1 on, where there are several.
        choices: the same for single studies; it goes before ``series``.

    Raises:
        BundleError: when the bundle is incomplete or altered.
        InputError: for a folder that is none, masks that would have one name, an output that cannot be written or that
            another run is writing to.
    """
    folder, output, settings = Path(folder), Path(output), settings or Settings()
    if settings.ending is not None and settings.ending not in ENDINGS:
        raise InputError(f"The ending {settings.ending!r} is none of {', '.join(ENDINGS)}.")
    if workers < 1:
        raise InputError(f"{workers} workers were asked for; give at least 1.")
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder of studies.")
    identity = open_bundle(bundle).manifest.sha256
    jobs_of = planned(folder, prompts, output, settings, choices or {}, series)
    report = Report()
    with Journal(output) as journal:
        shutil.rmtree(output / WORK, ignore_errors=True)  # of a run that was ended
        (output / WORK).mkdir()
        batch = _Batch(output, Path(overlays or output), identity, journal, report)
        todo = {study: job for study, job in jobs_of.items() if batch.open(study, job)}
        with stage("studies", len(jobs_of)) as advance:
            advance(len(jobs_of) - len(todo))
            for study, result in _results(todo, Path(bundle), max(1, min(workers, len(todo))), force_prompts):
                batch.commit(study, todo[study], result)
                advance(1, failed=len(report.failed))
        known = {record["study"]: record for record in (*report.before, *report.done)}
        write_whole(output / "volumes.csv", volumes_csv([known[study] for study in jobs_of if study in known]))
        shutil.rmtree(output / WORK, ignore_errors=True)
    return report
