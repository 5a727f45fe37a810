"""Whether attention products at 8 bits are faster: both forms of every shape that the encoders have, taking turns.

    python -m dfqsam.bench.products [--threads 2] [--runs 15] [--json dfqsam/assets/attention-products.json]

Attention over a whole grid is timed in the two forms that a graph can have it in, relative positions included: ONNX's
own operator for a few rows of queries at a time, and :mod:`dfqsam.sam.integer_attention`. In windows, full precision is
that operator too; at 8 bits queries, keys and values are rounded to codes (ranges known, as a calibration would give
them), and probabilities before they are divided by their sum (in steps of 1/255 of one, those of 196 keys would be one
or two codes). The file decides which form a graph has (:mod:`dfqsam.export.attention`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.bench.run import PAUSE, WARM, machine
from dfqsam.errors import DfqsamError
from dfqsam.export.whole import whole_graph
from dfqsam.progress import stage

OPSET, IR_VERSION = 23, 11  # those of exported graphs
REACH = 4.0  # of the values, which are normal: what a grid covers
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """Attention of ``batch`` windows: ``queries`` x ``keys`` tokens, ``heads`` heads of ``size`` channels each.

    Attributes:
        side: of the grid, for attention over all of it; 0 for windows.
    """

    name: str
    batch: int
    queries: int
    keys: int
    heads: int
    size: int
    side: int = 0


def _windows(name: str, side: int, window: int, heads: int, size: int) -> list[Shape]:
    """All windows of a grid: whole ones, those that the edge cuts one way and both ways (whose queries are real tokens
    only)."""
    whole, rest = divmod(side, window)
    parts = [("windows", whole**2, window * window)] if whole else []
    if rest:
        parts.append(("windows at the edge", whole, window * rest))
        parts.append(("the window in the corner", 1, rest * rest))
    return [Shape(f"{name}, {kind}", batch, queries, window**2, heads, size) for kind, batch, queries in parts]


def _vit(name: str, heads: int, size: int) -> list[Shape]:
    """What a SAM ViT computes at its three sizes."""
    found = []
    for pixels in (256, 512, 1024):
        side = pixels // 16
        found += _windows(f"{name} at {pixels} px", side, 14, heads, size)
        found.append(Shape(f"{name} at {pixels} px, the whole grid", 1, side**2, side**2, heads, size, side))
    return found


SHAPES = (
    *_windows("LiteMedSAM and MobileSAM, stage 1", 128, 7, 4, 32),
    *_windows("LiteMedSAM and MobileSAM, stage 2", 64, 14, 5, 32),
    *_windows("LiteMedSAM and MobileSAM, stage 3", 64, 7, 10, 32),
    *_vit("ViT-B", 12, 64),
    *_vit("ViT-L", 16, 64),
    *_vit("ViT-H", 16, 80),
)


def forms(shape: Shape) -> dict[str, bytes]:
    """An ONNX model in floating point and one on integers."""
    if shape.side:
        sizes = (shape.side, shape.heads, shape.size)
        return {"float": whole_graph(*sizes, on_integers=False), "integer": whole_graph(*sizes, on_integers=True)}
    return {"float": float_graph(shape), "integer": integer_graph(shape)}


def float_graph(shape: Shape) -> bytes:
    """An ONNX model from query, key, value (batch x tokens x heads size) and bias to what they give."""
    scale = shape.size**-0.5
    return _model(
        f"out = Attention<q_num_heads={shape.heads}, kv_num_heads={shape.heads}, scale={scale:.9f}>"
        "(query, key, value, bias)",
        shape,
    )


def integer_graph(shape: Shape) -> bytes:
    """The same with both products on integers; ``unit`` is 1 (:func:`dfqsam.export.products.scale_at_run_time`)."""
    step = 2 * REACH / 255
    scale = step * step * shape.size**-0.5
    return _model(
        f"""
        step = Constant<value_float={step:.9f}>()
        middle = Constant<value = uint8 {{128}}>()
        zero = Constant<value = int8 {{0}}>()
        none = Constant<value = uint8 {{0}}>()
        one = Constant<value_float={1 / 255:.9f}>()
        constant = Constant<value_float={scale:.9f}>()
        scale = Mul(unit, constant)
        last = Constant<value_float={step / 255:.9f}>()
        split = Constant<value_ints=[0, 0, {shape.heads}, {shape.size}]>()
        joined = Constant<value_ints=[0, 0, {shape.heads * shape.size}]>()
        q8 = QuantizeLinear(query, step, middle)
        k8 = QuantizeLinear(key, step, zero)
        v8 = QuantizeLinear(value, step, zero)
        q4 = Reshape(q8, split)
        k4 = Reshape(k8, split)
        v4 = Reshape(v8, split)
        qh = Transpose<perm=[0, 2, 1, 3]>(q4)
        kh = Transpose<perm=[0, 2, 3, 1]>(k4)
        vh = Transpose<perm=[0, 2, 1, 3]>(v4)
        sums = MatMulInteger(qh, kh, middle)
        floats = Cast<to=1>(sums)
        scores = Mul(floats, scale)
        biased = Add(scores, bias)
        keys = Constant<value_ints=[3]>()
        largest = ReduceMax(biased, keys)
        below = Sub(biased, largest)
        shares = Exp(below)
        sum = ReduceSum(shares, keys)
        p8 = QuantizeLinear(shares, one, none)
        mixed = MatMulInteger(p8, vh, none)
        mixedf = Cast<to=1>(mixed)
        unscaled = Mul(mixedf, last)
        heads = Div(unscaled, sum)
        tokens = Transpose<perm=[0, 2, 1, 3]>(heads)
        out = Reshape(tokens, joined)
        """,
        shape,
        "float[1] unit",
    )


def inputs(shape: Shape, seed: int = 0) -> dict[str, Floats]:
    """Normal values for all inputs of either graph, cut off at what the grids of windows cover."""
    rng = np.random.default_rng(seed)

    def values(*sizes: int) -> Floats:
        return rng.standard_normal(sizes, np.float32).clip(-REACH, REACH)

    channels = shape.heads * shape.size
    if shape.side:
        return {"qkv": values(1, shape.side, shape.side, 3 * channels), "unread": np.zeros(1, np.float32)}
    return {
        "unit": np.ones(1, np.float32),
        "query": values(shape.batch, shape.queries, channels),
        "key": values(shape.batch, shape.keys, channels),
        "value": values(shape.batch, shape.keys, channels),
        "bias": values(1, shape.heads, shape.queries, shape.keys),
    }


def compare(shapes: tuple[Shape, ...], threads: int, runs: int) -> list[dict[str, Any]]:
    """For each shape the seconds of both forms (the least of all runs, which other work on the machine disturbs least),
    how many times as long integers take, and how far they are off (relative, L2)."""
    from dfqsam.runtime.sessions import session

    found = []
    with stage("Timing attention", len(shapes)) as advance:
        for shape in shapes:
            feeds = inputs(shape)
            running = {name: session(graph, threads) for name, graph in forms(shape).items()}
            own = {name: {i.name: feeds[i.name] for i in form.get_inputs()} for name, form in running.items()}
            outputs = {name: np.asarray(form.run(["out"], own[name])[0]) for name, form in running.items()}
            seconds: dict[str, list[float]] = {name: [] for name in running}
            for number in range(WARM + runs):
                for name, form in running.items():
                    begin = time.perf_counter()
                    form.run(["out"], own[name])
                    if number >= WARM:
                        seconds[name].append(time.perf_counter() - begin)
                    time.sleep(PAUSE)
            times = {name: min(values) for name, values in seconds.items()}
            error = np.linalg.norm(outputs["integer"] - outputs["float"]) / np.linalg.norm(outputs["float"])
            ratio = times["integer"] / times["float"]
            found.append({**asdict(shape), "seconds": times, "ratio": round(ratio, 3), "error": float(error)})
            advance()
    return found


def markdown(found: list[dict[str, Any]]) -> str:
    lines = ["| attention | float, ms | integer, ms | integer / float |", "| --- | ---: | ---: | ---: |"]
    for row in found:
        times = row["seconds"]
        lines.append(f"| {row['name']} | {1e3 * times['float']:.2f} | {1e3 * times['integer']:.2f} | {row['ratio']} |")
    return "\n".join(lines) + "\n"


def _model(body: str, shape: Shape, *more: str) -> bytes:
    from onnx import parser

    channels = shape.heads * shape.size
    queries = f"float[{shape.batch}, {shape.queries}, {channels}]"
    keys = f"float[{shape.batch}, {shape.keys}, {channels}]"
    bias = f"float[1, {shape.heads}, {shape.queries}, {shape.keys}]"
    given = ", ".join([f"{queries} query, {keys} key, {keys} value, {bias} bias", *more])
    text = f"""
    <ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}]>
    attention ({given}) => ({queries} out) {{ {body} }}
    """
    return parser.parse_model(text).SerializeToString()


def main(arguments: list[str]) -> int:
    options = argparse.ArgumentParser(prog="python -m dfqsam.bench.products", description=__doc__)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--runs", type=int, default=15)
    options.add_argument("--json", type=Path, help="file for the figures")
    given = options.parse_args(arguments)
    load = round(os.getloadavg()[0], 2)  # above the number of threads the machine was not at rest
    try:
        found = compare(SHAPES, given.threads, given.runs)
    except DfqsamError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(markdown(found))
    if given.json is not None:
        command = f"python -m dfqsam.bench.products --threads {given.threads} --runs {given.runs}"
        where = {**machine(given.threads), "load_before": load}
        document = {"command": command, "machine": where, "shapes": found}
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
