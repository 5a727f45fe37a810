"""Embeddings that were computed once, kept until memory is needed: least recently used first out."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LIMIT = 512 << 20


@dataclass(frozen=True)
class Embedding:
    """What an encoder made of a picture.

    Args:
        values: 1 x C x E x E, float32.
        seconds: that the encoder took, when it ran.
    """

    values: NDArray[np.float32]
    seconds: float


def content_key(model: str, picture: NDArray[np.uint8]) -> str:
    """A key for what ``model`` (a hash of its own) makes of ``picture``: the same for the same pixels, whoever asks."""
    digest = hashlib.sha256(f"{model} {picture.shape} {picture.dtype}".encode())
    digest.update(picture.tobytes())
    return digest.hexdigest()


class EmbeddingCache:
    """Embeddings by key, at most ``limit`` bytes of them; safe for threads, and each is computed once only.

    >>> cache = EmbeddingCache(limit=1 << 20)
    >>> cache.get("a", lambda: Embedding(np.zeros((1, 2, 2, 2), np.float32), 0.1)).seconds
    0.1
    >>> cache.bytes
    32
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self._kept: OrderedDict[str, Embedding] = OrderedDict()
        self._bytes = 0
        self._coming: dict[str, Future[Embedding]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    @property
    def bytes(self) -> int:
        """Of all embeddings that are kept; never above the limit."""
        return self._bytes

    def get(self, key: str, compute: Callable[[], Embedding], spare: bool = False) -> Embedding:
        """The embedding of ``key``; computed where it is not kept. Who asks while it is computed waits for it.

        Args:
            key: see :func:`content_key`.
            compute: makes it.
            spare: keep it only where there is room; what others look at is not pushed out for it.

        Raises:
            Exception: what ``compute`` raises, to all who wait; nothing is kept then.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            coming = self._coming.get(key)
            mine = coming is None
            if coming is None:
                coming = self._coming[key] = Future()
        if not mine:
            return coming.result()
        try:
            made = compute()
        except BaseException as error:
            with self._lock:
                del self._coming[key]
            coming.set_exception(error)
            raise
        with self._lock:
            del self._coming[key]
            self._keep(key, made, spare)
        coming.set_result(made)
        return made

    def _keep(self, key: str, made: Embedding, spare: bool) -> None:
        size = made.values.nbytes
        if size > self.limit or (spare and self._bytes + size > self.limit):
            return
        while self._bytes + size > self.limit:
            _, old = self._kept.popitem(last=False)
            self._bytes -= old.values.nbytes
        self._kept[key] = made
        self._bytes += size
