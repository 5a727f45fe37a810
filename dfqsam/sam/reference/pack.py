"""A bank in one file, for a machine without the folder: pictures as JPEG, masks as PNG, inside an ``.npz``."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.progress import stage
from dfqsam.sam.reference.data import SIDE, Bank, bank_of

MOST_BYTES = 60_000_000
QUALITY = 95
FORMAT = 1


def pack(bank: Bank, path: Path) -> int:
    """Writes ``bank`` to ``path`` and returns its bytes; the file appears whole. Masks and sizes come back as they
    were, pictures as JPEG keeps them.

    Raises:
        InputError: when it would reach 60 MB, or cannot be written.
    """
    sizes = bank.shapes.tolist()
    pictures, masks = [], []
    with stage("Packing", len(bank.masks)) as advance:
        for picture, (height, width) in zip(bank.pictures, sizes, strict=True):
            rgb = picture[:, :height, :width].permute(1, 2, 0).numpy()
            pictures.append(_encoded(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]))
        for mask, owner in zip(bank.masks, bank.owners.tolist(), strict=True):
            height, width = sizes[owner]
            masks.append(_encoded(".png", mask[:height, :width].numpy().astype(np.uint8) * 255, []))
            advance()
    arrays = {
        "head": np.frombuffer(json.dumps({"format": FORMAT, "datasets": bank.datasets}).encode(), np.uint8),
        "owners": bank.owners.numpy().astype(np.int32),
        **_strung("pictures", pictures),
        **_strung("masks", masks),
    }
    total = sum(array.nbytes for array in arrays.values())
    if total >= MOST_BYTES:
        raise InputError(f"The packed data would take {total / 1e6:.0f} MB, and 60 are the limit; draw fewer pictures.")
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            np.savez(file, **arrays)
        os.replace(part, path)
        return path.stat().st_size
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error}).") from error


def unpack(path: Path) -> Bank:
    """The bank that :func:`pack` wrote; nothing in the file is run.

    Raises:
        InputError: when it cannot be read or is no such file.
    """
    try:
        with open(path, "rb") as data, np.load(data, allow_pickle=False) as file:
            head: dict[str, Any] = json.loads(file["head"].tobytes())
            if head["format"] != FORMAT:
                raise InputError(f"{path} was packed in format {head['format']}; pack it again with this version.")
            pictures = [
                cv2.cvtColor(_decoded(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
                for data in _unstrung("pictures", file)
            ]
            masks: list[list[NDArray[np.bool_]]] = [[] for _ in pictures]
            for owner, data in zip(file["owners"].tolist(), _unstrung("masks", file), strict=True):
                mask = _decoded(data, cv2.IMREAD_GRAYSCALE) > 127
                if mask.shape != pictures[owner].shape[:2] or max(mask.shape) > SIDE:
                    raise ValueError("a mask does not fit its picture")
                masks[owner].append(mask)
            return bank_of([picture.astype(np.uint8) for picture in pictures], masks, head["datasets"])
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile, cv2.error) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"{path} is no packed training data, or it is damaged ({reason}); pack it again.") from None


def _encoded(ending: str, picture: NDArray[Any], options: list[int]) -> NDArray[np.uint8]:
    return np.asarray(cv2.imencode(ending, picture, options)[1], np.uint8).ravel()


def _decoded(data: NDArray[np.uint8], flag: int) -> NDArray[Any]:
    picture = cv2.imdecode(data, flag)
    if picture is None:
        raise ValueError("a picture cannot be decoded")
    return picture


def _strung(name: str, items: list[NDArray[np.uint8]]) -> dict[str, NDArray[Any]]:
    """Byte strings one behind the other, and where each ends."""
    return {name: np.concatenate(items), f"{name}_ends": np.cumsum([len(item) for item in items])}


def _unstrung(name: str, file: Any) -> list[NDArray[np.uint8]]:
    return np.split(file[name], file[f"{name}_ends"][:-1])
