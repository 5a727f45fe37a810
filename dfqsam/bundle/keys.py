"""Ed25519 keys (RFC 8032), in the PEM files that openssl writes and reads too."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from dfqsam.errors import InputError

PUBLIC = ".pub"
SIGNATURE_BYTES = 64
MAX_KEY_BYTES = 1 << 14
OTHERS = 0o077


@dataclass(frozen=True)
class PublicKey:
    """A public key: its name (of the file, without ``.pub``), and the key."""

    name: str
    key: Ed25519PublicKey

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key in DER (SubjectPublicKeyInfo), in 64 hexadecimal digits. To be read out on the phone:
        ``openssl pkey -pubin -in KEY.pub -outform DER | sha256sum`` gives the same."""
        return hashlib.sha256(self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether ``signature`` (64 bytes) is this key's over ``data``."""
        try:
            self.key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


def _read(path: Path, what: str, private: bool) -> bytes:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise InputError(f"The {what} {path} cannot be read ({error.strerror}).") from error
    if private and os.name == "posix" and stat.S_IMODE(status.st_mode) & OTHERS:
        raise InputError(f"The {what} {path} may be read by others; say: chmod 600 {path}.")
    if len(data) > MAX_KEY_BYTES:
        raise InputError(f"{path} is no key; it has more than {MAX_KEY_BYTES} bytes.")
    return data


def open_public(path: str | Path) -> PublicKey:
    """The public key in a PEM file.

    Raises:
        InputError: when the file cannot be read, or holds anything but an Ed25519 public key.
    """
    path = Path(path)
    data = _read(path, "public key", private=False)
    if b"PRIVATE KEY" in data:
        raise InputError(f"{path} is a private key; give its public one, and keep the private one to yourself.")
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(f"{path} is no Ed25519 public key in PEM; dfqsam keygen makes one, and openssl too.")
    return PublicKey(path.name.removesuffix(PUBLIC), key)


def open_private(path: str | Path, passphrase: Callable[[], bytes] | None = None) -> Ed25519PrivateKey:
    """The private key in a PEM file that nobody else may read.

    Args:
        passphrase: asked only where the key has one.

    Raises:
        InputError: when the file cannot be read, may be read by others, holds anything but an Ed25519 private key, or
            the passphrase is missing or wrong.
    """
    path = Path(path)
    data = _read(path, "private key", private=True)
    secret = None
    if b"ENCRYPTED" in data:
        if passphrase is None:
            raise InputError(f"The private key {path} has a passphrase; give it.")
        secret = passphrase()
    try:
        key = load_pem_private_key(data, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if secret is not None:
            raise InputError(f"The passphrase of {path} is wrong, or the file is damaged.") from None
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path} is no Ed25519 private key in PEM; make one with: dfqsam keygen -o KEY.")
    return key


def _place(path: Path, data: bytes, mode: int) -> None:
    """Write a file that is not there yet, with ``mode`` from its first moment on."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def make_keys(path: str | Path, passphrase: bytes | None = None) -> PublicKey:
    """A new pair of keys from the operating system's random numbers: ``path`` (mode 0600) and ``path.pub``.

    Args:
        passphrase: that the private key is encrypted with (PKCS#8, AES-256); None for none.

    Raises:
        InputError: when either file is there already, or cannot be written.
    """
    path = Path(path)
    public = path.with_name(path.name + PUBLIC)
    for one in (path, public):
        if os.path.lexists(one):
            raise InputError(f"{one} is there already; name another file, for a key that is lost cannot be made again.")
    key = Ed25519PrivateKey.generate()
    lock = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _place(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock), 0o600)
        _place(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
    except OSError as error:
        raise InputError(f"The keys cannot be written to {path.parent} ({error.strerror}).") from error
    return PublicKey(path.name, key.public_key())
