"""What the full-precision model said about each picture, in memory or on the disk."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqsam.sam.model import Sam

Answer = tuple[NDArray[np.float32], NDArray[np.bool_]]


def fingerprint(sam: Sam) -> str:
    """Tells a model from every other by its weights, its input size and its preprocessing; 16 hex digits."""
    digest = hashlib.sha256(repr((sam.family.image_size, sam.family.preprocessing)).encode())
    for module in (sam.encoder, sam.prompt_encoder, sam.mask_decoder):
        for name, value in module.state_dict().items():
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def answer_key(model: str, picture: NDArray[np.uint8], boxes: NDArray[np.float32], shape: tuple[int, int]) -> str:
    """Tells what ``model`` (see :func:`fingerprint`) says about the boxes of one picture from everything else.

    Args:
        picture: h x w x 3, as the model sees it.
        boxes: N x 4, in its frame.
        shape: of the original picture, and of the masks.
    """
    digest = hashlib.sha256(repr((model, picture.shape, boxes.shape, shape)).encode())
    for values in (picture, boxes):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:24]


class Kept:
    """Embedding (1 x C x E x E, float32) and masks (N x H x W) by key; below ``folder``, or in memory without one."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.memory: dict[str, tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int64]]] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> Answer | None:
        """What is kept under ``key``, None where there is nothing or the file is damaged."""
        if self.folder is None:
            parts = self.memory.get(key)
        else:
            try:
                with np.load(self.folder / f"{key}.npz") as file:
                    parts = file["embedding"], file["masks"], file["shape"]
            except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
                return None
        if parts is None:
            return None
        embedding, packed, shape = parts
        return embedding, np.unpackbits(packed, count=int(np.prod(shape))).reshape(shape).astype(bool)

    def put(self, key: str, embedding: NDArray[np.float32], masks: NDArray[np.bool_]) -> Answer:
        """Keeps an answer and returns it."""
        packed, shape = np.packbits(masks), np.array(masks.shape, np.int64)
        if self.folder is None:
            self.memory[key] = (embedding, packed, shape)
        else:
            # Two runs may share a folder; a name of each one's own keeps them out of each other's files.
            partial = self.folder / f"{key}.{os.getpid()}.partial"
            with open(partial, "wb") as file:
                np.savez(file, embedding=embedding, masks=packed, shape=shape)
            partial.replace(self.folder / f"{key}.npz")
        return embedding, masks
