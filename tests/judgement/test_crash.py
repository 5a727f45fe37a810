"""Processes that are killed, processes that write at once, and a power cut."""

import shutil
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfqsam.judgement import JudgementStore, open_key
from tests.judgement.world import KEY, fill, new_store

WRITE = """
import sys
from pathlib import Path
from tests.judgement.world import FIGURES, new_store, subject
store = new_store(Path(sys.argv[1]))
for i in range(int(sys.argv[3])):
    about = subject(sys.argv[2], slice=i)
    if i % 2:
        draw = store.draw(about)
        stored = store.vote(draw.id, about.rater, "left", FIGURES)
    else:
        stored = store.accept(about, FIGURES)
    print(stored.sequence, i, flush=True)
"""


def start(folder, rater, count):
    command = [sys.executable, "-c", WRITE, str(folder), rater, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def is_there(store, rater, acknowledged):
    """Whether every line that a process printed is a record in its place."""
    found = {item.sequence: item.judgement.subject for item in store.judgements()}
    who = KEY.rater(rater)
    return all(found[sequence].rater == who and found[sequence].slice == i for sequence, i in acknowledged)


def test_every_acknowledged_record_survives_kill_9(tmp_path):
    acknowledged = {}
    for n, pause in enumerate((0.0, 0.013, 0.031)):  # killed at three moments, going on with the same file
        process = start(tmp_path, f"rater {n}", 100_000)
        lines = [process.stdout.readline() for _ in range(5 + n)]
        time.sleep(pause)
        process.kill()
        lines += process.stdout.read().splitlines(keepends=True)
        assert process.wait() == -9
        process.stdout.close()
        whole = [line for line in lines if line.endswith("\n")]  # the last may be cut
        assert len(whole) >= 5 + n
        acknowledged[f"rater {n}"] = [tuple(map(int, line.split())) for line in whole]
        with new_store(tmp_path) as store:
            head = store.verify()
            assert all(is_there(store, rater, lines) for rater, lines in acknowledged.items())
    with new_store(tmp_path) as store:
        fill(store, 1)  # and it is written further
        assert store.verify().count == head.count + 1


def test_four_processes_write_at_once(tmp_path):
    """They also make the file, all at once."""
    raters = ("anna", "bernd", "chen", "dilek")
    processes = [start(tmp_path, rater, 20) for rater in raters]
    printed = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    with new_store(tmp_path) as store:
        assert store.verify().count == 1 + 4 * 30
        assert store.open_draws() == 0
        for rater, text in zip(raters, printed, strict=True):
            lines = [tuple(map(int, line.split())) for line in text.splitlines()]
            assert len(lines) == 20
            assert is_there(store, rater, lines)


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """A database and its write-ahead log as they lie on disk while a store is open, and how many entries there are."""
    folder = tmp_path_factory.mktemp("cut")
    (folder / "open").mkdir()
    with new_store(folder / "open") as store:
        fill(store)
        for end in ("", "-wal"):
            shutil.copy(folder / "open" / f"judgements.sqlite{end}", folder / f"saved{end}")
        return folder, store.head.count


@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_write_ahead_log_cut_anywhere_leaves_a_whole_chain(cut, data):
    """As after a power cut in the middle of writing: some last records may be missing, never half of one."""
    folder, count = cut
    for old in folder.glob("judgements.sqlite*"):
        old.unlink()
    shutil.copy(folder / "saved", folder / "judgements.sqlite")
    log = (folder / "saved-wal").read_bytes()
    kept = data.draw(st.integers(0, len(log)))
    (folder / "judgements.sqlite-wal").write_bytes(log[:kept])
    with JudgementStore(folder / "judgements.sqlite", KEY) as store:
        found = store.verify().count
        assert 1 <= found <= count
        assert found == count or kept < len(log)


KEYS = "import sys; from dfqsam.judgement import open_key; print(open_key(sys.argv[1]).fingerprint)"


def test_processes_that_make_the_key_at_once_get_the_same(tmp_path):
    command = [sys.executable, "-c", KEYS, str(tmp_path / "new" / "site.key")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    found = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert found == {open_key(tmp_path / "new" / "site.key").fingerprint}
