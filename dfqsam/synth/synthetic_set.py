"""A set of synthetic images with pseudo masks and provenance; the one form in which calibration images exist.

Images are stored as 8-bit pixels, and are such in memory too (multiples of 1/255), so that a set that was saved, or
shipped as pictures, calibrates exactly as the set that was just made.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dfqsam.errors import InputError
from dfqsam.synth.sheet import contact_sheet

TENSORS, PROVENANCE, SHEET, MASKS = "synthetic.safetensors", "provenance.json", "sheet.png", "masks.safetensors"
# What saving adds to the provenance, and loading takes away again.
ADDED = ("images", "mask_slots", "sha256")


@dataclass
class Snapshot:
    """K images of the set at one stage: K x 3 x S x S, their pseudo masks and predicted masks, K x M x S x S bool."""

    title: str
    images: Tensor
    masks: Tensor
    predicted: Tensor


@dataclass
class SyntheticSet:
    """Calibration images.

    Attributes:
        images: N x 3 x S x S float32 in [0, 1], multiples of 1/255.
        masks: N x M x S x S bool, pseudo masks; empty ones are absent.
        provenance: how they were made: settings, seed, prior, losses; plain JSON values.
        snapshots: stages on the way, for people; not part of what is loaded again.
    """

    images: Tensor
    masks: Tensor
    provenance: dict[str, Any]
    snapshots: list[Snapshot] = field(default_factory=list)

    @classmethod
    def of(cls, images: Tensor, masks: Tensor, provenance: dict[str, Any], snapshots: list[Snapshot]) -> Self:
        """From images in [0, 1], which are rounded to 8 bits, and provenance of JSON values (tuples become lists).

        Raises:
            ValueError: for images or masks of other shapes, pixels that are no numbers, or provenance that JSON or
                :data:`ADDED` cannot take.
        """
        if images.dim() != 4 or masks.dim() != 4 or (len(images), *images.shape[2:]) != (len(masks), *masks.shape[2:]):
            raise ValueError(f"Images {tuple(images.shape)} and masks {tuple(masks.shape)} do not belong together.")
        if not bool(images.isfinite().all()):
            raise ValueError("The images hold pixels that are no numbers.")
        if set(provenance) & set(ADDED):
            raise ValueError(f"The provenance may not name {', '.join(ADDED)}; saving does.")
        pixels = (images.detach().cpu().float().clamp(0, 1) * 255).round()
        return cls(pixels / 255, masks.cpu().bool(), json.loads(json.dumps(provenance)), snapshots)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def pixels(self) -> Tensor:
        """The images as N x 3 x S x S uint8."""
        return (self.images * 255).round().to(torch.uint8)

    @property
    def sha256(self) -> str:
        """Hash of pixels and masks."""
        digest = hashlib.sha256(self.pixels.contiguous().numpy().tobytes())
        digest.update(np.packbits(self.masks.contiguous().numpy()).tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Writes the set, its provenance and its contact sheet into ``folder``.

        Raises:
            InputError: when the folder holds anything else, or cannot be written.
        """
        tensors = {"images": self.pixels.contiguous(), "masks": _packed(self.masks)}
        sheet = _png(contact_sheet(self))
        _write(folder, {TENSORS: save(tensors), SHEET: sheet, PROVENANCE: self._described()})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The inverse of :meth:`save`, without the snapshots.

        Raises:
            InputError: when there is no set, or it was altered.
        """
        facts = _facts(folder)
        try:
            tensors = load((folder / TENSORS).read_bytes())
            images, masks = tensors["images"], _unpacked(tensors["masks"], tensors["images"], facts)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
            raise InputError(f"The synthetic set {folder} is damaged; make it again.") from None
        return cls._checked(images, masks, facts, folder)

    def save_pictures(self, folder: Path) -> None:
        """Writes the set as N PNG pictures (00.png and so on), its masks and the provenance; for people and shipping.

        Raises:
            InputError: when the folder holds anything else, or cannot be written.
        """
        files = {_name(i): _png(image.permute(1, 2, 0).numpy()) for i, image in enumerate(self.pixels)}
        _write(folder, {**files, MASKS: save({"masks": _packed(self.masks)}), PROVENANCE: self._described()})

    @classmethod
    def load_pictures(cls, folder: Path) -> Self:
        """The inverse of :meth:`save_pictures`, bit for bit.

        Raises:
            InputError: when a picture is missing or altered.
        """
        facts = _facts(folder)
        try:
            pixels = np.stack([_read(folder / _name(i)) for i in range(int(facts["images"]))])
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
            masks = _unpacked(load((folder / MASKS).read_bytes())["masks"], images, facts)
        except (OSError, cv2.error, SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
            raise InputError(f"The synthetic set {folder} is damaged; make it again.") from None
        return cls._checked(images, masks, facts, folder)

    def _described(self) -> bytes:
        facts = {**self.provenance, "images": len(self), "mask_slots": self.masks.shape[1], "sha256": self.sha256}
        return (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def _checked(cls, pixels: Tensor, masks: Tensor, facts: dict[str, Any], folder: Path) -> Self:
        told = {name: value for name, value in facts.items() if name not in ADDED}
        made = cls(pixels.float() / 255, masks, told)
        whole = pixels.dtype == torch.uint8 and pixels.dim() == 4 and len(pixels) == facts["images"]
        if not whole or made.sha256 != facts["sha256"]:
            raise InputError(f"The synthetic set {folder} is not the one its provenance describes; make it again.")
        return made


def _name(i: int) -> str:
    return f"{i:02d}.png"


def _png(picture: NDArray[np.uint8]) -> bytes:
    """An RGB H x W x 3 picture as a PNG file."""
    done, data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not done:
        raise ValueError(f"A picture of the shape {picture.shape} cannot be written as PNG.")
    return data.tobytes()


def _read(path: Path) -> NDArray[np.uint8]:
    """The RGB H x W x 3 picture in a PNG file."""
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError(f"{path} is no picture.")
    return np.asarray(picture[..., ::-1], np.uint8)


def _packed(masks: Tensor) -> Tensor:
    return torch.from_numpy(np.packbits(masks.contiguous().numpy()))


def _unpacked(bits: Tensor, images: Tensor, facts: dict[str, Any]) -> Tensor:
    shape = (len(images), int(facts["mask_slots"]), *images.shape[2:])
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=int(np.prod(shape))).astype(bool).reshape(shape))


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / PROVENANCE).read_text())
        return {**facts, **{name: facts[name] for name in ADDED}}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{folder} holds no synthetic set; make one with: dfqsam synthesize -o {folder}.") from None


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes a neighbouring folder and renames it, so that nobody ever sees half of a set.

    Only a folder of nothing but a set's own files is replaced.
    """
    target = Path(os.path.abspath(folder))
    if target.exists():
        names = set(os.listdir(target)) if target.is_dir() else {target.name}
        known = {TENSORS, PROVENANCE, SHEET, MASKS}
        others = {name for name in names - known if not re.fullmatch(r"\d{2,}\.png", name)}
        if others or (names and PROVENANCE not in names):
            raise InputError(f"{folder} holds other files; name a directory that is new, empty or a synthetic set.")
    partial, old = (target.with_name(f".{target.name}.{secrets.token_hex(6)}") for _ in range(2))
    try:
        partial.mkdir(parents=True)
        for name, data in files.items():
            (partial / name).write_bytes(data)
        if target.exists():
            target.rename(old)
        partial.rename(target)
    except OSError as error:
        if old.exists() and not target.exists():
            old.rename(target)
        raise InputError(f"The synthetic set {folder} cannot be written ({error.strerror}); name another.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
