"""A log in one SQLite file that only grows: each entry is on disk before it is acknowledged, and chained to the last.

It knows nothing of judgements; whatever is to be recorded has a kind and a JSON body.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

from dfqsam.errors import ChainError, InputError
from dfqsam.judgement import schema
from dfqsam.judgement.chain import Entry, Head, check, following
from dfqsam.judgement.place import place_once

FIRST = "log"  # kind of the first entry, which says what the file is
MAGIC = b"SQLite format 3\0"
TIMEOUT = 10.0


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")  # what was altered is to be reported, not to fail here


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """SQLite's errors in words."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite's words may quote a damaged file
        said = "".join(filter(str.isprintable, str(error)))[:200]
        if "locked" in said or "busy" in said:
            text = f"{path} is being written by another process; try again in a moment."
        elif "readonly" in said:
            text = f"{path} cannot be written; its owner must allow it for the file and for its folder."
        elif "full" in said:
            text = f"The disk of {path} is full; make room and try again. What was stored before is safe."
        elif "unable to open" in said:
            text = f"{path} cannot be opened; look at the permissions of the file and of its folder."
        elif "only grows" in said:
            raise ChainError(f"{path} refused an entry that is not its next; the log was altered.") from error
        elif "not a database" in said:
            text = f"{path} is no SQLite file; name a file that dfqsam has made."
        else:
            text = f"{path} is damaged or its disk fails ({said}); put back a copy."
        raise InputError(text) from error


def _open(uri: str, timeout: float, write: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)
    try:
        connection.text_factory = _text
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")  # macOS: through the disk's own cache
        connection.execute(f"PRAGMA query_only = {'OFF' if write else 'ON'}")
        connection.execute("PRAGMA schema_version").fetchone()  # opens the file
    except BaseException:
        connection.close()
        raise
    return connection


def connect(path: Path, timeout: float = TIMEOUT, write: bool = True) -> sqlite3.Connection:
    """A connection that trusts nothing in the file and syncs every commit."""
    uri = path.absolute().as_uri()
    try:
        # Also for reading: a connection that may not write leaves the -wal and -shm behind that it needed.
        return _open(f"{uri}?mode=rw", timeout, write)
    except sqlite3.OperationalError as error:
        # A folder that cannot be written takes no -shm; without a -wal nobody is writing, and none is needed.
        folder = any(words in str(error) for words in ("unable to open", "readonly"))
        if write or not folder or not path.is_file() or Path(f"{path}-wal").exists():
            raise
    return _open(f"{uri}?immutable=1", timeout, write)


def _fill(path: Path, document: Mapping[str, Any]) -> None:
    """Make an empty file a log whose first entry is ``document``."""
    with closing(connect(path)) as connection:
        if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise InputError(f"The file system of {path} takes no write-ahead log; use a local disk.")
        connection.execute("BEGIN IMMEDIATE")
        for statement in schema.STATEMENTS:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {schema.VERSION}")
        entry = following(Head(), FIRST, document)
        connection.execute(schema.INSERT, (entry.sequence, entry.kind, entry.body, entry.previous, entry.sha256))
        connection.execute("COMMIT")


def create(path: str | Path, about: Mapping[str, Any]) -> bool:
    """Make a log unless a file is there; False then. Several processes may do so at once.

    Args:
        about: goes into the first entry, beside the schema's version and a random id of the chain.

    Raises:
        InputError: when it cannot be written.
    """
    path = Path(path)
    document = {**about, "schema": schema.VERSION, "chain": secrets.token_hex(16)}
    with _sentences(path):
        return place_once(path, lambda new: _fill(new, document))


