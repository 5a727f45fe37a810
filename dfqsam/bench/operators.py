"""Where the time of a graph goes, operator by operator, and what this processor could do at best.

    python -m dfqsam.bench.operators ENCODER.onnx [--threads 2] [--runs 5]

ONNX Runtime's own profile says what each kernel took and which shapes it had; multiplications are counted from these,
and bytes are those of inputs and outputs. Beside them stand the rates of large products alone, in float and in
integers, and of adding two vectors too long for caches: a graph of the same operators is hardly faster than what it
computes divided by these.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.bench.run import WARM, machine
from dfqsam.errors import DfqsamError, InputError
from dfqsam.progress import stage

SIDE, LONG = 2048, 1 << 24  # of the matrices and vectors that the best rates are measured with
INTEGER = frozenset(("MatMulIntegerToFloat", "MatMulInteger", "QGemm", "QLinearMatMul", "QLinearConv", "ConvInteger"))
PARTS = frozenset(("Slice", "Gather", "Split"))
BYTES = {"float": 4, "float16": 2, "double": 8, "int64": 8, "int32": 4, "uint8": 1, "int8": 1, "bool": 1}
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Kernel:
    """One run of one operator: seconds, multiplications, and bytes of its inputs and outputs."""

    name: str
    seconds: float
    products: int
    moved: int

    @classmethod
    def of(cls, event: dict[str, Any]) -> Kernel:
        """From an event of ONNX Runtime's profile."""
        told = event["args"]
        ins, outs = _typed(told["input_type_shape"]), _typed(told["output_type_shape"])
        # Of what parts are taken from, only these are read.
        touched = (*outs, *outs) if told["op_name"] in PARTS else (*ins, *outs)
        moved = sum(BYTES.get(kind, 4) * math.prod(shape) for kind, shape in touched)
        shapes = [shape for _, shape in ins], [shape for _, shape in outs]
        return cls(told["op_name"], event["dur"] / 1e6, multiplications(told["op_name"], *shapes), moved)


def multiplications(name: str, ins: list[Shape], outs: list[Shape]) -> int:
    """How many an operator computes, by the shapes of its inputs and of its outputs; 0 for those without products.

    >>> multiplications("MatMul", [(2, 5, 3), (3, 7)], [(2, 5, 7)])
    210
    >>> multiplications("Conv", [(1, 4, 9, 9), (8, 2, 3, 3)], [(1, 8, 9, 9)])
    11664
    >>> multiplications("Attention", [(2, 5, 12), (2, 6, 12), (2, 6, 12)], [(2, 5, 12)])
    1440
    """
    if "Conv" in name:
        kernel = next(shape for shape in ins[1:] if len(shape) == 4)
        return math.prod(outs[0]) * math.prod(kernel[1:])
    if name in ("Attention", "MultiHeadAttention"):
        return 2 * math.prod(ins[0]) * ins[1][1]
    if "MatMul" in name or "Gemm" in name:
        return math.prod(outs[0]) * ins[0][-1]
    return 0


