"""A chain of hashes over a log, as pure functions: nothing here reads or writes a file.

An entry is one line of text, ``previous sequence kind body``, and its hash is the SHA-256 of that line with its line
feed. ``previous`` is the hash of the entry before, so that an entry altered, removed, moved or put in breaks the chain
at that place. Whoever may write the file can also compute a new chain; against that, and against entries cut off at the
end, stands a head (how many entries, hash of the last) that was noted elsewhere before.

The kind is part of the line, so that one chain serves several kinds of entries (draws and judgements today, an audit
log of other actions as a further kind or in a file of its own) and proves their order among each other.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from dfqsam.errors import ChainError, InputError

GENESIS = "0" * 64  # what the first entry has for the hash of the one before
KIND = re.compile(r"[a-z]{1,32}")


@dataclass(frozen=True)
class Head:
    """Where a chain ends; written as ``57:9f86d081...``.

    Attributes:
        count: number of entries, 0 or more.
        sha256: of the last one, 64 hexadecimal digits.
    """

    count: int = 0
    sha256: str = GENESIS

    def __str__(self) -> str:
        return f"{self.count}:{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """From its written form.

        Raises:
            InputError: for any other text.
        """
        found = re.fullmatch(r"([0-9]{1,18}):([0-9a-fA-F]{64})", text.strip(), re.ASCII)
        if found is None:
            raise InputError(f"{text[:100]!r} is no head of a log; give a count and 64 digits, as in 57:9f86d081....")
        return cls(int(found[1]), found[2].lower())


@dataclass(frozen=True)
class Entry:
    """One line of a log.

    Attributes:
        sequence: 1, 2, 3 ...
        kind: small letters, at most 32.
        body: JSON in its canonical spelling.
        previous: hash of the entry before; 64 zeros in the first.
        sha256: its own hash.
    """

    sequence: int
    kind: str
    body: str
    previous: str
    sha256: str

    @property
    def document(self) -> dict[str, Any]:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def head(self) -> Head:
        """The head of a chain that ends here."""
        return Head(self.sequence, self.sha256)


def canonical(document: Mapping[str, Any]) -> str:
    """The one spelling of a JSON object: sorted keys, no spaces, and ASCII, so that no letter has two forms.

    >>> canonical({"b": 1.5, "a": "é"})
    '{"a":"\\\\u00e9","b":1.5}'

    Raises:
        InputError: for what JSON cannot hold (NaN and infinities among them).
    """
    try:
        return json.dumps(dict(document), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"An entry of a log cannot be written as JSON: {error}.") from error


def digest(previous: str, sequence: int, kind: str, body: str) -> str:
    """Hash of an entry; ``printf '%s %s %s %s\\n' PREVIOUS SEQUENCE KIND BODY | sha256sum`` gives the same."""
    line = f"{previous} {sequence} {kind} {body}\n"
    return hashlib.sha256(line.encode("utf-8", "surrogatepass")).hexdigest()


def following(head: Head, kind: str, document: Mapping[str, Any]) -> Entry:
    """The entry that goes on after ``head``.

    Raises:
        InputError: for a kind that is not small letters, or a document that JSON cannot hold.
    """
    if not KIND.fullmatch(kind):
        raise InputError(f"{kind!r} is no kind of entry; use small letters, at most 32.")
    sequence, body = head.count + 1, canonical(document)
    return Entry(sequence, kind, body, head.sha256, digest(head.sha256, sequence, kind, body))


def _check(entry: Entry, head: Head) -> None:
    """That ``entry`` goes on after ``head``."""
    types = (type(entry.sequence), type(entry.kind), type(entry.body), type(entry.previous), type(entry.sha256))
    if types != (int, str, str, str, str):
        raise ChainError(f"Entry {head.count + 1} has a field of another type; the log was altered there.")
    if entry.sequence != head.count + 1:
        raise ChainError(
            f"After entry {head.count} comes {entry.sequence}; entries were removed, moved or put in there."
        )
    if entry.sha256 != digest(entry.previous, entry.sequence, entry.kind, entry.body):
        raise ChainError(f"Entry {entry.sequence} does not match its hash; it was altered.")
    if entry.previous != head.sha256:
        raise ChainError(
            f"Entry {entry.sequence} does not go on from entry {head.count}; one of them was altered, moved or put in."
        )
    try:
        spelled = canonical(json.loads(entry.body))
    except (ValueError, TypeError, RecursionError, InputError):
        spelled = None
    if not KIND.fullmatch(entry.kind) or spelled != entry.body:
        raise ChainError(f"Entry {entry.sequence} is in no spelling that dfqsam writes; it was put in.")


def check(entries: Iterable[Entry], head: Head | None = None, expected: Head | None = None) -> Head:
    """Follow a chain from ``head`` (without one, its beginning) to its end, and return the head there.

    Args:
        entries: in the order in which they lie in the file.
        expected: a head that was noted before. The chain may have grown since.

    Raises:
        ChainError: at the first entry that does not go on from the one before, or where the chain does not pass
            through ``expected``.
    """
    head = head or Head()
    passed = expected is None or expected == head
    for entry in entries:
        _check(entry, head)
        head = entry.head
        if expected is not None and head.count == expected.count:
            if head != expected:
                raise ChainError(f"Entry {head.count} has another hash than the head noted before; it was rewritten.")
            passed = True
    if not passed and expected is not None:
        if expected.count > head.count:
            raise ChainError(
                f"The log ends after {head.count} entries, and the head noted before says {expected.count}; "
                f"{expected.count - head.count} were cut off."
            )
        raise ChainError(f"The head noted before does not belong to this log ({expected}).")
    return head