class Log:
    """An open log. Threads may share one; a forked process opens its own.

    Attributes:
        lock: held by whoever reads and decides on what was read.

    Args:
        path: of a file that :func:`create` has made, on a local disk (SQLite's write-ahead log needs one).
        write: False where it is only read, as from a folder that cannot be written.
        timeout: seconds to wait for another process that is writing.

    Raises:
        InputError: for a file that is missing, no such log, of a newer schema, or not to be opened.
        ChainError: where the fences of the file were taken away.
    """

    def __init__(self, path: str | Path, write: bool = True, timeout: float = TIMEOUT) -> None:
        self.path = Path(path)
        self.lock = threading.RLock()
        try:
            with self.path.open("rb") as file:
                magic = file.read(len(MAGIC))
        except OSError as error:
            raise InputError(f"{self.path} cannot be read ({error.strerror}).") from error
        if magic != MAGIC:
            raise InputError(f"{self.path} is no SQLite file; name a file that dfqsam has made.")
        with _sentences(self.path):
            self._connection = connect(self.path, timeout, write)
            try:
                self._check_schema()
                if write and self._connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
                    self._connection.execute("PRAGMA journal_mode = WAL")  # a copy may have lost it
            except BaseException:
                self._connection.close()
                raise
        self._identity = self._inode()

    def _check_schema(self) -> None:
        application = self._connection.execute("PRAGMA application_id").fetchone()[0]
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if application != schema.APPLICATION_ID:
            raise InputError(f"{self.path} is a database of something else; name a file that dfqsam has made.")
        if version != schema.VERSION:
            raise InputError(
                f"{self.path} has schema {version} and this dfqsam knows {schema.VERSION}; use the one that wrote it."
            )
        found = self._connection.execute("SELECT sql FROM sqlite_master").fetchall()
        # A trigger more could swallow entries that were acknowledged.
        if sorted(str(sql) for (sql,) in found) != sorted(schema.STATEMENTS):
            raise ChainError(f"The tables or triggers of {self.path} were changed; put back a copy.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with self.lock:
            self._connection.close()

    def _inode(self) -> tuple[int, int] | None:
        try:
            about = self.path.stat()
        except OSError:
            return None
        return about.st_dev, about.st_ino

    def _read(self, after: int = 0) -> Iterator[Entry]:
        # From the beginning, all of them: one that was put in before number 1 is to be seen.
        found = self._connection.execute(schema.BEHIND, (after,)) if after else self._connection.execute(schema.ALL)
        for row in found:
            yield Entry(*row)

    def entries(self, after: int = 0) -> list[Entry]:
        """All entries behind number ``after``, as they lie in the file; :func:`dfqsam.judgement.chain.check` them."""
        with self.lock, _sentences(self.path):
            return list(self._read(after))

    def first(self) -> Entry | None:
        """Entry number 1, which says what the file is, without reading the others."""
        with self.lock, _sentences(self.path):
            found = self._connection.execute(schema.FIRST).fetchone()
            return None if found is None else Entry(*found)

    @contextmanager
    def writing(self) -> Iterator[Appender]:
        """While the block runs nobody else writes; what it appended is on disk when it ends, or nothing is.

        Raises:
            InputError: when another process writes for longer than the timeout, the disk is full, the file cannot be
                written, or it was moved or replaced since it was opened.
            ChainError: when the last entry does not match its hash.
        """
        with self.lock, _sentences(self.path):
            if self._inode() != self._identity:
                raise InputError(
                    f"{self.path} was moved or replaced; start again, so that nothing goes into the old one."
                )
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                last = [Entry(*row) for row in self._connection.execute(schema.LAST)]
                if not last:
                    raise ChainError(f"{self.path} has lost its first entry; put back a copy.")
                before = Head(last[0].sequence - 1, last[0].previous)
                yield Appender(self._connection, check(last, before))
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def append(self, kind: str, document: Mapping[str, Any]) -> Entry:
        """Add one entry; it is on disk when this returns. Raises what :meth:`writing` raises."""
        with self.writing() as appender:
            return appender.append(kind, document)

    def verify(self, expected: Head | None = None) -> Head:
        """Read the whole file, follow its chain, and return its head.

        Args:
            expected: a head that was noted before; the log may have grown since.

        Raises:
            ChainError: where an entry was altered, removed, moved, put in or cut off.
            InputError: when the file is damaged.
        """
        with self.lock, _sentences(self.path):
            if self._connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
                raise ChainError(f"{self.path} is damaged; put back a copy.")
            self._check_schema()
            head = check(self._read(), expected=expected)
            if head.count == 0:
                raise ChainError(f"{self.path} has lost all its entries; put back a copy.")
            return head


class Appender:
    """What may be done inside :meth:`Log.writing`.

    Attributes:
        head: of the log, with what was appended.
    """

    def __init__(self, connection: sqlite3.Connection, head: Head) -> None:
        self._connection = connection
        self.head = head

    def append(self, kind: str, document: Mapping[str, Any]) -> Entry:
        """Add one entry at the end.

        Raises:
            InputError: for a kind or document that a log cannot hold.
        """
        entry = following(self.head, kind, document)
        row = (entry.sequence, entry.kind, entry.body, entry.previous, entry.sha256)
        if self._connection.execute(schema.INSERT, row).rowcount != 1:
            raise ChainError("The log took no entry; its triggers were changed.")
        self.head = entry.head
        return entry
