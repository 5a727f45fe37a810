"""What a run of :mod:`dfqsam.bench.serve_load` comes to: figures, bars, and a page."""

from __future__ import annotations

from statistics import fmean
from typing import Any

HELD = "429"  # as in load_users, which only locust loads
FLAT = 0.05
PARTS = 5  # of the time; memory is compared between the second and the last


def percentile(times: dict[float, int], part: float) -> float:
    """Milliseconds within which that part of the answers came, from a histogram.

    >>> percentile({10.0: 90, 200.0: 10}, 0.5), percentile({10.0: 90, 200.0: 10}, 0.95)
    (10.0, 200.0)
    """
    needed, seen = part * sum(times.values()), 0
    for value in sorted(times):
        seen += times[value]
        if seen >= needed:
            return value
    return float("nan")


def summary(entries: list[dict[str, Any]], memories: list[tuple[float, float]], seconds: float) -> dict[str, Any]:
    """What locust and the samples of memory come to.

    Args:
        entries: of locust's JSON: name, num_requests, num_failures, response_times.
        memories: time since the start in seconds, and MB.
        seconds: that it lasted.
    """
    rows: dict[str, Any] = {}
    everything: dict[float, int] = {}
    held = sum(one["num_requests"] for one in entries if one["name"] == HELD)
    for one in entries:
        if one["name"] == HELD:
            continue
        times = {float(ms): int(count) for ms, count in one["response_times"].items()}
        for ms, count in times.items():
            everything[ms] = everything.get(ms, 0) + count
        rows[one["name"]] = {
            "answers": one["num_requests"] - one["num_failures"],
            "errors": one["num_failures"],
            "p50_ms": percentile(times, 0.5),
            "p95_ms": percentile(times, 0.95),
        }
    part = seconds / PARTS
    early = [mb for at, mb in memories if part <= at < 2 * part]
    late = [mb for at, mb in memories if at >= (PARTS - 1) * part]
    before, after = (fmean(values) if values else float("nan") for values in (early, late))
    return {
        "seconds": seconds,
        "requests": rows,
        "answers": sum(row["answers"] for row in rows.values()),
        "errors": sum(row["errors"] for row in rows.values()),
        "held_429": held,
        "p50_ms": percentile(everything, 0.5),
        "p95_ms": percentile(everything, 0.95),
        "memory_second_fifth_mb": before,
        "memory_last_fifth_mb": after,
        "memory_growth": after / before - 1,
        "memory_peak_mb": max((mb for _, mb in memories), default=float("nan")),
    }


def bars(result: dict[str, Any]) -> dict[str, bool]:
    """What is asked of a run, and whether it was met."""
    return {
        "answers came": result["answers"] > 0,
        "no error but 429": result["errors"] == 0,
        "memory flat within 5 %": abs(result["memory_growth"]) <= FLAT,
        "every answer is in the audit log": result["recorded"] >= result["answers"],
        "stopped when told": result["exit_code"] == 0,
    }


def markdown(result: dict[str, Any], met: dict[str, bool], where: dict[str, Any]) -> str:
    """The same for people."""
    lines = [
        f"`dfqsam serve`, {result['clients']} clients without a pause for {result['seconds']:.0f} s, "
        f"{where['threads']} threads, {where['architecture']} ({', '.join(where['processor'])}), "
        + ", ".join(f"{name} {version}" for name, version in where["versions"].items()),
        "",
        "| request | answers | errors | p50 ms | p95 ms |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    rows = {**result["requests"], "all": result}
    for name, row in rows.items():
        lines.append(f"| {name} | {row['answers']} | {row['errors']} | {row['p50_ms']:.0f} | {row['p95_ms']:.0f} |")
    lines += [
        "",
        f"Held off with 429: {result['held_429']}. "
        f"Memory {result['memory_second_fifth_mb']:.0f} MB in the second fifth, "
        f"{result['memory_last_fifth_mb']:.0f} MB in the last ({100 * result['memory_growth']:+.1f} %), "
        f"{result['memory_peak_mb']:.0f} MB at most. Entries in the audit log: {result['recorded']}.",
        "",
        *(f"- {'met' if good else 'MISSED'}: {bar}" for bar, good in met.items()),
    ]
    return "\n".join(lines) + "\n"
