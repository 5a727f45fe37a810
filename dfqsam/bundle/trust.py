"""Whose bundles are run here: a store of public keys, and what it says of a signature.

A site configures its store once. Without one, every bundle that is whole may be opened, and is said to be unverified.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dfqsam.errors import BundleError, InputError

if TYPE_CHECKING:
    from dfqsam.bundle.keys import PublicKey

VARIABLE = "DFQSAM_TRUST"
ALLOW = "DFQSAM_ALLOW_UNSIGNED"
VERIFIED, UNSIGNED, FOREIGN, UNCHECKED = "verified", "unsigned", "foreign", "unchecked"
logger = logging.getLogger(__name__)


def site_folder() -> Path:
    """Where an administrator puts public keys for everybody on this machine."""
    if sys.platform == "win32":
        return Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "dfqsam" / "trust"
    return Path("/etc/dfqsam/trust")


@dataclass(frozen=True)
class TrustStore:
    """Public keys that are trusted; never none.

    Attributes:
        keys: of whoever may have signed.
        source: where they come from, for people.
    """

    keys: tuple[PublicKey, ...]
    source: str

    @classmethod
    def of(cls, places: Sequence[str | Path]) -> Self:
        """From public keys and folders of them (``*.pub``).

        Raises:
            InputError: for a place that is not there, a folder without a key, or a file that is no public key.
        """
        from dfqsam.bundle.keys import PUBLIC, open_public

        keys: list[PublicKey] = []
        for place in map(Path, places):
            if not place.is_dir():
                keys.append(open_public(place))
                continue
            try:
                files = sorted(path for path in place.iterdir() if path.suffix == PUBLIC)
            except OSError as error:
                raise InputError(f"The trust store {place} cannot be read ({error.strerror}).") from error
            if not files:
                raise InputError(f"The trust store {place} holds no public key (*{PUBLIC}); put one there.")
            keys += [open_public(path) for path in files]
        if not keys:
            raise InputError("No public key was named to trust.")
        return cls(tuple(keys), ", ".join(map(str, places)))

    @classmethod
    def configured(cls) -> Self | None:
        """The store of :func:`site_folder`, which nobody but the administrator can set aside; where there is none, that
        of the variable ``DFQSAM_TRUST`` (a public key or a folder of them); None where there is neither.

        Raises:
            InputError: as :meth:`of`; a store that is configured and cannot be read is not passed over.
        """
        folder = site_folder()
        try:
            os.lstat(folder)
            return cls.of([folder])
        except FileNotFoundError:
            pass
        except OSError as error:
            raise InputError(f"The trust store {folder} cannot be read ({error.strerror}).") from error
        return cls.of([named]) if (named := os.environ.get(VARIABLE)) else None

    def signer(self, signature: bytes, data: bytes) -> PublicKey | None:
        """The key that signed ``data``; None where it is none of these."""
        return next((key for key in self.keys if key.verifies(signature, data)), None)


@dataclass(frozen=True)
class Trust:
    """What is known of who vouches for a bundle.

    Attributes:
        state: ``verified`` (signed by a trusted key), ``foreign`` (signed by another one), ``unsigned``, or
            ``unchecked`` (signed, and no trust store is configured).
        key: name of the trusted key that signed; empty else.
        fingerprint: of that key, 64 hexadecimal digits; empty else.
    """

    state: str = UNSIGNED
    key: str = ""
    fingerprint: str = ""

    @property
    def sentence(self) -> str:
        """For people."""
        return {
            VERIFIED: f"signed by the trusted key {self.key} ({self.fingerprint[:16]})",
            FOREIGN: "signed by a key that is not trusted here",
            UNSIGNED: "not signed (nothing shows who made it)",
            UNCHECKED: "signed, but not verified (no trust store is set up here)",
        }[self.state]


def examine(data: bytes, signature: bytes | None, store: TrustStore | None) -> Trust:
    """What ``store`` says of the signature of a manifest's bytes."""
    if signature is None:
        return Trust(UNSIGNED)
    if store is None:
        return Trust(UNCHECKED)
    key = store.signer(signature, data)
    return Trust(FOREIGN) if key is None else Trust(VERIFIED, key.name, key.fingerprint)


def allowed_unsigned() -> bool:
    """Whether this process may open bundles that no trusted key has signed (``--allow-unsigned``)."""
    return os.environ.get(ALLOW, "") not in ("", "0")


def require(trust: Trust, path: Path, store: TrustStore | None, sha256: str) -> None:
    """Lets a bundle through that is trusted, or all where there is no store; says what it is.

    The words go to the logger of this module: a remark for one that passes, a warning (with the bundle's hash and state
    as ``bundle`` and ``state``) for one that passes only because the process allows it.

    Raises:
        BundleError: for a bundle that no trusted key has signed.
    """
    if store is None or trust.state == VERIFIED:
        logger.info("Bundle %s (%s): %s", path.resolve().name, sha256[:12], trust.sentence)
        return
    if not allowed_unsigned():
        advice = "have it signed with: dfqsam sign" if trust.state == UNSIGNED else "ask who signed it"
        raise BundleError(
            f"{path} is {trust.sentence}; this site runs bundles signed by its own keys only ({store.source}), so "
            f"{advice} (to open it all the same: --allow-unsigned)."
        )
    about = {"bundle": sha256, "state": trust.state}
    text = "Warning: %s is %s; it is opened because unsigned bundles were allowed."
    logger.warning(text, path, trust.sentence, extra=about)
