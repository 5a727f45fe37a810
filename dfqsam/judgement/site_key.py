"""Pseudonyms: keyed hashes of login names and study ids, with a key that never leaves the site.

Without the key a pseudonym cannot be traced back even by trying all names, and two sites' pseudonyms do not match.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import unicodedata
from pathlib import Path

from dfqsam.errors import InputError
from dfqsam.judgement.place import place_once

BYTES = 32
DIGITS = 32  # of a pseudonym: 128 bits, so that no two names meet


class SiteKey:
    """A secret of 32 bytes; it shows itself nowhere."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != BYTES:
            raise InputError(f"A site key has {BYTES} bytes, not {len(secret)}.")
        self._secret = secret

    def __repr__(self) -> str:
        return f"SiteKey({self.fingerprint})"

    def _pseudonym(self, purpose: str, text: str) -> str:
        message = f"dfqsam {purpose}\0{text}".encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()[:DIGITS]

    @property
    def fingerprint(self) -> str:
        """Tells keys apart and says nothing about them."""
        return self._pseudonym("fingerprint", "")

    def rater(self, login: str) -> str:
        """Pseudonym of a person by login name; case, surrounding spaces and Unicode forms make no difference.

        Raises:
            InputError: for an empty name.
        """
        name = unicodedata.normalize("NFKC", login).strip().casefold()
        if not name:
            raise InputError("The login name is empty; without a login, use a session's own id.")
        return f"login-{self._pseudonym('rater', name)}"

    def study(self, identifier: str) -> str:
        """Pseudonym of a study by what names it: a DICOM StudyInstanceUID, or the SHA-256 of its voxels.

        Raises:
            InputError: for an empty one.
        """
        if not identifier.strip():
            raise InputError("The study's id is empty; without a StudyInstanceUID, use the SHA-256 of its voxels.")
        return self._pseudonym("study", identifier.strip())


def session_rater() -> str:
    """Id of somebody without a login: random, for one session, and tied to nobody."""
    return f"session-{secrets.token_hex(DIGITS // 2)}"


def _write(path: Path) -> None:
    path.write_text(f"{secrets.token_hex(BYTES)}\n", encoding="ascii")


def open_key(path: str | Path) -> SiteKey:
    """The site's key, made at the first call (mode 0600) and never again.

    Keep a copy in the hospital's vault: with another key, nobody's further judgements match the earlier ones.

    Raises:
        InputError: when the file cannot be read or made, holds no key, or may be read by others.
    """
    path = Path(path)
    if not os.path.lexists(path):
        place_once(path, _write)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(4 * BYTES)
    except OSError as error:
        raise InputError(f"The site key {path} cannot be read ({error.strerror}).") from error
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise InputError(f"The site key {path} may be read by others; say: chmod 600 {path}.")
    try:
        return SiteKey(bytes.fromhex(text.decode("ascii").strip()))
    except (ValueError, InputError):
        raise InputError(f"{path} holds no site key; put back the right file from its copy.") from None
