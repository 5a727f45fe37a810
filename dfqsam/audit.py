"""The audit log: which bundles were made, signed, verified and accepted, in a chain of hashes that only grows.

It is kept where ``DFQSAM_AUDIT`` (or ``--audit``) names a file, with the chain and the file format of the judgements
(:mod:`dfqsam.judgement.chain`, :mod:`dfqsam.judgement.log`). Every field is a hash, a word of a fixed list, a profile,
a version or a time: nothing of a patient, a person or a path can be written into it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dfqsam import __version__
from dfqsam.errors import ChainError, InputError
from dfqsam.judgement.chain import Entry, Head
from dfqsam.judgement.log import FIRST, Log, create
from dfqsam.judgement.store import stamp

VARIABLE = "DFQSAM_AUDIT"
HOLDS = "audit"

Check = Callable[[Any], bool]


def _spelled(pattern: str) -> Check:
    whole = re.compile(pattern, re.ASCII)
    return lambda value: type(value) is str and whole.fullmatch(value) is not None


def _word(*words: str | None) -> Check:
    return lambda value: value is None if value is None and None in words else type(value) is str and value in words


def _or_none(check: Check) -> Check:
    return lambda value: value is None or check(value)


SHA256 = _spelled(r"[0-9a-f]{64}")
VERDICT = _word("PASS", "FAIL", "INCONCLUSIVE")
COMMON: dict[str, Check] = {
    "time": _spelled(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z"),
    "version": _spelled(r"[0-9]{1,4}(\.[0-9]{1,4}){0,3}((a|b|rc|\.dev|\.post)[0-9]{1,4})?"),
}
# By kind of entry, its fields besides the common ones. Bundles, checkpoints and records are named by their SHA-256,
# keys by their fingerprints.
KINDS: dict[str, dict[str, Check]] = {
    "quantize": {
        "checkpoint": SHA256,
        "bundle": SHA256,
        "profile": _spelled(r"[wW][0-9]{1,2}([aA][0-9]{1,2})?(-mixed|-only)?"),
    },
    "sign": {"bundle": SHA256, "key": SHA256},
    "verify": {
        "bundle": _or_none(SHA256),
        "result": _word("verified", "unsigned", "foreign", "refused"),
        "key": _or_none(SHA256),
        "acceptance": _or_none(VERDICT),
    },
    "accept": {
        "bundle": SHA256,
        "reference": SHA256,
        "verdict": VERDICT,
        "record": SHA256,
        "key": _or_none(SHA256),
    },
    # A bundle that no trusted key has signed was opened because --allow-unsigned was given.
    "override": {"bundle": SHA256, "state": _word("unsigned", "foreign")},
    # The service began and ended; and what it made of each request that it accepted: client is a hash of its token,
    # answer the SHA-256 of the bytes that were sent.
    "serve": {"bundle": SHA256, "event": _word("start", "stop")},
    "request": {
        "bundle": SHA256,
        "request": _spelled(r"[0-9a-f]{32}"),
        "client": _or_none(SHA256),
        "task": _word("image", "segment"),
        "outcome": _word("answered", "refused", "failed", "late"),
        "answer": _or_none(SHA256),
    },
}


def check_fields(kind: str, document: dict[str, Any]) -> None:
    """Lets an entry through that has exactly its kind's fields, each of its form.

    Raises:
        InputError: for any other.
    """
    wanted = {**COMMON, **KINDS.get(kind, {})}
    if kind not in KINDS or document.keys() != wanted.keys():
        raise InputError(f"An audit log has no entry {kind!r} with the fields {', '.join(sorted(document))}.")
    for name, check in wanted.items():
        if not check(document[name]):
            raise InputError(f"The audit log's field {name} of {kind} is in no form that is stored; texts are not.")


class AuditLog:
    """An audit log on a local disk, made at the first call. What :meth:`record` has returned from is on disk.

    Args:
        write: False where it is only read.

    Raises:
        InputError: for a file that is something else, or cannot be opened or made.
        ChainError: where its tables were changed.
    """

    def __init__(self, path: str | Path, write: bool = True) -> None:
        self.path = Path(path)
        if write and not self.path.exists():
            about = {"holds": HOLDS, "created_by": f"dfqsam {__version__}", "time": stamp(datetime.now(UTC))}
            create(self.path, about)
        self._log = Log(self.path, write=write)
        first = self._log.first()
        if first is None or first.kind != FIRST or f'"holds":"{HOLDS}"' not in first.body:
            self._log.close()
            raise InputError(f"{path} is no audit log; name one that dfqsam has made, or a file that is not there yet.")

    def close(self) -> None:
        """Let go of the file."""
        self._log.close()

    def record(self, kind: str, **fields: Any) -> Entry:
        """Add one entry; the time and the version of dfqsam are filled in.

        Raises:
            InputError: for an unknown kind or field, or when the file cannot be written.
            ChainError: when the last entry was altered.
        """
        document = {"time": stamp(datetime.now(UTC)), "version": __version__, **fields}
        check_fields(kind, document)
        return self._log.append(kind, document)

    def entries(self) -> list[Entry]:
        """All entries behind the first, oldest first; :meth:`verify` before they are believed."""
        return self._log.entries(1)

    def verify(self, expected: Head | None = None) -> Head:
        """Follow the chain from beginning to end, and return its head.

        Args:
            expected: a head that was noted before; the log may have grown since.

        Raises:
            ChainError: where an entry was altered, removed, moved, put in or cut off, or is none that dfqsam writes.
            InputError: when the file is damaged.
        """
        head = self._log.verify(expected)
        _known(self.entries())
        return head


def _known(entries: Iterable[Entry]) -> None:
    for entry in entries:
        try:
            check_fields(entry.kind, entry.document)
        except InputError as error:
            raise ChainError(f"Entry {entry.sequence} is none that dfqsam writes; it was put in.") from error


def configured() -> Path | None:
    """Where this process keeps its audit log; None for nowhere."""
    return Path(named) if (named := os.environ.get(VARIABLE)) else None


def record(kind: str, **fields: Any) -> None:
    """Add one entry to the audit log of this process, where it keeps one.

    Raises:
        InputError: as :class:`AuditLog` and :meth:`AuditLog.record`.
        ChainError: as these.
    """
    if (path := configured()) is not None:
        log = AuditLog(path)
        try:
            log.record(kind, **fields)
        finally:
            log.close()
