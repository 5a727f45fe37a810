"""Signatures of bundles and of acceptance records: plain Ed25519 over the bytes of one file, in a file beside it.

A bundle's is over ``manifest.json``, which holds the hash of every other file, and lies in ``manifest.sig``. That of
``acceptance.json`` lies in ``acceptance.json.sig``. Both have 64 bytes and nothing else, so that openssl verifies them:

    openssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in manifest.json -sigfile manifest.sig

One signature cannot be taken for the other: a manifest has exactly its own fields, and a record others.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfqsam.bundle import strict
from dfqsam.bundle.keys import PublicKey, open_private
from dfqsam.bundle.preflight import check_graph
from dfqsam.bundle.store import SIGNATURE, SIGNATURE_BYTES, Bundle, read_bundle
from dfqsam.bundle.trust import VERIFIED, Trust, TrustStore
from dfqsam.errors import BundleError, InputError

ENDING = ".sig"
VERDICTS = ("PASS", "FAIL", "INCONCLUSIVE")
MAX_RECORD_BYTES = 1 << 20


class Signer:
    """A private key made ready; it shows itself nowhere.

    Args:
        path: of the private key.
        passphrase: asked only where it has one.

    Raises:
        InputError: as :func:`dfqsam.bundle.keys.open_private`.
    """

    def __init__(self, path: str | Path, passphrase: Callable[[], bytes] | None = None) -> None:
        self._key = open_private(path, passphrase)
        self.public = PublicKey(Path(path).name, self._key.public_key())

    def sign(self, data: bytes) -> bytes:
        """64 bytes."""
        return self._key.sign(data)


def _place(path: Path, data: bytes, beside: Path) -> None:
    """Put a file in one step; until then it lies in the directory ``beside``."""
    temporary = beside / f".{path.name}.{secrets.token_hex(6)}"
    try:
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"The signature {path} cannot be written ({error.strerror}).") from error


def check_graphs(bundle: Bundle) -> None:
    """Passes every graph of a bundle through :mod:`dfqsam.bundle.preflight`.

    Raises:
        BundleError: for the first that may not be loaded.
    """
    for name in sorted(bundle.manifest.files):
        if name.endswith(".onnx"):
            check_graph(bundle.read(name), name)


def sign_bundle(directory: str | Path, signer: Signer) -> Bundle:
    """Sign a bundle that is whole and whose graphs may be loaded; a signature that is there is replaced.

    Raises:
        BundleError: when it is damaged or a graph is refused.
        InputError: when the signature cannot be written.
    """
    read = read_bundle(directory)
    check_graphs(Bundle(read.path, read.manifest))
    path = read.path.resolve()
    _place(path / SIGNATURE, signer.sign(read.data), path.parent)
    return Bundle(read.path, read.manifest, Trust(VERIFIED, signer.public.name, signer.public.fingerprint))


def signature_of(record: Path) -> Path:
    """Where the signature of a file lies."""
    return record.with_name(record.name + ENDING)


def sign_record(record: Path, signer: Signer) -> Path:
    """Sign ``acceptance.json``; where its signature was put.

    Raises:
        InputError: when the record cannot be read or the signature not be written.
    """
    target = signature_of(record)
    _place(target, signer.sign(_bytes(record, MAX_RECORD_BYTES)), record.parent)
    return target


def _bytes(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    if len(data) > limit:
        raise InputError(f"{path} has more than {limit} bytes; it is not what it should be.")
    return data


@dataclass(frozen=True)
class Acceptance:
    """An acceptance of a bundle: PASS, FAIL or INCONCLUSIVE, and the key that signed it."""

    verdict: str
    signer: PublicKey


def check_acceptance(record: Path, bundle: Bundle, store: TrustStore) -> Acceptance:
    """The verdict in ``acceptance.json``, once a trusted key has signed it and it is of this very bundle.

    Raises:
        InputError: when record or signature cannot be read.
        BundleError: when no trusted key has signed the record, it is of another bundle, or it is no such record.
    """
    data, signature = _bytes(record, MAX_RECORD_BYTES), _bytes(signature_of(record), SIGNATURE_BYTES)
    key = store.signer(signature, data)
    if key is None:
        raise BundleError(f"No trusted key has signed {record} as it is; it was altered, or signed by somebody else.")
    document: Any = strict.parse(data)
    try:
        verdict, of = document["verdict"], document["bundle"]["sha256"]
    except (KeyError, TypeError):
        verdict = of = None
    if verdict not in VERDICTS or type(of) is not str:
        raise BundleError(f"{record} is no record of an acceptance; give the acceptance.json that dfqsam accept wrote.")
    if of != bundle.sha256:
        raise BundleError(f"{record} is of another bundle ({of[:12]}) than {bundle.path} ({bundle.sha256[:12]}).")
    return Acceptance(verdict, key)
