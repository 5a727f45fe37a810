"""Files that are no log, and a log that cannot be written."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dfqsam.errors import InputError
from dfqsam.judgement import JudgementStore, Log, open_key
from dfqsam.judgement.log import create
from tests.judgement.world import FIGURES, KEY, fill, new_store, subject

NOBODY = 65534


@pytest.fixture
def own_folder():
    """A folder that somebody without privileges can reach."""
    folder = Path(tempfile.mkdtemp(prefix="dfqsam-test-"))
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


@contextmanager
def unprivileged():
    """Root may write everything; become nobody for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def give_away(folder):
    for path in (folder, *folder.iterdir()):
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no SQLite file"),
        (b"time,rater\n", "is no SQLite file"),
        (b"SQLite format 3\0" + bytes(200), "is no SQLite file"),
        (None, "cannot be read (No such file or directory)"),
    ],
)
def test_what_is_no_database_is_refused(tmp_path, content, said):
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        JudgementStore(path, None)
    assert said in str(error.value)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        JudgementStore(tmp_path, KEY)


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE patients (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(InputError, match="is a database of something else"):
        JudgementStore(path, KEY)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["other.sqlite"]


def test_another_schema_is_refused(tmp_path):
    new_store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "judgements.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(InputError, match="has schema 2 and this dfqsam knows 1"):
        new_store(tmp_path)


def test_a_busy_file_is_waited_for_and_then_named(tmp_path):
    with new_store(tmp_path, timeout=0.1) as store, closing(sqlite3.connect(store._log.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(InputError, match="is being written by another process; try again"):
            store.accept(subject(), FIGURES)
        assert store.verify().count == 1  # reading goes on meanwhile
        other.execute("ROLLBACK")
        assert store.accept(subject(), FIGURES).sequence == 2


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path):
    with new_store(tmp_path) as store:
        pages = store._log._connection.execute("PRAGMA page_count").fetchone()[0]
        store._log._connection.execute(f"PRAGMA max_page_count = {pages + 3}")
        stored = []

        def go_on():
            while True:
                stored.append(store.accept(subject(), FIGURES))

        with pytest.raises(InputError, match=r"disk of .* is full; make room"):
            go_on()
        assert stored
        assert store.judgements() == stored
        assert store.verify() == store.head
        store._log._connection.execute("PRAGMA max_page_count = 100000")
        assert store.accept(subject(), FIGURES).sequence == len(stored) + 2


LIMITED = """
import resource, sys
from pathlib import Path
from dfqsam.errors import InputError
from tests.judgement.world import FIGURES, new_store, subject
store = new_store(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
count = 0
try:
    while True:
        count = store.accept(subject(), FIGURES).sequence
except InputError as error:
    print(count, error, sep="\\n")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_a_write_that_fails_half_way_loses_nothing_that_was_acknowledged(tmp_path):
    """The operating system refuses the write-ahead log its next page."""
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True)
    count, said = done.stdout.splitlines()
    assert int(count) > 5
    assert "is full" in said or "its disk fails" in said
    with new_store(tmp_path) as store:
        assert store.verify().count == int(count)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_file_that_cannot_be_written_is_read_and_named(own_folder):
    with new_store(own_folder) as store:
        fill(store)
        head = store.head
    give_away(own_folder)
    (own_folder / "judgements.sqlite").chmod(0o400)
    with unprivileged(), new_store(own_folder) as store:
        assert store.verify(head) == head
        with pytest.raises(InputError, match="cannot be written; its owner must allow it"):
            store.accept(subject(), FIGURES)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_folder_that_cannot_be_written_is_read_and_named(own_folder):
    with new_store(own_folder) as store:
        fill(store)
        head = store.head
    give_away(own_folder)
    own_folder.chmod(0o500)
    with unprivileged():
        with JudgementStore(own_folder / "judgements.sqlite", None) as store:
            assert store.verify(head) == head
            assert len(store.judgements()) == 6
        with pytest.raises(
            InputError, match="cannot be written; its owner must allow it for the file and for its folder"
        ):
            new_store(own_folder)
        with pytest.raises(InputError, match=r"other.sqlite cannot be made \(Permission denied\)"):
            JudgementStore(own_folder / "other.sqlite", KEY)
        with pytest.raises(InputError, match=r"cannot be made \(Permission denied\)"):
            open_key(own_folder / "site.key")


def test_a_store_opened_for_reading_takes_nothing(tmp_path):
    new_store(tmp_path).close()
    store = JudgementStore(tmp_path / "judgements.sqlite", None)
    with store, pytest.raises(InputError, match="cannot be written"):
        store.accept(subject(), FIGURES)


@pytest.mark.skipif(os.name != "posix", reason="Windows moves no open file")
@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_goes_into_a_file_that_was_moved_away(tmp_path, replaced):
    with new_store(tmp_path) as store:
        (tmp_path / "judgements.sqlite").rename(tmp_path / "moved.sqlite")
        if replaced:
            (tmp_path / "judgements.sqlite").write_bytes(b"")
        with pytest.raises(InputError, match="was moved or replaced"):
            store.accept(subject(), FIGURES)


def test_what_fails_inside_a_transaction_leaves_no_trace(tmp_path):
    create(tmp_path / "log.sqlite", {})
    with Log(tmp_path / "log.sqlite") as log:
        head = log.verify()

        def fail():
            with log.writing() as appender:
                appender.append("note", {"n": 1})
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert log.verify() == head
        assert log.append("note", {"n": 2}).sequence == 2


def test_several_entries_of_one_transaction_and_of_other_kinds(tmp_path):
    """The log of other actions to come: any kind goes into the same chain."""
    with new_store(tmp_path) as store:
        fill(store, 2)
        with Log(store._log.path) as log, log.writing() as appender:
            appender.append("action", {"what": "quantize"})
            appender.append("action", {"what": "sign"})
        assert len(store.judgements()) == 2
        assert [entry.kind for entry in log_entries(store)] == ["log", "judgement", "judgement", "action", "action"]
        assert store.verify().count == 5
        fill(store, 1)
        assert store.verify().count == 6


def log_entries(store):
    with Log(store._log.path, write=False) as log:
        return log.entries()


def test_the_settings_that_durability_rests_on(tmp_path):
    with new_store(tmp_path) as store:
        ask = store._log._connection.execute
        assert ask("PRAGMA journal_mode").fetchone() == ("wal",)
        assert ask("PRAGMA synchronous").fetchone() == (2,)  # FULL
    if os.name == "posix":
        assert (tmp_path / "judgements.sqlite").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["judgements.sqlite"]


def test_a_copy_goes_on_in_place_of_the_file(tmp_path):
    """Also one that VACUUM INTO made, which has no write-ahead log."""
    with new_store(tmp_path) as store, closing(sqlite3.connect(store._log.path)) as connection:
        fill(store)
        head = store.head
        connection.execute("VACUUM INTO ?", (str(tmp_path / "copy.sqlite"),))
    with JudgementStore(tmp_path / "copy.sqlite", KEY) as copy:
        fill(copy, 1)
        assert copy.verify(head).count == head.count + 1
        assert copy._log._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("name", ["a b", "50%41", "what?", "#1", "Müller", "x&mode=ro"])
def test_odd_names_of_folders(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    with new_store(folder) as store:
        fill(store, 1)
    with JudgementStore(folder / "judgements.sqlite", None) as store:
        assert store.verify().count == 2
    assert os.listdir(folder) == ["judgements.sqlite"]
    assert os.listdir(tmp_path) == [name]


def test_threads_share_a_store(tmp_path):
    with new_store(tmp_path) as store:
        failed = []

        def work(i):
            try:
                fill_mine(store, i)
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert len(store.judgements()) == 6 * 10
        assert store.verify().count == 1 + 6 * 15


def fill_mine(store, i):
    for n in range(5):
        about = subject(f"rater {i}", slice=n)
        store.accept(about, FIGURES)
        store.vote(store.draw(about).id, about.rater, "right", FIGURES)
