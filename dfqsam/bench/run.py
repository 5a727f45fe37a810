"""Models side by side: every one in a process of its own, taking turns, so that what slows the machine slows all."""

from __future__ import annotations

import json
import logging
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from dfqsam import __version__
from dfqsam.bundle import Bundle
from dfqsam.errors import InputError
from dfqsam.processor import processor_features
from dfqsam.progress import stage

AGAINST = ("fp32", "dynamic", "openvino")
TURN = 5  # runs of a model until it is another's turn
WARM = 2  # runs at the start of a turn that do not count: caches, and memory that has rested, are slow
PAUSE = 0.05  # seconds between turns, in which threads that wait for work give up
LIBRARIES = ("onnxruntime", "numpy", "openvino")


@dataclass(frozen=True)
class Entry:
    """A model that takes part.

    Attributes:
        part: ``encoder``, ``decoder`` or ``first mask`` (both, and all around them).
        name: of the model, as tables show it.
        engine: see :data:`dfqsam.bench.child.ENGINES`.
        path: of its file, or of a bundle.
    """

    part: str
    name: str
    engine: str
    path: Path


@dataclass(frozen=True)
class Result:
    """What was measured: times in seconds, sizes in bytes, memory in MB (10^6 bytes) of a process without torch."""

    part: str
    name: str
    size: int
    load: float
    seconds: list[float]
    peak: float | None

    @property
    def p50(self) -> float:
        return median(self.seconds)

    @property
    def p95(self) -> float:
        return float(np.percentile(self.seconds, 95))


def bench(
    bundle: Bundle,
    against: Iterable[str] = (),
    threads: int = 2,
    runs: int = 20,
    seed: int = 0,
) -> list[Result]:
    """Times the graphs of ``bundle`` and of what it is compared with.

    Args:
        against: of :data:`AGAINST`: the plain full-precision graphs, these with ONNX Runtime's ``quantize_dynamic``,
            and OpenVINO with the full-precision encoder (float32 and bfloat16) and with the bundle's own.
        threads: of every model, at least 1.
        runs: of every model, in turns of at most :data:`TURN`, each after :data:`WARM` that do not count.
        seed: of the picture, which is noise.

    Raises:
        InputError: when what is asked for is unknown, not installed or not in the bundle.
    """
    wanted = list(dict.fromkeys(against))
    for name in wanted:
        if name not in AGAINST:
            raise InputError(f"There is nothing called {name!r} to compare with; choose among {', '.join(AGAINST)}.")
    if threads < 1 or runs < 1:
        raise InputError(f"{threads} threads and {runs} runs were asked for; give at least 1 of each.")
    if wanted and "encoder_fp32.onnx" not in bundle.manifest.files:
        raise InputError("The bundle has no full-precision graphs to compare with; quantize --with-full-precision.")
    if "openvino" in wanted and find_spec("openvino") is None:
        raise InputError("OpenVINO is not installed; install it with: pip install openvino.")
    if "dynamic" in wanted and find_spec("onnx") is None:
        raise InputError("quantize_dynamic needs onnx; install it with: pip install 'dfqsam[quantize]'.")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        inputs = _inputs(bundle, work, threads, seed)
        entries = _entries(bundle, wanted, work)
        with stage("Timing", len({entry.part for entry in entries}) * len(_turns(runs))) as advance:
            return [
                result
                for part in dict.fromkeys(entry.part for entry in entries)
                for result in _together([e for e in entries if e.part == part], inputs[part], threads, runs, advance)
            ]


def machine(threads: int) -> dict[str, Any]:
    """Versions, threads and processor features; no name of a host or user."""
    versions = {name: metadata.version(name) for name in LIBRARIES if find_spec(name) is not None}
    return {
        "versions": {"dfqsam": __version__, "python": platform.python_version(), **versions},
        "threads": threads,
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": processor_features(),
    }


