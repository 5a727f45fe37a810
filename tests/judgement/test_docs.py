"""docs/judgements.md says what is true: its examples are run."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dfqsam.judgement import REASONS
from dfqsam.judgement.chain import GENESIS, digest
from dfqsam.judgement.record import COLUMNS
from tests.judgement.world import fill, new_store

TEXT = (Path(__file__).parents[2] / "docs" / "judgements.md").read_text()
BLOCKS = re.findall(r"```(sh|text|python)\n(.*?)```", TEXT, re.DOTALL)
BY_HAND, WHOLE, HEAD = (block for kind, block in BLOCKS if kind == "sh")
SHOWN_HASH, SHOWN_WHOLE = (block for kind, block in BLOCKS if kind == "text")


def shell(script, folder):
    return subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=folder, capture_output=True, text=True)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="this machine has no sha256sum")
def test_the_hash_by_hand_is_the_one_that_is_shown(tmp_path):
    assert shell(BY_HAND, tmp_path).stdout == SHOWN_HASH


def test_the_shown_hash_is_that_of_the_shown_entry():
    (body,) = re.findall(r"'(\{.*\})'", BY_HAND)
    assert f"{digest(GENESIS, 1, 'log', body)}  -\n" == SHOWN_HASH


@pytest.mark.skipif(
    None in (shutil.which("sqlite3"), shutil.which("sha256sum")), reason="this machine has no sqlite3 or sha256sum"
)
def test_the_chain_is_verified_by_sqlite3_and_sha256sum(tmp_path):
    with new_store(tmp_path) as store:
        fill(store)
        head = store.head
        done = shell(WHOLE + HEAD, tmp_path)  # while it is open
    assert (done.stdout, done.stderr) == (f"{SHOWN_WHOLE}{head}\n", "")
    script = "sqlite3 judgements.sqlite \"DROP TRIGGER no_update; UPDATE entries SET body = '{}' WHERE sequence = 4\""
    assert shell(script, tmp_path).returncode == 0
    altered = shell(WHOLE, tmp_path)
    assert SHOWN_WHOLE.splitlines()[0] not in altered.stdout


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = (block for kind, block in BLOCKS if kind == "python")
    names = {}
    exec(compile(code, "docs/judgements.md", "exec"), names)
    names["store"].close()
    assert names["vote"].preferred == names["draw"].left
    assert capsys.readouterr().out.endswith(f" {names['vote'].sequence}:{names['store']._history.head.sha256}\n")
    assert sorted(os.listdir(tmp_path)) == ["judgements.sqlite", "site.key"]


def test_every_field_and_reason_is_named():
    fields, code = TEXT.split("## Blinded preference")[0], set(re.findall(r"[a-z][a-z0-9_-]+", TEXT))
    for name in COLUMNS:
        assert re.search(rf"^\| (.*, )?{name}(, .*)? \|", fields, re.MULTILINE), name
    assert {*REASONS} <= code
