"""Edits behind the store's back, through SQL and through bytes."""

import hashlib
import shutil
import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfqsam.errors import ChainError, DfqsamError
from dfqsam.judgement import JudgementStore, Log
from dfqsam.judgement import schema as sql
from dfqsam.judgement.chain import Head, digest, following
from tests.judgement.world import KEY, fill, new_store

TRIGGERS = sql.STATEMENTS[1:]
ALL = sql.ALL
COLUMNS = ("sequence", "kind", "body", "previous", "sha256")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with ``judgements.sqlite`` of 1 + 8 entries, and its head."""
    folder = tmp_path_factory.mktemp("tampered")
    with new_store(folder) as store:
        fill(store)
        head = store.head
    assert head.count == 9
    return folder, head


def unfenced(path):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    for name in ("no_update", "no_delete", "only_next"):
        connection.execute(f"DROP TRIGGER {name}")
    return closing(connection)


def fence(connection):
    for trigger in TRIGGERS:
        connection.execute(trigger)


def rehash(connection, at):
    row = connection.execute(f"{ALL.split(' ORDER')[0]} WHERE sequence = ?", (at,)).fetchone()
    if row and all(isinstance(row[i], str) for i in (1, 2, 3)):
        value = digest(row[3], at, row[1], row[2])
        connection.execute("UPDATE entries SET sha256 = ? WHERE sequence = ?", (value, at))


def update(connection, data, at):
    name = data.draw(st.sampled_from(COLUMNS))
    old = connection.execute(f"SELECT {name} FROM entries WHERE sequence = ?", (at,)).fetchone()[0]
    if name == "sequence":
        value = data.draw(st.integers(-1, 12))
    else:
        flip = data.draw(st.integers(0, max(0, len(old) - 1)))
        flipped = old[:flip] + data.draw(st.characters(codec="utf-8")) + old[flip + 1 :]
        same = [row[0] for row in connection.execute(f"SELECT {name} FROM entries")]
        value = data.draw(st.sampled_from([flipped, *same, "", old.encode()]))
    connection.execute(f"UPDATE entries SET {name} = ? WHERE sequence = ?", (value, at))


def delete(connection, data, at):
    connection.execute("DELETE FROM entries WHERE sequence = ?", (at,))
    if data.draw(st.booleans()):  # and close the gap
        connection.execute("UPDATE entries SET sequence = -sequence WHERE sequence > ?", (at,))
        connection.execute("UPDATE entries SET sequence = -sequence - 1 WHERE sequence < 0")


def swap(connection, data, at):
    other = data.draw(st.integers(1, 9))
    connection.execute("UPDATE entries SET sequence = -1 WHERE sequence = ?", (at,))
    connection.execute("UPDATE entries SET sequence = ? WHERE sequence = ?", (at, other))
    connection.execute("UPDATE entries SET sequence = ? WHERE sequence = -1", (other,))


def insert(connection, data, at):
    """A copy, linked and hashed as it should be, pushed in before ``at``."""
    body = connection.execute("SELECT body FROM entries WHERE kind = 'judgement'").fetchone()
    previous = connection.execute("SELECT previous FROM entries WHERE sequence = ?", (at,)).fetchone()[0]
    connection.execute("UPDATE entries SET sequence = -sequence WHERE sequence >= ?", (at,))
    connection.execute("UPDATE entries SET sequence = -sequence + 1 WHERE sequence < 0")
    text = body[0] if body else "{}"
    row = (at, "judgement", text, previous, digest(str(previous), at, "judgement", str(text)))
    connection.execute(sql.INSERT, row)


def linked(rows):
    """Whether each line goes on from the one before; only where the last ones were computed anew may it, altered."""
    previous = b"0" * 64
    for number, (sequence, kind, body, before, sha256) in enumerate(rows, 1):
        if sequence != number or not all(isinstance(text, str) for text in (kind, body, before, sha256)):
            return False
        line = b"%s %d %s %s\n" % (previous, number, kind.encode(), body.encode())
        if before.encode() != previous or hashlib.sha256(line).hexdigest() != sha256:
            return False
        previous = sha256.encode()
    return bool(rows)


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_tampering_through_sql_is_detected(place, data):
    folder, head = place
    path = folder / "copy.sqlite"
    shutil.copy(folder / "judgements.sqlite", path)
    with unfenced(path) as connection:
        before = connection.execute(ALL).fetchall()
        for _ in range(data.draw(st.integers(1, 3))):
            numbers = [row[0] for row in connection.execute("SELECT sequence FROM entries") if row[0] > 0]
            if not numbers:
                break
            at = data.draw(st.sampled_from(numbers))
            connection.execute("BEGIN")
            try:
                data.draw(st.sampled_from([update, delete, swap, insert]))(connection, data, at)
                if data.draw(st.booleans()):
                    rehash(connection, at)
                connection.execute("COMMIT")
            except (sqlite3.IntegrityError, TypeError, AttributeError):  # an edit that the types forbid
                connection.execute("ROLLBACK")
        after = connection.execute(ALL).fetchall()
        fence(connection)
    with Log(path) as log:
        if after == before:
            assert log.verify(head) == head
            return
        with pytest.raises(ChainError):
            log.verify(head)
        if not linked(after):
            with pytest.raises(ChainError):
                log.verify()
            with pytest.raises(ChainError), JudgementStore(path, KEY) as store:
                store.verify()
        elif after == before[: len(after)]:  # cut off at the end: only the noted head tells
            assert log.verify().count == len(after)


@given(st.integers(1, 9), st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_chain_computed_anew_is_detected_by_the_noted_head(place, at, data):
    folder, head = place
    path = folder / "rewritten.sqlite"
    shutil.copy(folder / "judgements.sqlite", path)
    with unfenced(path) as connection:
        rows = connection.execute(ALL).fetchall()
        connection.execute("DELETE FROM entries WHERE sequence >= ?", (at,))
        link = Head(at - 1, rows[at - 1][3])
        for number in range(at, data.draw(st.integers(at, 9)) + 1):
            entry = following(link, "forged", {"n": number})
            connection.execute(sql.INSERT, (number, "forged", entry.body, entry.previous, entry.sha256))
            link = entry.head
        fence(connection)
    with Log(path) as log:
        assert log.verify() == link
        with pytest.raises(ChainError):
            log.verify(head)


@given(st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_are_an_error_of_one_sentence_or_change_nothing(place, data):
    folder, head = place
    whole = (folder / "judgements.sqlite").read_bytes()
    with Log(folder / "judgements.sqlite") as log:
        entries = log.entries()
    path = folder / "flipped.sqlite"
    for beside in folder.glob("flipped.sqlite*"):
        beside.unlink()
    damaged = bytearray(whole)
    used = [i for i, value in enumerate(whole) if value]  # nine in ten bytes are empty space
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.sampled_from(used))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    said = ""
    try:
        with JudgementStore(path, KEY) as store:
            store.verify(head)
            assert store._log.entries() == entries
    except DfqsamError as error:
        said = str(error)
    assert "\n" not in said


def test_sql_that_knows_nothing_of_the_chain_is_stopped_by_triggers(tmp_path):
    with new_store(tmp_path) as store:
        fill(store)
        head = store.head
    row = "'note', '{}', '', '')"
    with closing(sqlite3.connect(tmp_path / "judgements.sqlite")) as connection:
        for statement in (
            "UPDATE entries SET body = '{}' WHERE sequence = 3",
            "DELETE FROM entries WHERE sequence = 9",
            "DELETE FROM entries",
            f"INSERT INTO entries VALUES (10, {row}",
            f"INSERT OR REPLACE INTO entries VALUES (9, {row}",
            f"REPLACE INTO entries VALUES (3, {row}",
            f"INSERT INTO entries VALUES (NULL, {row}",
            "REPLACE INTO entries SELECT 3, kind, body, sha256, previous FROM entries WHERE sequence = 9",
            "INSERT INTO entries SELECT sequence + 9, kind, body, previous, sha256 FROM entries WHERE sequence = 1",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="this log only grows"):
                connection.execute(statement)
    with new_store(tmp_path) as store:
        assert store.verify(head) == head


@pytest.mark.parametrize(
    "change",
    [
        "DROP TRIGGER no_update",
        "DROP TRIGGER only_next",
        "CREATE TRIGGER swallow BEFORE INSERT ON entries BEGIN SELECT RAISE(IGNORE); END",
        "CREATE TABLE notes (name TEXT)",
    ],
)
def test_a_changed_schema_is_refused_at_opening_and_seen_by_verify(tmp_path, change):
    with new_store(tmp_path) as store, closing(sqlite3.connect(store._log.path)) as connection:
        connection.execute(change)
        with pytest.raises(ChainError, match="tables or triggers"):
            store.verify()
    with pytest.raises(ChainError, match="tables or triggers"):
        new_store(tmp_path)


def test_an_entry_that_a_trigger_swallows_is_not_acknowledged(tmp_path):
    with new_store(tmp_path) as store, closing(sqlite3.connect(store._log.path)) as connection:
        connection.execute("CREATE TRIGGER swallow BEFORE INSERT ON entries BEGIN SELECT RAISE(IGNORE); END")
        with pytest.raises(ChainError, match="took no entry"):
            fill(store, 1)


def test_nothing_is_appended_to_an_altered_end(tmp_path):
    with new_store(tmp_path) as store:
        fill(store)
    with unfenced(tmp_path / "judgements.sqlite") as connection:
        connection.execute("UPDATE entries SET body = replace(body, 'left', 'right') WHERE sequence = 9")
        fence(connection)
    with Log(tmp_path / "judgements.sqlite") as log, pytest.raises(ChainError, match="Entry 9 does not match its hash"):
        log.append("note", {})
