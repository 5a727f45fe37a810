"""Whether global attention of a SAM ViT is faster in flash form: both forms of eight rows of queries, taking turns.

    python -m dfqsam.bench.flash [--threads 2] [--runs 9]

Exported graphs add the two relative-position terms of a query to a bias over the whole grid and give it to ONNX's
Attention. The bias is linear in the query, so that the terms can be appended to the query instead, and to the keys
which row and column they are in: ONNX Runtime's MultiHeadAttention then needs no bias and never stores all scores.
Keys grow from 64 channels to 64 + H + W for that.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.bench.run import PAUSE, WARM
from dfqsam.progress import stage

OPSET, IR_VERSION = 23, 11  # those of exported graphs
ROWS, CHANNELS = 8, 64
Floats = NDArray[np.float32]
FAMILIES = {"ViT-B": 12, "ViT-L": 16}
SIDES = (16, 32, 64)  # of the grids at 256, 512 and 1024 px


def biased_graph(side: int, heads: int) -> bytes:
    """An ONNX model of the form that is exported: from query, key, value (1 x tokens x heads 64) and the terms of rows
    and columns (heads x queries x side each) to what attention gives."""
    return _model(
        f"""
        last = Constant<value_ints=[-1]>()
        before = Constant<value_ints=[-2]>()
        v = Unsqueeze(vertical, last)
        h = Unsqueeze(horizontal, before)
        sum = Add(v, h)
        shape = Constant<value_ints=[1, {heads}, {ROWS * side}, {side * side}]>()
        bias = Reshape(sum, shape)
        out = Attention<q_num_heads={heads}, kv_num_heads={heads}, scale={CHANNELS**-0.5:.9f}>(query, key, value, bias)
        """,
        side,
        heads,
    )


def flash_graph(side: int, heads: int) -> bytes:
    """The same in flash form; ``places`` (1 x tokens x heads 2 side) says where the keys are, and is divided by the
    scale of the scores already."""
    return _model(
        f"""
        apart = Constant<value_ints=[0, 0, {heads}, {CHANNELS}]>()
        wide = Constant<value_ints=[0, 0, {heads}, {2 * side}]>()
        joined = Constant<value_ints=[0, 0, {heads * (CHANNELS + 2 * side)}]>()
        one = Constant<value_ints=[1, {ROWS * side}, {heads}, {side}]>()
        q4 = Reshape(query, apart)
        vt = Transpose<perm=[1, 0, 2]>(vertical)
        ht = Transpose<perm=[1, 0, 2]>(horizontal)
        v4 = Reshape(vt, one)
        h4 = Reshape(ht, one)
        qs = Concat<axis=-1>(q4, v4, h4)
        q = Reshape(qs, joined)
        k4 = Reshape(key, apart)
        p4 = Reshape(places, wide)
        ks = Concat<axis=-1>(k4, p4)
        k = Reshape(ks, joined)
        out = com.microsoft.MultiHeadAttention<num_heads={heads}, scale={CHANNELS**-0.5:.9f}>(q, k, value)
        """,
        side,
        heads,
        f", float[1, {side * side}, {heads * 2 * side}] places",
    )


def inputs(side: int, heads: int, seed: int = 0) -> dict[str, Floats]:
    """Normal values for the inputs of both graphs, and where the keys are."""
    rng = np.random.default_rng(seed)

    def values(*sizes: int) -> Floats:
        return rng.standard_normal(sizes, np.float32)

    rows, columns = np.divmod(np.arange(side * side), side)
    places = np.concatenate([np.eye(side)[rows], np.eye(side)[columns]], 1) * CHANNELS**0.5
    return {
        "query": values(1, ROWS * side, heads * CHANNELS),
        "key": values(1, side * side, heads * CHANNELS),
        "value": values(1, side * side, heads * CHANNELS),
        "vertical": values(heads, ROWS * side, side),
        "horizontal": values(heads, ROWS * side, side),
        "places": np.tile(places, (1, heads))[None].astype(np.float32),
    }


def compare(threads: int, runs: int) -> list[dict[str, Any]]:
    """By family and grid: seconds of both forms (the least of all runs) and how many times as long flash takes."""
    from dfqsam.runtime.sessions import session

    found = []
    with stage("Timing global attention", len(FAMILIES) * len(SIDES)) as advance:
        for name, heads in FAMILIES.items():
            for side in SIDES:
                feeds = inputs(side, heads)
                forms = {
                    "biased": session(biased_graph(side, heads), threads),
                    "flash": session(flash_graph(side, heads), threads),
                }
                own = {form: {i.name: feeds[i.name] for i in s.get_inputs()} for form, s in forms.items()}
                seconds: dict[str, list[float]] = {form: [] for form in forms}
                for number in range(WARM + runs):
                    for form, running in forms.items():
                        begin = time.perf_counter()
                        running.run(["out"], own[form])
                        if number >= WARM:
                            seconds[form].append(time.perf_counter() - begin)
                        time.sleep(PAUSE)
                times = {form: min(values) for form, values in seconds.items()}
                ratio = round(times["flash"] / times["biased"], 3)
                found.append({"name": f"{name} at {16 * side} px", "seconds": times, "ratio": ratio})
                advance()
    return found


def _model(body: str, side: int, heads: int, more: str = "") -> bytes:
    from onnx import parser

    queries, keys = (f"float[1, {count}, {heads * CHANNELS}]" for count in (ROWS * side, side * side))
    terms = f"float[{heads}, {ROWS * side}, {side}]"
    text = f"""
    <ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}, "com.microsoft" : 1]>
    attention ({queries} query, {keys} key, {keys} value, {terms} vertical, {terms} horizontal{more})
        => ({queries} out) {{ {body} }}
    """
    return parser.parse_model(text).SerializeToString()


def main(arguments: list[str]) -> int:
    options = argparse.ArgumentParser(prog="python -m dfqsam.bench.flash", description=__doc__)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--runs", type=int, default=9)
    given = options.parse_args(arguments)
    print("| eight rows of queries | biased, ms | flash, ms | flash / biased |\n| --- | ---: | ---: | ---: |")
    for row in compare(given.threads, given.runs):
        biased, flash = (1e3 * row["seconds"][form] for form in ("biased", "flash"))
        print(f"| {row['name']} | {biased:.1f} | {flash:.1f} | {row['ratio']} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
