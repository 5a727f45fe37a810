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
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dfqsam.audit import AuditLog
from dfqsam.bench.load_report import bars, markdown, summary
from dfqsam.bench.run import machine
from dfqsam.errors import DfqsamError, InputError
from dfqsam.progress import stage

USERS = Path(__file__).with_name("load_users.py")
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
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._listening.wait(STARTING) or not self.address:
            self._close(self.process.kill)
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
        return self._close(self.process.terminate)

    def _close(self, end: Callable[[], None]) -> int:
        end()
        try:
            code = self.process.wait(STOPPING)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code


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
