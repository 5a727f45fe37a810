"""Which pictures a browser has, so that none is sent twice."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

# Fewer than the page keeps (component/kept.mjs). What the page lacks all the same (a message was dropped, the page was
# loaded again), it asks for.
MOST = 32


def key_of(picture: NDArray[np.uint8]) -> str:
    """The same for the same pixels in the same shape."""
    return hashlib.blake2b(f"{picture.shape}".encode() + picture.tobytes(), digest_size=16).hexdigest()


class Sent:
    """Keys of the pictures that one component was sent, the latest last."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._keys: OrderedDict[str, None] = OrderedDict()

    def offer(self, key: str, make: Callable[[], str]) -> str | None:
        """What is to be sent for ``key``: what ``make`` gives, or None where the page has it.

        >>> sent = Sent()
        >>> sent.offer("a", lambda: "picture"), sent.offer("a", lambda: "picture")
        ('picture', None)
        """
        known = key in self._keys
        self._keys[key] = None
        self._keys.move_to_end(key)
        if len(self._keys) > self._most:
            self._keys.popitem(last=False)
        return None if known else make()

    def lacks(self, key: object) -> None:
        """The page says that it has no such picture."""
        if isinstance(key, str):
            self._keys.pop(key, None)
