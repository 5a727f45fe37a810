"""One at a time, and a person who waits goes before work that nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Who may use the processor: one thread, the urgent first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy = False
        self._urgent = 0

    @contextmanager
    def take(self, urgent: bool) -> Iterator[None]:
        """Wait for one's turn; the next one's begins where the block ends."""
        with self._changed:
            self._urgent += urgent
            self._changed.wait_for(lambda: not self._busy and (urgent or not self._urgent))
            self._urgent -= urgent
            self._busy = True
        try:
            yield
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
