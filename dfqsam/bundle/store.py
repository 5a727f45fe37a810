"""Opening a bundle: exactly the files that its manifest names, each with the hash it names."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dfqsam.bundle.manifest import MAX_FILE_BYTES, FileRecord, Manifest
from dfqsam.bundle.trust import Trust, TrustStore, examine, require
from dfqsam.errors import BundleError

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
SIGNATURE_BYTES = 64  # of Ed25519
MAX_MANIFEST_BYTES = 1 << 20
NOBODY = Trust()
PIECE = 1 << 20  # bytes read at a time: a small device need not hold a file to check it


def _pieces(path: Path, limit: int) -> Iterator[bytes]:
    """The bytes of a plain file of at most ``limit`` bytes, in pieces; symbolic links are not followed."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
                raise BundleError(f"{path} is no plain file of at most {limit} bytes; the bundle is damaged.")
            left = limit + 1
            while left and (piece := file.read(min(PIECE, left))):
                left -= len(piece)
                yield piece
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}); the bundle is incomplete or damaged.") from error


def _verified(path: Path, record: FileRecord) -> Iterator[bytes]:
    """The file in pieces, complete only if it has the recorded hash: the error comes after the last of them."""
    digest, size = hashlib.sha256(), 0
    for piece in _pieces(path, MAX_FILE_BYTES):
        digest.update(piece)
        size += len(piece)
        yield piece
    if size != record.bytes or digest.hexdigest() != record.sha256:
        raise BundleError(f"{path} does not match its hash in the manifest; it was altered or damaged.")


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: its directory, its manifest, and who vouches for it. Files are verified again each time they
    are read."""

    path: Path
    manifest: Manifest
    trust: Trust = NOBODY

    @property
    def sha256(self) -> str:
        """Identity of the bundle: the manifest's own hash, which covers the hash of every file."""
        return self.manifest.sha256

    def read(self, name: str) -> bytes:
        """The bytes of the file ``name``, with the hash that the manifest gives.

        Raises:
            BundleError: when the bundle has no such file, or the file has changed since the bundle was opened.
        """
        return b"".join(self._pieces(name))

    def copy(self, name: str, target: BinaryIO) -> None:
        """Writes what :meth:`read` returns to ``target``, a piece at a time; what is there after an error is no good.

        Raises:
            BundleError: as :meth:`read`.
        """
        for piece in self._pieces(name):
            target.write(piece)

    def _pieces(self, name: str) -> Iterator[bytes]:
        if name not in self.manifest.files:
            raise BundleError(
                f"The bundle {self.path} has no {name}; it holds {', '.join(sorted(self.manifest.files))}."
            )
        return _verified(self.path / name, self.manifest.files[name])


@dataclass(frozen=True)
class Unjudged:
    """A bundle of which every file is what its manifest says, whoever made it.

    Attributes:
        path: its directory.
        manifest: as it was read.
        data: the bytes of ``manifest.json``, which a signature is over.
        signature: 64 bytes; None where there is none.
    """

    path: Path
    manifest: Manifest
    data: bytes
    signature: bytes | None


def read_bundle(directory: str | Path) -> Unjudged:
    """Read the bundle in ``directory`` and verify every file, but not who signed it.

    Raises:
        BundleError: one sentence: no such directory, no manifest, a file missing, added or altered, or a symbolic link.
    """
    path = Path(directory)
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise BundleError(f"{path} {what}; a bundle is a directory with a {MANIFEST}.")
    try:
        with os.scandir(path) as entries:
            found = {entry.name: entry.is_file(follow_symlinks=False) for entry in entries}
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}).") from error
    if MANIFEST not in found:
        raise BundleError(f"{path} has no {MANIFEST}; it is not a bundle.")
    for name, plain in sorted(found.items()):
        if not plain:
            raise BundleError(f"{path / name} is a link or a directory; a bundle holds plain files only.")
    data = b"".join(_pieces(path / MANIFEST, MAX_MANIFEST_BYTES))
    manifest = Manifest.from_json(data)
    for name in sorted(found.keys() - manifest.files.keys() - {MANIFEST, SIGNATURE}):
        raise BundleError(f"{path / name} is not named in the manifest; remove it or make the bundle again.")
    for name, record in sorted(manifest.files.items()):
        for _piece in _verified(path / name, record):
            pass
    signature = b"".join(_pieces(path / SIGNATURE, SIGNATURE_BYTES)) if SIGNATURE in found else None
    if signature is not None and len(signature) != SIGNATURE_BYTES:
        raise BundleError(f"{path / SIGNATURE} is no signature of {SIGNATURE_BYTES} bytes; it was altered or damaged.")
    return Unjudged(path, manifest, data, signature)


def open_bundle(directory: str | Path, store: TrustStore | None = None) -> Bundle:
    """Open the bundle in ``directory``: verify every file, and who signed it.

    Args:
        store: keys that must have signed it; None for those of the site (:meth:`TrustStore.configured`). Where the site
            has none either, an unsigned bundle is opened too.

    Raises:
        BundleError: as :func:`read_bundle`, and where there is a trust store and none of its keys has signed (unless
            the process allows that, see :mod:`dfqsam.bundle.trust`).
        InputError: when the trust store of the site cannot be read.
    """
    store = store or TrustStore.configured()
    read = read_bundle(directory)
    trust = examine(read.data, read.signature, store)
    require(trust, read.path, store, read.manifest.sha256)
    return Bundle(read.path, read.manifest, trust)
