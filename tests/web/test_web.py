"""Bundles in onnxruntime-web: headless Chromium, WebAssembly, one thread, a page served from this machine."""

import base64
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dfqsam.assets import shipped_bundle
from dfqsam.bundle import Bundle, open_bundle
from dfqsam.config import QuantConfig
from dfqsam.runtime import Predictor
from dfqsam.runtime.selftest import DICE, SelfTest, difference, part_means
from tests.app.browser import CHROMIUM
from tests.small_bundle import bundle_on_integers, small_bundle, small_sam

VERSION = "1.30.0"  # of onnxruntime-web
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
LACKING = [name for name, found in (("Chromium", CHROMIUM), ("npm", shutil.which("npm"))) if not found]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(LACKING), reason=f"no {' and no '.join(LACKING)}: onnxruntime-web was NOT tested"),
]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    """The files of onnxruntime-web that a page needs; the package is unpacked, and nothing of it is run."""
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "pack", "--silent", f"onnxruntime-web@{VERSION}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"onnxruntime-web {VERSION} cannot be fetched, and was NOT tested: {done.stderr.strip()[-200:]}")
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, [tar.getmember(f"package/dist/{name}") for name in FILES], filter="data")
    return folder / "package" / "dist"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def computed(bundle: Bundle, library: Path, browser: Any, folder: Path) -> dict[str, np.ndarray]:
    """Embedding and logits that a page in ``browser`` computes for the self-test's picture and prompt."""
    test = SelfTest.of(bundle)
    assert test is not None
    for name in FILES:
        shutil.copy(library / name, folder)
    shutil.copy(Path(__file__).parent / "page.html", folder / "index.html")
    for name in ("encoder.onnx", "decoder.onnx"):
        (folder / name).write_bytes(bundle.read(name))
    (folder / "picture.bin").write_bytes(test.picture.tobytes())
    height, width = test.picture.shape[:2]
    box = "box" in bundle.manifest.prompts
    asked = {"box": [width / 4, height / 4, 3 * width / 4, 3 * height / 4]} if box else {}
    point = {} if box else {"point_coords": [[width / 2, height / 2]], "point_labels": [1]}
    coords, labels = Predictor(bundle, threads=1).check_prompt((height, width), **asked, **point)
    prompt = {"shape": list(test.picture.shape), "coords": coords.ravel().tolist(), "labels": labels.ravel().tolist()}
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            page = browser.new_page()
            page.set_default_timeout(300_000)
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            page.wait_for_function("window.ready")
            found = page.evaluate("prompt => window.compute(prompt)", prompt)
            page.close()
        finally:
            server.shutdown()
    return {
        name: np.frombuffer(base64.b64decode(found[name]), np.float32).reshape(found[shape])
        for name, shape in (("embedding", "grid"), ("logits", "low"))
    }


def test_the_shipped_bundle_passes_its_self_test_in_a_browser(library, browser, tmp_path):
    bundle = open_bundle(shipped_bundle())
    test = SelfTest.of(bundle)
    assert test is not None
    found = computed(bundle, library, browser, tmp_path)
    assert difference(part_means(found["embedding"]), test.means) <= test.limit
    mask = found["logits"][0, 0] > 0
    assert 2 * int((mask & test.mask).sum()) >= DICE * (int(mask.sum()) + int(test.mask.sum()))
    predictor = Predictor(bundle, threads=1)
    predictor.set_image(test.picture)
    error = np.linalg.norm(found["embedding"] - predictor.embedding) / np.linalg.norm(predictor.embedding)
    assert error < 0.1  # the chaos of rounding makes 0.04


def error_in_a_browser(bundle, library, browser, folder) -> float:
    """Of the embedding of the self-test's picture, relative to ONNX Runtime here."""
    test = SelfTest.of(bundle)
    assert test is not None
    folder.mkdir()
    found = computed(bundle, library, browser, folder)
    predictor = Predictor(bundle, threads=1)
    predictor.set_image(test.picture)
    return float(np.linalg.norm(found["embedding"] - predictor.embedding) / np.linalg.norm(predictor.embedding))


def test_weights_in_blocks_are_computed_exactly_in_a_browser(library, browser, tmp_path):
    bundle = small_bundle(tmp_path / "bundle", small_sam("sam-med2d", 64), QuantConfig.of("w4-only", "plain"))
    assert error_in_a_browser(bundle, library, browser, tmp_path / "page") < 1e-4


def test_attention_on_integers_is_computed_the_same_in_a_browser(library, browser, tmp_path, monkeypatch):
    bundle = bundle_on_integers(tmp_path / "bundle", monkeypatch)
    assert error_in_a_browser(bundle, library, browser, tmp_path / "page") < 0.1  # the chaos of rounding
