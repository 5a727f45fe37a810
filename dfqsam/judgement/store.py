"""The store of judgements: records, blinded draws and votes, in one SQLite file that only grows."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from dfqsam import __version__
from dfqsam.errors import InputError
from dfqsam.judgement.chain import Head
from dfqsam.judgement.history import DRAWN, JUDGED, History, Stored
from dfqsam.judgement.log import TIMEOUT, Log, create
from dfqsam.judgement.record import Draw, Figures, Judgement, Subject, draw_to_json
from dfqsam.judgement.site_key import SiteKey


def _now() -> datetime:
    return datetime.now(UTC)


def stamp(time: datetime) -> str:
    """A time in UTC to the millisecond, as it is stored: 2026-01-31T12:00:00.000Z."""
    return f"{time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


class JudgementStore:
    """Judgements in one file. Threads of a process share one store, each process opens its own.

    What a method has returned is on disk: it survives the end of the process and of the power.

    Args:
        path: SQLite file on a local disk, made at the first call.
        key: of :func:`dfqsam.judgement.open_key`. None opens a file that is there for reading only.
        timeout: seconds to wait while another process writes.
        clock: tells the time.

    Raises:
        InputError: for a file that is no store, cannot be opened, or was begun with another key.
        ChainError: where the file was altered.
    """

    def __init__(
        self,
        path: str | Path,
        key: SiteKey | None,
        timeout: float = TIMEOUT,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        if key is not None and not Path(path).exists():
            about = {"key": key.fingerprint, "created_by": f"dfqsam {__version__}", "time": stamp(clock())}
            create(path, about)
        self._log = Log(path, write=key is not None, timeout=timeout)
        self._clock = clock
        self._history = History()
        try:
            self._refresh()
            if key is not None and self._history.fingerprint != key.fingerprint:
                raise InputError(
                    f"{path} was begun with another site key ({self._history.fingerprint}); put that key back."
                )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._log.close()

    def _refresh(self) -> History:
        """Take in what others have written; every entry is checked against the chain on the way."""
        with self._log.lock:
            self._history.read(self._log.entries(self._history.head.count))
            return self._history

    def accept(self, subject: Subject, figures: Figures) -> Stored:
        """Record that the quantized mask is good enough."""
        return self._record(Judgement(subject, figures, "accept", stamp(self._clock())))

    def reject(self, subject: Subject, figures: Figures, reason: str, code: str | None = None) -> Stored:
        """Record that the quantized mask is not good enough.

        Args:
            reason: one of ``REASONS``.
            code: of the site's own list, a capital letter and one to three digits.
        """
        return self._record(Judgement(subject, figures, "reject", stamp(self._clock()), reason, code))

    def _record(self, judgement: Judgement) -> Stored:
        with self._log.writing() as appender:
            entry = appender.append(JUDGED, judgement.to_json())
        return Stored(entry.sequence, judgement, None)

    def draw(self, subject: Subject) -> Draw:
        """Settle by chance which model is on the left, and keep that before anybody sees the masks.

        While a draw has no vote, the same rater gets the same draw of the same view again: loading the page anew shows
        nothing new. The caller must not send :attr:`Draw.left` to the browser, in whatever form, before the vote.
        """
        with self._log.writing() as appender:
            history = self._refresh()
            if subject in history.open:
                return history.open[subject]
            left = secrets.choice(("full", "quantized"))
            draw = Draw(secrets.token_hex(16), subject, left, stamp(self._clock()))
            appender.append(DRAWN, draw_to_json(draw))
        return draw

    def vote(self, draw: str, rater: str, choice: str, figures: Figures) -> Stored:
        """Record which side of a draw was preferred; :attr:`Stored.preferred` says which model that was.

        Args:
            draw: id of the draw.
            rater: who votes; the one whom the draw was for.
            choice: left, right or equal.

        Raises:
            InputError: for a draw that is unknown, somebody else's, or voted on already.
        """
        with self._log.writing() as appender:
            found = self._refresh().settle(draw)
            if found.subject.rater != rater:
                raise InputError("This draw is somebody else's; show the masks anew and vote then.")
            judgement = Judgement(found.subject, figures, "prefer", stamp(self._clock()), draw=draw, choice=choice)
            entry = appender.append(JUDGED, judgement.to_json())
        return Stored(entry.sequence, judgement, found.preferred(choice))

    def judgements(self) -> list[Stored]:
        """All judgements of all processes, oldest first."""
        return list(self._refresh().judgements)

    def open_draws(self) -> int:
        """How many draws have no vote (yet)."""
        return len(self._refresh().open)

    @property
    def head(self) -> Head:
        """To be noted elsewhere, and given to :meth:`verify` later."""
        return self._refresh().head

    def verify(self, expected: Head | str | None = None) -> Head:
        """Read the whole file anew, follow its chain, and return its head.

        Args:
            expected: a head that was noted before; the store may have grown since.

        Raises:
            ChainError: where an entry was altered, removed, moved, put in or cut off, or is none that dfqsam writes.
        """
        noted = Head.parse(expected) if isinstance(expected, str) else expected
        head = self._log.verify(noted)
        anew = History()
        anew.read(self._log.entries())
        return head

    def about(self) -> dict[str, Any]:
        """The first entry: version, time, fingerprint of the key, random id of the chain."""
        return self._log.entries()[0].document
