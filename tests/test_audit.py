"""The audit log: nothing can be changed in it unseen, nothing of a patient or person can be written into it."""

import json
import shutil
import sqlite3
import subprocess
import sys
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dfqsam import audit
from dfqsam.audit import KINDS, AuditLog, check_fields
from dfqsam.errors import ChainError, InputError
from dfqsam.judgement import JudgementStore, open_key
from dfqsam.judgement.chain import Head

A, B, C = "a" * 64, "b" * 64, "c" * 64
EXAMPLES = {
    "quantize": {"checkpoint": A, "bundle": B, "profile": "w4a8-mixed"},
    "sign": {"bundle": B, "key": C},
    "verify": {"bundle": None, "result": "refused", "key": None, "acceptance": None},
    "accept": {"bundle": B, "reference": B, "verdict": "PASS", "record": A, "key": C},
    "override": {"bundle": B, "state": "foreign"},
    "serve": {"bundle": B, "event": "start"},
    "request": {
        "bundle": B,
        "request": "0" * 32,
        "client": C,
        "task": "segment",
        "outcome": "answered",
        "answer": A,
    },
}


@pytest.fixture
def log(tmp_path):
    log = AuditLog(tmp_path / "audit.sqlite")
    for kind, fields in EXAMPLES.items():
        log.record(kind, **fields)
    yield log
    log.close()


def test_every_kind_is_recorded_in_order(log):
    assert EXAMPLES.keys() == KINDS.keys()
    assert [entry.kind for entry in log.entries()] == list(EXAMPLES)
    found = [entry.document for entry in log.entries()]
    for about, fields in zip(found, EXAMPLES.values(), strict=True):
        assert about.keys() == {"time", "version", *fields}
        assert fields.items() <= about.items()
    assert log.verify().count == len(EXAMPLES) + 1


@given(text=st.text(min_size=1), data=st.data())
def test_no_field_takes_a_text(text, data):
    """Neither a name nor a path nor anything else that somebody might put there."""
    kind = data.draw(st.sampled_from(sorted(EXAMPLES)))
    name = data.draw(st.sampled_from(sorted(EXAMPLES[kind])))
    whole = {"time": "2026-01-31T12:00:00.000Z", "version": "0.1.0", **EXAMPLES[kind]}
    check_fields(kind, whole)
    words = {"verified", "unsigned", "foreign", "refused", "PASS", "FAIL", "INCONCLUSIVE"}
    words |= {"start", "stop", "image", "segment", "answered", "failed", "late"}
    assume(text not in words | KINDS.keys() | whole.keys())
    for value in (text, f"{whole[name]}{text}", [whole[name]], 5, True, {"a": 1}):
        with pytest.raises(InputError):
            check_fields(kind, {**whole, name: value})
    with pytest.raises(InputError):
        check_fields(kind, {**whole, text: "x"})
    with pytest.raises(InputError):
        check_fields(text, whole)


def rewrite(path, statement, *values):
    with sqlite3.connect(path) as connection:
        for trigger in ("no_update", "no_delete", "only_next"):
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute(statement, values)
    connection.close()


CHANGES = [
    ("UPDATE entries SET body = replace(body, 'PASS', 'FAIL') WHERE kind = 'accept'", ()),
    ("UPDATE entries SET kind = 'sign' WHERE kind = 'verify'", ()),
    ("DELETE FROM entries WHERE sequence = 3", ()),
    ("UPDATE entries SET sequence = -sequence WHERE sequence IN (3, 4)", ()),
    ("INSERT INTO entries VALUES (99, 'sign', '{}', ?, ?)", (A, B)),
]


@pytest.mark.parametrize(("statement", "values"), CHANGES)
def test_edits_behind_its_back_are_seen(log, statement, values):
    log.close()
    rewrite(log.path, statement, *values)
    with pytest.raises(ChainError):
        AuditLog(log.path, write=False)  # the fences are gone
    shutil.copy(log.path, other := log.path.with_name("other.sqlite"))
    from dfqsam.judgement import schema

    with sqlite3.connect(other) as connection:  # put up again, to hide that
        for fence in schema.STATEMENTS[1:]:
            connection.execute(fence)
    connection.close()
    again = AuditLog(other, write=False)
    with pytest.raises(ChainError):
        again.verify()
    again.close()


def test_what_was_cut_off_is_seen_by_a_head_that_was_noted(log):
    noted = log.verify()
    log.close()
    rewrite(log.path, "DELETE FROM entries WHERE sequence = ?", noted.count)
    from dfqsam.judgement import schema

    with sqlite3.connect(log.path) as connection:
        for fence in schema.STATEMENTS[1:]:
            connection.execute(fence)
    connection.close()
    cut = AuditLog(log.path, write=False)
    assert cut.verify().count == noted.count - 1
    with pytest.raises(ChainError, match="1 were cut off"):
        cut.verify(noted)
    cut.close()


def test_an_entry_of_another_program_is_seen(log):
    log._log.append("sign", {"bundle": B, "key": C, "note": "for Mrs Example"})
    with pytest.raises(ChainError, match="is none that dfqsam writes"):
        log.verify()


WRITE = """
import sys
from dfqsam.audit import AuditLog
log = AuditLog(sys.argv[1])
while True:
    print(log.record("sign", bundle="b" * 64, key="c" * 64).head, flush=True)
"""


def test_every_acknowledged_entry_survives_kill_9(tmp_path):
    path = tmp_path / "audit.sqlite"
    for pause in (0.0, 0.02):
        process = subprocess.Popen([sys.executable, "-c", WRITE, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(20)]
        time.sleep(pause)
        process.kill()
        lines += process.stdout.read().splitlines(keepends=True)
        assert process.wait() == -9
        process.stdout.close()
        last = Head.parse([line for line in lines if line.endswith("\n")][-1])
        log = AuditLog(path)
        assert log.verify(last).count >= last.count >= 20
        log.record("sign", bundle=A, key=C)  # and it is written further
        log.close()


def test_other_files_are_no_audit_log(tmp_path):
    (tmp_path / "text").write_text("no log")
    with JudgementStore(tmp_path / "judgements.sqlite", open_key(tmp_path / "site.key")):
        pass
    for name, words in (("text", "is no SQLite file"), ("judgements.sqlite", "is no audit log"), ("none", "cannot be")):
        with pytest.raises(InputError, match=words):
            AuditLog(tmp_path / name, write=False)


def test_nothing_is_recorded_where_no_log_is_kept(tmp_path, monkeypatch):
    assert audit.configured() is None
    audit.record("sign", bundle="whatever", key="")
    monkeypatch.setenv("DFQSAM_AUDIT", str(tmp_path / "a.sqlite"))
    audit.record("sign", bundle=B, key=C)
    with pytest.raises(InputError, match="no form that is stored"):
        audit.record("sign", bundle="/srv/bundles/mine", key=C)
    log = AuditLog(tmp_path / "a.sqlite", write=False)
    assert [json.loads(entry.body)["bundle"] for entry in log.entries()] == [B]
    log.close()
