"""The tables of a log in SQLite, and the triggers that let it only grow.

The triggers are a second fence, against mistakes: they stop whoever edits the file through SQL without knowing of them.
The first is the chain of hashes. Nothing here needs more than SQLite 3.34, which old enterprise systems have.
"""

from __future__ import annotations

APPLICATION_ID = 0x64665131  # "dfQ1", in the header of the file, where `file` and SQLite look for it
VERSION = 1

STATEMENTS = (
    """CREATE TABLE entries (
  sequence INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  body TEXT NOT NULL,
  previous TEXT NOT NULL,
  sha256 TEXT NOT NULL
)""",
    """CREATE TRIGGER no_update BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'this log only grows'); END""",
    """CREATE TRIGGER no_delete BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'this log only grows'); END""",
    # INSERT OR REPLACE deletes without asking the trigger above; this one stops it.
    """CREATE TRIGGER only_next BEFORE INSERT ON entries
WHEN NEW.sequence IS NOT (SELECT coalesce(max(sequence), 0) + 1 FROM entries)
  OR NEW.previous IS NOT coalesce((SELECT sha256 FROM entries ORDER BY sequence DESC LIMIT 1), printf('%064d', 0))
BEGIN SELECT RAISE(ABORT, 'this log only grows at its end'); END""",
)

ALL = "SELECT sequence, kind, body, previous, sha256 FROM entries ORDER BY sequence"
BEHIND = "SELECT sequence, kind, body, previous, sha256 FROM entries WHERE sequence > ? ORDER BY sequence"
FIRST = "SELECT sequence, kind, body, previous, sha256 FROM entries WHERE sequence = 1"
LAST = f"{ALL} DESC LIMIT 1"
INSERT = "INSERT INTO entries (sequence, kind, body, previous, sha256) VALUES (?, ?, ?, ?, ?)"