def profile(model: Path, feeds: dict[str, NDArray[Any]], threads: int, runs: int) -> list[list[Kernel]]:
    """The kernels of each run that counts.

    Raises:
        InputError: when ONNX Runtime cannot load the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, threads
    options.enable_mem_pattern, options.enable_profiling = False, True
    with tempfile.TemporaryDirectory() as folder, stage("Profiling", WARM + runs) as advance:
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library raises a class of its own for each kind of failure
            raise InputError(f"{model} cannot be loaded by ONNX Runtime; give an ONNX file.") from error
        for _ in range(WARM + runs):
            session.run(None, feeds)
            advance()
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [event for event in events if event["cat"] == "Node" and event["name"].endswith("_kernel_time")]
    each = len(nodes) // (WARM + runs)
    return [[Kernel.of(event) for event in nodes[i * each : (i + 1) * each]] for i in range(WARM, WARM + runs)]


def summary(runs: Iterable[list[Kernel]]) -> dict[str, Kernel]:
    """By operator the median of what all its kernels took in a run, the slowest first."""
    sums: dict[str, list[Kernel]] = {}
    for run in runs:
        for name in dict.fromkeys(kernel.name for kernel in run):
            own = [kernel for kernel in run if kernel.name == name]
            seconds, products, moved = (sum(getattr(k, part) for k in own) for part in ("seconds", "products", "moved"))
            sums.setdefault(name, []).append(Kernel(name, seconds, products, moved))
    found = {
        name: Kernel(name, median(k.seconds for k in own), own[0].products, own[0].moved) for name, own in sums.items()
    }
    return dict(sorted(found.items(), key=lambda item: -item[1].seconds))


def best(threads: int, runs: int = 5) -> dict[str, float]:
    """Multiplications a second of large products, in ``float`` and ``integer``, and bytes a second of a ``sum``."""
    rng = np.random.default_rng(0)
    floats, codes = rng.standard_normal((SIDE, SIDE), np.float32), rng.integers(0, 255, (SIDE, SIDE), np.uint8)
    weights = rng.integers(-64, 64, (SIDE, SIDE), np.int8)
    a, b = (rng.standard_normal(LONG, np.float32) for _ in range(2))
    side = f"{SIDE}, {SIDE}"
    bodies: dict[str, tuple[str, dict[str, NDArray[Any]], int]] = {
        "float": (f"(float[{side}] a, float[{side}] b) => (float[{side}] y) {{ y = MatMul (a, b) }}",
                  {"a": floats, "b": floats}, SIDE**3),
        "integer": (f"(uint8[{side}] a, int8[{side}] b) => (int32[{side}] y) {{ y = MatMulInteger (a, b) }}",
                    {"a": codes, "b": weights}, SIDE**3),
        "sum": (f"(float[{LONG}] a, float[{LONG}] b) => (float[{LONG}] y) {{ y = Add (a, b) }}",
                {"a": a, "b": b}, 12 * LONG),
    }  # fmt: skip
    return {name: work / _least(_run(body, feeds, threads), runs) for name, (body, feeds, work) in bodies.items()}


def markdown(found: dict[str, Kernel], rates: dict[str, float], told: dict[str, Any]) -> str:
    """A table of operators with their rates, and what the best rates would take for the same."""
    total = sum(kernel.seconds for kernel in found.values())
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    lines = [
        f"{told['architecture']} ({', '.join(told['processor'])}), {told['threads']} threads. {versions}.",
        f"At best: {rates['float'] / 1e9:.0f} G multiplications a second in float, {rates['integer'] / 1e9:.0f} G in "
        f"integers, {rates['sum'] / 1e9:.1f} GB a second.",
        "",
        "| operator | ms | share | G multiplications | G a second | GB | GB a second | ms at best |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    bound = 0.0
    for name, kernel in found.items():
        least = least_seconds(kernel, rates)
        bound += min(least, kernel.seconds)  # what lies in caches is faster than that
        if kernel.seconds < total / 200:
            continue
        products = f"{kernel.products / 1e9:.2f}" if kernel.products else ""
        pace = f"{kernel.products / kernel.seconds / 1e9:.0f}" if kernel.products else ""
        lines.append(
            f"| {name} | {1e3 * kernel.seconds:.0f} | {kernel.seconds / total:.0%} | {products} | {pace} | "
            f"{kernel.moved / 1e9:.2f} | {kernel.moved / kernel.seconds / 1e9:.1f} | {1e3 * least:.0f} |"
        )
    lines.append(f"| all | {1e3 * total:.0f} | 100% | | | | | {1e3 * bound:.0f} |")
    return "\n".join(lines) + "\n"


def least_seconds(kernel: Kernel, rates: dict[str, float]) -> float:
    """What its products or its bytes, whichever take longer, need at the best rates."""
    rate = rates["integer" if kernel.name in INTEGER else "float"]
    return max(kernel.products / rate, kernel.moved / rates["sum"])


def _typed(shapes: list[dict[str, list[int]]]) -> list[tuple[str, Shape]]:
    return [(kind, tuple(shape)) for told in shapes for kind, shape in told.items()]


def _run(body: str, feeds: dict[str, NDArray[Any]], threads: int) -> Callable[[], object]:
    from onnx import parser

    from dfqsam.runtime.sessions import session

    model = parser.parse_model(f'<ir_version: 11, opset_import: ["" : 23]> best {body}').SerializeToString()
    loaded = session(model, threads)
    return lambda: loaded.run(None, feeds)


def _least(run: Callable[[], object], runs: int) -> float:
    seconds = []
    for _ in range(WARM + runs):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return min(seconds[WARM:])


def main(arguments: list[str]) -> int:
    options = argparse.ArgumentParser(prog="python -m dfqsam.bench.operators", description=__doc__)
    options.add_argument("model", type=Path, help="encoder.onnx of a bundle, or its plain full-precision graph")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--runs", type=int, default=5)
    given = options.parse_args(arguments)
    try:
        if given.threads < 1 or given.runs < 1:
            raise InputError("Give at least 1 thread and 1 run.")
        runs = profile(given.model, _noise(given.model), given.threads, given.runs)
        print(markdown(summary(runs), best(given.threads), machine(given.threads)))
    except DfqsamError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


def _noise(model: Path) -> dict[str, NDArray[Any]]:
    """A picture of noise, for a graph that takes one of a fixed size."""
    import onnx

    try:
        (taken,) = onnx.load(str(model), load_external_data=False).graph.input
    except Exception as error:  # protobuf's errors, the system's, or a graph of other inputs
        raise InputError(f"{model} is no encoder of a bundle; give its encoder.onnx.") from error
    shape = [dimension.dim_value for dimension in taken.type.tensor_type.shape.dim]
    values = np.random.default_rng(0).integers(0, 256, shape)
    kind = onnx.helper.tensor_dtype_to_np_dtype(taken.type.tensor_type.elem_type)
    return {taken.name: values.astype(kind)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
