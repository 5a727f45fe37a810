"""The manifest of a bundle: what the model is, how it was quantized, and the hash of every file.

``manifest.json`` carries one key more than :class:`Manifest`: ``sha256``, the hash of all the others in their one
spelling (:func:`dfqsam.bundle.strict.canonical`). A flipped bit anywhere in the file is therefore seen, and the hash
serves as the identity of the bundle. It is a checksum and no signature: who made the bundle is said by
``manifest.sig`` beside it (:mod:`dfqsam.bundle.sign`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from typing import Any, Self

from dfqsam.bundle import strict
from dfqsam.errors import BundleError

FORMAT = 1
PROMPTS = ("box", "point", "mask")
REQUIRED_FILES = ("encoder.onnx", "decoder.onnx")
SELF_TEST = "selftest.npz"
RECORDS = ("MODEL_CARD.md", "CHANGE.md", "SOUP.csv", "sbom.cdx.json")
KNOWN_FILES = (*REQUIRED_FILES, "encoder_fp32.onnx", "decoder_fp32.onnx", SELF_TEST, *RECORDS)
MAX_FILE_BYTES = (1 << 31) - 1
MAX_IMAGE_SIZE = 4096

_HASH = re.compile(r"[0-9a-f]{64}")
_TYPES: dict[str, type] = {
    "format": int,
    "model": dict,
    "preprocessing": dict,
    "prompts": list,
    "profile": str,
    "quantization": dict,
    "calibration": dict,
    "provenance": dict,
    "versions": dict,
    "created_by": str,
    "files": dict,
}


def _checked_hash(value: str, where: str) -> str:
    if not _HASH.fullmatch(value):
        raise BundleError(f"{where} is no SHA-256 in 64 lower-case hexadecimal digits; the bundle is damaged.")
    return value


@dataclass(frozen=True)
class ModelRecord:
    """The model inside: family name, title for people, side of the encoder's square (1 to 4096 pixels), SHA-256 of
    the checkpoint it came from (64 hexadecimal digits), and licence of the weights."""

    family: str
    title: str
    image_size: int
    checkpoint_sha256: str
    licence: str

    @classmethod
    def of(cls, document: Any) -> Self:
        """Read from parsed JSON; BundleError for anything but exactly these fields in their ranges."""
        types = {"family": str, "title": str, "image_size": int, "checkpoint_sha256": str, "licence": str}
        record = cls(**strict.fields(document, types, "The manifest's model"))
        _checked_hash(record.checkpoint_sha256, "The manifest's checkpoint hash")
        if not 1 <= record.image_size <= MAX_IMAGE_SIZE:
            raise BundleError(f"The manifest's image size {record.image_size} is not in 1 to {MAX_IMAGE_SIZE} pixels.")
        return record


@dataclass(frozen=True)
class FileRecord:
    """A file of the bundle: its SHA-256 (64 hexadecimal digits) and its size in bytes (below 2 GiB)."""

    sha256: str
    bytes: int

    @classmethod
    def of(cls, document: Any, name: str) -> Self:
        """Read from parsed JSON; BundleError for anything but exactly these fields in their ranges."""
        record = cls(**strict.fields(document, {"sha256": str, "bytes": int}, f"The manifest's entry for {name}"))
        _checked_hash(record.sha256, f"The manifest's hash of {name}")
        if not 0 <= record.bytes <= MAX_FILE_BYTES:
            raise BundleError(f"The manifest says that {name} has {record.bytes} bytes; a file stays below 2 GiB.")
        return record


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` says; see the module's text.

    Attributes:
        format: version of this layout, 1.
        model: see :class:`ModelRecord`.
        preprocessing: for the reader; the steps themselves are inside the encoder's graph.
        prompts: those the model was trained on, out of ``box``, ``point`` and ``mask``; at least one.
        profile: name of the quantization profile, such as ``w8a8``.
        quantization: its settings.
        calibration: method, number of images, seed and the like.
        provenance: what was read to make the bundle, and what was not.
        versions: of the libraries that made it.
        created_by: program and version.
        files: name to :class:`FileRecord`, for every file but the manifest.
    """

    format: int
    model: ModelRecord
    preprocessing: dict[str, Any]
    prompts: tuple[str, ...]
    profile: str
    quantization: dict[str, Any]
    calibration: dict[str, Any]
    provenance: dict[str, Any]
    versions: dict[str, Any]
    created_by: str
    files: dict[str, FileRecord]

    @classmethod
    def of(cls, document: Any) -> Self:
        """Read from parsed JSON without its ``sha256`` key.

        Raises:
            BundleError: one sentence, for an unknown or missing key, a wrong type or a value out of range.
        """
        if type(document) is dict and type(document.get("format")) is int and document["format"] != FORMAT:
            raise BundleError(f"The bundle has format {document['format']}; this version of dfqsam reads {FORMAT}.")
        values = dict(strict.fields(document, _TYPES, "The manifest"))
        prompts = values["prompts"]
        if (
            not prompts
            or any(type(p) is not str or p not in PROMPTS for p in prompts)
            or len({*prompts}) < len(prompts)
        ):
            raise BundleError(
                f"The manifest's prompts are {prompts!r}; they are some of {', '.join(PROMPTS)}, each once."
            )
        for name in REQUIRED_FILES:
            if name not in values["files"]:
                raise BundleError(f"The manifest does not name {name}; a bundle has an encoder and a decoder.")
        for name in values["files"]:
            if name not in KNOWN_FILES:
                raise BundleError(f"The manifest names {name!r}; a bundle holds only {', '.join(KNOWN_FILES)}.")
        values["model"] = ModelRecord.of(values["model"])
        values["prompts"] = tuple(prompts)
        values["files"] = {name: FileRecord.of(entry, name) for name, entry in values["files"].items()}
        return cls(**values)

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read from the bytes of ``manifest.json``.

        Raises:
            BundleError: when a single bit differs from what :meth:`to_json` wrote, and as :meth:`of`.
        """
        document = strict.parse(data)
        if type(document) is not dict or type(document.pop("sha256", None)) is not str:
            raise BundleError("The manifest has no hash of its own; the bundle is damaged or of another format.")
        manifest = cls.of(document)
        if manifest.to_json() != data:
            raise BundleError("The manifest does not match its own hash; it was altered or damaged, make it again.")
        return manifest

    @property
    def sha256(self) -> str:
        """The bundle's identity: hash of everything the manifest says, the hashes of the files included."""
        return hashlib.sha256(strict.canonical(asdict(self))).hexdigest()

    def to_json(self) -> bytes:
        """The bytes of ``manifest.json``, the same for the same content."""
        return strict.canonical({**asdict(self), "sha256": self.sha256})
