"""A service around the toy model of :mod:`tests.evaluate.world`, asked in this process or in one of its own.

The toy's mask is the box, less ``shrink`` pixels on each side times the picture's brightness: what must come is known.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np

from dfqsam.audit import AuditLog
from dfqsam.runtime import Predictor
from dfqsam.serve.app import make_app, make_service
from dfqsam.serve.routes import Service
from dfqsam.serve.settings import Settings
from tests.evaluate.world import SIDE, toy_bundle

ROOT = Path(__file__).parents[2]
TOKENS = ("a" * 40, "b" * 40)
BOX = (10, 12, 30, 40)
SHRINK = 4


def png(level: int = 255, side: int = SIDE) -> bytes:
    """A picture of one brightness (0 to 255)."""
    return cv2.imencode(".png", np.full((side, side, 3), level, np.uint8))[1].tobytes()


def expected(box=BOX, less: int = SHRINK) -> np.ndarray:
    """The toy's mask for a white picture of 64 x 64: a pixel is in if it is ``less`` from the box's sides."""
    mask = np.zeros((SIDE, SIDE), bool)
    x0, y0, x1, y1 = box
    mask[y0 + less : y1 - less + 1, x0 + less : x1 - less + 1] = True
    return mask


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def form(image: bytes = b"", prompts=({"box": BOX},), name: str = "p.png", **fields: str) -> dict:
    """What httpx takes for a form."""
    texts = dict(fields) if prompts is None else {"prompts": json.dumps(list(prompts)), **fields}
    return {"files": {"image": (name, image or png())}, "data": texts}


class Asked:
    """A service in this process, with a client that asks it."""

    def __init__(self, bundle: Path, audit: Path | None = None, **settings) -> None:
        self.log = None if audit is None else AuditLog(audit)
        self.service: Service = make_service(Predictor(bundle), Settings(**settings), self.log)
        self.app = make_app(self.service)

    def client(self, **options) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, client=("127.0.0.1", 1))
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", **options)

    def __call__(self, method: str, path: str, **options) -> httpx.Response:
        import asyncio

        async def ask() -> httpx.Response:
            async with self.client() as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())

    def close(self) -> None:
        self.service.engine.close()
        if self.log is not None:
            self.log.close()


@contextlib.contextmanager
def asked(folder: Path, prompts=("box",), **settings) -> Iterator[Asked]:
    """A service of the toy bundle."""
    bundle = folder / "bundle"
    if not bundle.exists():
        toy_bundle(bundle, SHRINK, full=False, prompts=prompts)
    one = Asked(bundle, **settings)
    try:
        yield one
    finally:
        one.close()


class Process:
    """``dfqsam serve`` in a process of its own.

    Attributes:
        address: what it listens on, as a URL.
        lines: what it wrote to standard output and error.
    """

    def __init__(self, *options: object, before: tuple[str, ...] = (), wrapped: str = "", **environment: str) -> None:
        code = ["-c", wrapped] if wrapped else ["-m", "dfqsam"]
        command = [*before, sys.executable, "-W", "error", *code, "serve", *map(str, options), "--port", "0"]
        paths = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **environment},
        )
        self.out: list[str] = []
        self.err: list[str] = []
        self.address = ""
        self._listening = threading.Event()
        self._readers = [
            threading.Thread(target=self._read, args=(stream, kept), daemon=True)
            for stream, kept in ((self.process.stdout, self.out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream, kept: list[str]) -> None:
        for line in stream:
            kept.append(line)
            if found := re.search(r" at (https?://\S+)$", line.strip()):
                self.address = found[1]
                self._listening.set()
        self._listening.set()

    def __enter__(self) -> "Process":
        assert self._listening.wait(60)
        assert self.address, "".join(self.err)
        return self

    def __exit__(self, *_: object) -> None:
        self.end(9)

    def end(self, number: int) -> int:
        """Send a signal, and wait for the end; its exit code."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        code = self.process.wait(60)
        for reader in self._readers:
            reader.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code