def _inputs(bundle: Bundle, work: Path, threads: int, seed: int) -> dict[str, Path]:
    """A file of inputs for each part."""
    from dfqsam.runtime.sessions import open_graph

    size = bundle.manifest.model.image_size
    image = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    embedding = np.asarray(open_graph(bundle, "encoder.onnx", threads).run(None, {"image": image})[0])
    side = 4 * embedding.shape[-1]
    prompt = {
        "point_coords": np.array([[[size / 4, size / 4], [3 * size / 4, 3 * size / 4]]], np.float32),
        "point_labels": np.array([[2, 3]], np.float32),
        "mask_input": np.zeros((1, 1, side, side), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
    }
    files = {part: work / f"{part.replace(' ', '-')}.npz" for part in ("encoder", "decoder", "first mask")}
    np.savez(files["encoder"], image=image)
    np.savez(files["decoder"], embedding=embedding, **prompt)
    np.savez(files["first mask"], image=image)
    return files


def _entries(bundle: Bundle, wanted: list[str], work: Path) -> list[Entry]:
    own = bundle.manifest.profile
    found = [
        Entry("encoder", own, "onnxruntime", bundle.path / "encoder.onnx"),
        Entry("decoder", own, "onnxruntime", bundle.path / "decoder.onnx"),
        Entry("first mask", own, "predictor", bundle.path),
    ]
    plain = bundle.path / "encoder_fp32.onnx"
    if "fp32" in wanted:
        found += [
            Entry("encoder", "full precision", "onnxruntime", plain),
            Entry("decoder", "full precision", "onnxruntime", bundle.path / "decoder_fp32.onnx"),
            Entry("first mask", "full precision", "predictor-fp32", bundle.path),
        ]
    if "dynamic" in wanted:
        from onnxruntime.quantization import quantize_dynamic

        with stage("Quantizing dynamically"), redirect_stdout(StringIO()):  # it prints what it reads
            logging.getLogger().setLevel(logging.ERROR)
            quantize_dynamic(str(plain), str(work / "dynamic.onnx"))
        found.append(Entry("encoder", "quantize_dynamic", "onnxruntime", work / "dynamic.onnx"))
    if "openvino" in wanted:
        found += [
            Entry("encoder", "OpenVINO, full precision", "openvino-f32", plain),
            Entry("encoder", "OpenVINO, bfloat16", "openvino-bf16", plain),
            Entry("encoder", f"OpenVINO, {own}", "openvino-f32", bundle.path / "encoder.onnx"),
        ]
    return sorted(found, key=lambda entry: ("encoder", "decoder", "first mask").index(entry.part))


class _Child:
    """A process of :mod:`dfqsam.bench.child`."""

    def __init__(self, entry: Entry, inputs: Path, threads: int) -> None:
        command = [sys.executable, "-m", "dfqsam.bench.child", entry.engine, str(entry.path), str(inputs), str(threads)]
        self.entry, self.seconds = entry, []
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.load = self._answer()["load"]

    def run(self) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return self._answer()["seconds"]

    def end(self) -> float | None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self._answer()["peak"]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            reason = (self.process.stderr.read().strip().splitlines() or ["it ended without a word"])[-1]
            raise InputError(f"{self.entry.name} ({self.entry.part}) cannot be timed here: {reason[:300]}")
        return json.loads(line)


def _together(
    entries: list[Entry], inputs: Path, threads: int, runs: int, advance: Callable[[], object]
) -> list[Result]:
    children: list[_Child] = []
    try:
        for entry in entries:
            children.append(_Child(entry, inputs, threads))
        for length in _turns(runs):
            for child in children:
                seconds = [child.run() for _ in range(WARM + length)]
                child.seconds += seconds[WARM:]
                time.sleep(PAUSE)
            advance()
        return [
            Result(child.entry.part, child.entry.name, _bytes(child.entry), child.load, child.seconds, child.end())
            for child in children
        ]
    finally:
        for child in children:
            child.process.kill()
            child.process.wait()
            for stream in (child.process.stdin, child.process.stdout, child.process.stderr):
                assert stream is not None
                stream.close()


def _turns(runs: int) -> list[int]:
    """How many runs count in each turn."""
    return [min(TURN, runs - begun) for begun in range(0, runs, TURN)]


def _bytes(entry: Entry) -> int:
    if entry.path.is_dir():
        suffix = "_fp32" if entry.engine.endswith("fp32") else ""
        return sum((entry.path / f"{name}{suffix}.onnx").stat().st_size for name in ("encoder", "decoder"))
    return entry.path.stat().st_size
