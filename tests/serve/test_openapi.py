"""The OpenAPI document says what is true, and its page fetches nothing."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from tests.evaluate.world import toy_bundle
from tests.serve.test_images import FINGERPRINTS
from tests.serve.world import ROOT, TOKENS, Process, asked, bearer

HERE = Path(__file__).parent


def test_the_page_fetches_nothing_from_anywhere(tmp_path):
    with asked(tmp_path) as ask:
        answer = ask("GET", "/docs")
        document = ask("GET", "/openapi.json").json()
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"<script|<link|<img|<iframe|@import|url\(|https?://", answer.text)
    for path, methods in document["paths"].items():
        assert path in answer.text
        assert all(method.upper() in answer.text for method in methods)


def test_every_reference_leads_somewhere_and_every_error_is_described(tmp_path):
    with asked(tmp_path, clients=FINGERPRINTS) as ask:
        document = ask("GET", "/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert {found.rpartition("/")[2] for found in re.findall(r'"\$ref": "([^"]+)"', json.dumps(document))} <= {*schemas}
    for path, methods in document["paths"].items():
        for operation in methods.values():
            errors = [said for code, said in operation["responses"].items() if code >= "400" and path != "/ready"]
            assert all("Problem" in json.dumps(said["content"]) for said in errors)
            assert ("security" in operation) == (path.startswith("/v1") or path == "/metrics")


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("schemathesis") is None, reason="schemathesis is not installed (pip install 'dfqsam[dev]')"
)
def test_schemathesis_finds_nothing(tmp_path):
    bundle = toy_bundle(tmp_path / "bundle", 4, full=False).path
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKENS[0])
    tokens.chmod(0o600)
    with Process(bundle, "--token-file", tokens, "--rate", 0, "--audit", tmp_path / "audit.sqlite") as server:
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "schemathesis.toml", "run"]
        options = ["--checks", "all", "--continue-on-failure", "-n", "50", "--seed", "1", "--max-response-time", "20"]
        mine = bearer(TOKENS[0])
        header = ["-H", f"Authorization: {mine['Authorization']}", f"{server.address}/openapi.json"]
        done = subprocess.run(
            [str(word) for word in (*command, *options, *header)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.serve.schemathesis_hooks"},
            check=False,
        )
        figures = httpx.get(f"{server.address}/metrics", headers=mine).text
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    for method, route, status in (
        ("POST", "/v1/segment", 200),
        ("POST", "/v1/images", 201),
        ("POST", "/v1/images/{image}/segment", 200),
        ("DELETE", "/v1/images/{image}", 204),
    ):  # it came as far as masks
        assert f'dfqsam_requests_total{{method="{method}",route="{route}",status="{status}"}}' in figures
    assert 'status="5' not in figures
    assert "Traceback" not in "".join(server.err)
