"""How often a client may ask: a bucket of tokens that fills steadily."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

BURST_SECONDS = 10.0  # worth of requests that may come at once
MOST = 4096  # clients remembered; the one longest silent is forgotten, with a full bucket


class Rate:
    """At most ``per_minute`` requests a minute of each client, with a burst of ten seconds' worth.

    >>> clock = iter([0.0, 0.0, 0.0, 1.0])
    >>> rate = Rate(60, burst=2, now=lambda: next(clock))
    >>> [rate.wait("a") for _ in range(4)]
    [0, 0, 1, 0]
    """

    def __init__(self, per_minute: int, burst: int | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_minute / 60
        self._burst = max(1, math.ceil(self._per_second * BURST_SECONDS) if burst is None else burst)
        self._now = now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str) -> int:
        """Takes one request of ``client``: 0 where it may come, else the seconds after which it may."""
        if not self._per_second:
            return 0
        now = self._now()
        left, since = self._left.pop(client, (float(self._burst), now))
        left = min(self._burst, left + (now - since) * self._per_second)
        allowed = left >= 1
        self._left[client] = (left - allowed, now)
        if len(self._left) > MOST:
            self._left.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((1 - left) / self._per_second))
