"""Whether attention products at 8 bits would be faster: both forms of every shape that the encoders have, taking turns.

    python -m dfqsam.bench.products [--threads 2] [--runs 15] [--json dfqsam/assets/attention-products.json]

In full precision attention is ONNX's own operator, as exported graphs have it. At 8 bits queries, keys, values and
probabilities are rounded to codes (ranges known, as a calibration would give them), both products are integer ones, and
bias and softmax are computed between them. The file is what bundles name as the reason for the form that they have
(:mod:`dfqsam.export.attention`).
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
from dfqsam.progress import stage

OPSET, IR_VERSION = 23, 11  # those of exported graphs
REACH = 4.0  # of the values, which are normal: what a grid covers
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """Attention of ``batch`` windows: ``queries`` x ``keys`` tokens, ``heads`` heads of ``size`` channels each."""

    name: str
    batch: int
    queries: int
    keys: int
    heads: int
    size: int


def _vit(name: str, heads: int, size: int) -> tuple[Shape, ...]:
    """What a SAM ViT computes at its three sizes: whole windows, those that the edge cuts one way and both ways (whose
    queries are real tokens only), and eight rows of queries against the whole grid."""
    found = []
    for pixels in (256, 512, 1024):
        side = pixels // 16
        whole, rest = divmod(side, 14)
        parts = ((whole**2, 14 * 14, 196), (whole, 14 * rest, 196), (1, rest * rest, 196), (1, 8 * side, side * side))
        kinds = ("windows", "windows at the edge", "the window in the corner", "8 rows of the whole")
        found += [
            Shape(f"{name} at {pixels} px, {k}", *part, heads, size) for k, part in zip(kinds, parts, strict=True)
        ]
    return tuple(found)


SHAPES = (
    Shape("LiteMedSAM and MobileSAM, stage 1", 361, 49, 49, 4, 32),
    Shape("LiteMedSAM and MobileSAM, stage 2", 25, 196, 196, 5, 32),
    Shape("LiteMedSAM and MobileSAM, stage 3", 100, 49, 49, 10, 32),
    *_vit("ViT-B", 12, 64),
    *_vit("ViT-L", 16, 64),
    *_vit("ViT-H", 16, 80),
)


def float_graph(shape: Shape) -> bytes:
    """An ONNX model from query, key, value (batch x tokens x heads size) and bias to what they give."""
    scale = shape.size**-0.5
    return _model(
        f"out = Attention<q_num_heads={shape.heads}, kv_num_heads={shape.heads}, scale={scale:.9f}>"
        "(query, key, value, bias)",
        shape,
    )


def integer_graph(shape: Shape) -> bytes:
    """The same with both products on integers."""
    step = 2 * REACH / 255
    scale = step * step * shape.size**-0.5
    return _model(
        f"""
        step = Constant<value_float={step:.9f}>()
        middle = Constant<value = uint8 {{128}}>()
        zero = Constant<value = int8 {{0}}>()
        none = Constant<value = uint8 {{0}}>()
        one = Constant<value_float={1 / 255:.9f}>()
        scale = Constant<value_float={scale:.9f}>()
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
        shares = Softmax<axis=-1>(biased)
        p8 = QuantizeLinear(shares, one, none)
        mixed = MatMulInteger(p8, vh, none)
        mixedf = Cast<to=1>(mixed)
        heads = Mul(mixedf, last)
        tokens = Transpose<perm=[0, 2, 1, 3]>(heads)
        out = Reshape(tokens, joined)
        """,
        shape,
    )


def inputs(shape: Shape, seed: int = 0) -> dict[str, Floats]:
    """Normal values for all inputs of either graph, cut off at what the grids cover."""
    rng = np.random.default_rng(seed)

    def values(*sizes: int) -> Floats:
        return rng.standard_normal(sizes, np.float32).clip(-REACH, REACH)

    channels = shape.heads * shape.size
    return {
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
            forms = {"float": session(float_graph(shape), threads), "integer": session(integer_graph(shape), threads)}
            outputs = {name: np.asarray(form.run(["out"], feeds)[0]) for name, form in forms.items()}
            seconds: dict[str, list[float]] = {name: [] for name in forms}
            for number in range(WARM + runs):
                for name, form in forms.items():
                    begin = time.perf_counter()
                    form.run(["out"], feeds)
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


def _model(body: str, shape: Shape) -> bytes:
    from onnx import parser

    channels = shape.heads * shape.size
    queries = f"float[{shape.batch}, {shape.queries}, {channels}]"
    keys = f"float[{shape.batch}, {shape.keys}, {channels}]"
    bias = f"float[1, {shape.heads}, {shape.queries}, {shape.keys}]"
    text = f"""
    <ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}]>
    attention ({queries} query, {keys} key, {keys} value, {bias} bias) => ({queries} out) {{ {body} }}
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
