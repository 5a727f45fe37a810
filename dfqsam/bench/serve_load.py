"""``dfqsam serve`` under load: clients of locust ask it without a pause, and what it answers and takes is measured.

    python -m dfqsam.bench.serve_load [--seconds 300] [--clients 16] [--threads 2] [-o build/serve-load]

Writes serve-load.json and serve-load.md. Exit code 1 where a bar is missed: an error other than 429, memory in the last
fifth of the time more than 5 % from that in the second fifth, an answer without its record in the audit log, or a
server that does not stop as it should. It needs the extra ``dev``, and a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from dfqsam.audit import AuditLog
from dfqsam.bench.run import machine
from dfqsam.errors import DfqsamError, InputError
from dfqsam.progress import stage

USERS = Path(__file__).with_name("load_users.py")
HELD = "429"  # as in load_users, which only locust loads
FLAT = 0.05
PARTS = 5  # of the time; memory is compared between the second and the last
STARTING, STOPPING = 120.0, 90.0


def memory(pid: int) -> float:
    """MB (10^6 bytes) that a process has in memory; Linux only."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


class Server:
    """``dfqsam serve`` in a process of its own, with a log of its requests that is thrown away."""

    def __init__(self, bundle: Path | None, threads: int, audit: Path) -> None:
        named = [] if bundle is None else [str(bundle)]
        options = ["--port", "0", "--rate", "0", "--threads", str(threads), "--audit", str(audit)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dfqsam", "serve", *named, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        self.address = ""
        self._listening = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        if not self._listening.wait(STARTING) or not self.address:
            self.process.kill()
            raise InputError(f"The service did not start: {' '.join(self.said)[-300:]}")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.strip())
            if found := re.search(r" at (http://\S+)$", line.strip()):
                self.address = found[1]
                self._listening.set()
        self._listening.set()

    def stop(self) -> int:
        """Its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOPPING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


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


def measure(bundle: Path | None, seconds: int, clients: int, threads: int, output: Path) -> dict[str, Any]:
    """Runs server and clients.

    Raises:
        InputError: when the server or locust does not start.
    """
    output.mkdir(parents=True, exist_ok=True)
    audit, stats = output / "audit.sqlite", output / "locust"
    for old in (*output.glob("audit.sqlite*"), stats.with_suffix(".json")):
        old.unlink(missing_ok=True)
    server = Server(bundle, threads, audit)
    memories: list[tuple[float, float]] = []
    try:
        command = [
            sys.executable,
            "-m",
            "locust",
            "-f",
            str(USERS),
            "--headless",
            "--only-summary",
            "--loglevel",
            "ERROR",
        ]
        command += ["-u", str(clients), "-r", str(clients), "-t", f"{seconds}s", "--stop-timeout", "90"]
        command += ["--host", server.address, "--json-file", str(stats), "--exit-code-on-error", "0"]
        load = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        begun = time.monotonic()
        with stage("load", seconds) as advance:
            while load.poll() is None and server.process.poll() is None:
                at = time.monotonic() - begun
                if at <= seconds:
                    memories.append((at, memory(server.process.pid)))
                time.sleep(1)
                advance(1, MB=memories[-1][1])
        _, said = load.communicate()
    finally:
        code = server.stop()
    if not (report := stats.with_suffix(".json")).is_file():
        raise InputError(f"locust did not run: {said.strip()[-300:]}")
    result = summary(json.loads(report.read_text()), memories, seconds)
    log = AuditLog(audit, write=False)
    log.verify()
    answered = [e for e in log.entries() if e.kind == "request" and e.document["outcome"] == "answered"]
    log.close()
    return {**result, "clients": clients, "recorded": len(answered), "exit_code": code}


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description="dfqsam serve under load.")
    parser.add_argument("--bundle", type=Path, help="a bundle; without one, the LiteMedSAM that ships")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/serve-load"))
    given = parser.parse_args()
    try:
        result = measure(given.bundle, given.seconds, given.clients, given.threads, given.output)
    except DfqsamError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    met, where = bars(result), machine(given.threads)
    (given.output / "serve-load.json").write_text(
        json.dumps({**result, "bars": met, "machine": where}, indent=1) + "\n"
    )
    text = markdown(result, met, where)
    (given.output / "serve-load.md").write_text(text)
    print(text)
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
