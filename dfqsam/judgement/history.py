"""What a log of judgements says when it is read from its beginning: draws, and judgements with what was behind them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dfqsam.errors import ChainError, InputError
from dfqsam.judgement.chain import Entry, Head, check
from dfqsam.judgement.record import Draw, Judgement, Subject, draw_of

DRAWN = "draw"
JUDGED = "judgement"


@dataclass(frozen=True)
class Stored:
    """A judgement in its place.

    Attributes:
        sequence: of its entry in the log.
        preferred: of a preference, ``full``, ``quantized`` or ``equal``; else None.
    """

    sequence: int
    judgement: Judgement
    preferred: str | None


@dataclass
class History:
    """Everything up to ``head``; further entries are :meth:`read`.

    Attributes:
        fingerprint: of the site key that the pseudonyms were made with.
        draws: by id.
        open: draws without a vote yet, by subject.
    """

    head: Head = field(default_factory=Head)
    fingerprint: str | None = None
    draws: dict[str, Draw] = field(default_factory=dict)
    open: dict[Subject, Draw] = field(default_factory=dict)
    judgements: list[Stored] = field(default_factory=list)

    def read(self, entries: Iterable[Entry]) -> None:
        """Take in the entries that follow ``head``. Kinds that are not known, such as an audit log's, are passed over.

        Raises:
            ChainError: where the chain breaks, a record is none that dfqsam writes, or a vote has no draw of its own.
        """
        for entry in entries:
            head = check([entry], self.head)
            try:
                self._take(entry)
            except InputError as error:
                raise ChainError(f"Entry {entry.sequence} is none that dfqsam writes: {error}") from error
            self.head = head

    def _take(self, entry: Entry) -> None:
        document = entry.document
        if entry.sequence == 1:
            self.fingerprint = document.get("key")
        elif entry.kind == DRAWN:
            draw = draw_of(document)
            if draw.id in self.draws or draw.subject in self.open:
                raise InputError("the same was drawn before.")
            self.draws[draw.id] = self.open[draw.subject] = draw
        elif entry.kind == JUDGED:
            judgement = Judgement.of(document)
            preferred = None
            if judgement.draw is not None:
                preferred = self.settle(judgement.draw, judgement.subject).preferred(str(judgement.choice))
                del self.open[judgement.subject]
            self.judgements.append(Stored(entry.sequence, judgement, preferred))

    def settle(self, draw: str, subject: Subject | None = None) -> Draw:
        """The draw of this id, once it may be voted on.

        Raises:
            InputError: when it was never drawn, has its vote already, or is of another subject.
        """
        found = self.draws.get(draw)
        if found is None:
            raise InputError("There is no such draw; show the masks anew and vote then.")
        if self.open.get(found.subject) != found:
            raise InputError("This draw has its vote already; a vote cannot be changed.")
        if subject is not None and subject != found.subject:
            raise InputError("This draw is of another rater, slice or model.")
        return found
