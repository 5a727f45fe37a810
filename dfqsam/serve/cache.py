"""Encoded pictures, kept until memory is needed: least recently used first out."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfqsam.imaging import View, Volume

# The client's fingerprint (None for everybody, where there are no tokens) and the picture's id.
Key = tuple[str | None, str]


@dataclass(frozen=True)
class Encoded:
    """What is left of an upload: no pixels, but what prompts and masks need.

    Attributes:
        embedding: 1 x C x E x E, float32.
        volume: the study with its geometry; its array takes no memory and holds nothing.
        view: the plane in which it was shown.
        slice: that was shown, counted from 0.
        bytes: that all of it takes in memory, at most.
    """

    embedding: NDArray[np.float32]
    volume: Volume
    view: View
    slice: int
    bytes: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the picture as it was shown, in pixels."""
        return self.view.shape


class Cache:
    """Encoded pictures by client and id, at most ``limit`` bytes of them; safe for threads.

    Somebody else's id is not found, exactly as one that never was.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[Key, Encoded] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def bytes(self) -> int:
        """Of all that is kept; never above the limit."""
        return self._bytes

    def get(self, key: Key) -> Encoded | None:
        """What is kept under ``key``, which is the latest used from now on."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Key, encoded: Encoded) -> bool:
        """Keep it, pushing out what was used longest ago; whether there is room for it at all."""
        with self._lock:
            self._drop(key)
            if encoded.bytes > self.limit:
                return False
            while self._bytes + encoded.bytes > self.limit:
                self._drop(next(iter(self._kept)))
            self._kept[key] = encoded
            self._bytes += encoded.bytes
            return True

    def forget(self, key: Key) -> bool:
        """Drop it; whether it was there."""
        with self._lock:
            return self._drop(key)

    def _drop(self, key: Key) -> bool:
        old = self._kept.pop(key, None)
        self._bytes -= 0 if old is None else old.bytes
        return old is not None
