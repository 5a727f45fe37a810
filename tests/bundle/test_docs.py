"""docs/trust.md and docs/threat-model.md say what is true: commands run, and every test that is named exists."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dfqsam.audit import KINDS
from dfqsam.bundle.manifest import RECORDS
from tests.evaluate.world import toy_bundle

ROOT = Path(__file__).parents[2]
TRUST = (ROOT / "docs" / "trust.md").read_text()
THREATS = (ROOT / "docs" / "threat-model.md").read_text()
NAMED = sorted({*re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", THREATS)})


def test_every_threat_names_its_tests_and_these_exist():
    rows = re.findall(r"^\| (\d+) \|.*\|$", THREATS, re.MULTILINE)
    assert [int(number) for number in rows] == list(range(1, len(rows) + 1))
    for row in re.findall(r"^\| \d+ \| .*$", THREATS, re.MULTILINE):
        assert "::test_" in row.split("|")[4]
    assert THREATS.count("::test_") == len(re.findall(r"`tests/[\w/]+\.py::test_\w+`", THREATS))
    for file, name in NAMED:
        tree = ast.parse((ROOT / file).read_text())
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"


@pytest.mark.skipif(
    None in (shutil.which("openssl"), shutil.which("sha256sum"), shutil.which("bash")),
    reason="this machine has no openssl, sha256sum or bash",
)
def test_the_commands_run(tmp_path):
    """In the order in which they stand, with a bundle that is there; the one that needs a checkpoint of SAM apart."""
    toy_bundle(tmp_path / "bundle", 0, full=False)
    blocks = [block for block in re.findall(r"```sh\n(.*?)```", TRUST, re.DOTALL) if "convert" not in block]
    assert len(blocks) == 3
    tool = f'dfqsam() {{ "{sys.executable}" -W error -m dfqsam "$@"; }}\n'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = ["bash", "-euo", "pipefail", "-c", tool + "".join(blocks)]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "Signature Verified Successfully" in done.stdout
    assert "bundle/encoder.onnx: OK" in done.stdout
    fingerprint = re.search(r"Fingerprint: (\w{64})", done.stdout)
    assert fingerprint is not None
    assert f"{fingerprint[1]}  -" in done.stdout
    assert "signed by the trusted key hospital" in done.stdout
    assert re.search(r"^2 \S+ verify: .*result verified", done.stdout, re.MULTILINE)


def test_every_kind_of_entry_and_every_record_is_named():
    table = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", TRUST, re.MULTILINE))
    for kind, fields in KINDS.items():
        assert all(name in table[kind] for name in fields)
    assert all(f"| `{name}` |" in TRUST for name in RECORDS)
