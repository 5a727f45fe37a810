"""Who may ask: tokens of a file, compared in constant time, and known further on by a hash only."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from dfqsam.errors import InputError

# RFC 6750's characters; 32 of them drawn at random cannot be guessed.
TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{32,512}=*", re.ASCII)
MAX_BYTES = 1 << 20
BEARER = b"bearer "


def fingerprint(token: bytes) -> str:
    """What a token is called in logs: 64 hexadecimal digits from which it cannot be told."""
    return hashlib.sha256(b"dfqsam client " + token).hexdigest()


@dataclass(frozen=True)
class Clients:
    """The tokens that are let in, as fingerprints; never none."""

    fingerprints: tuple[str, ...]

    @classmethod
    def of(cls, path: str | Path) -> Clients:
        """From a file with one token a line; empty lines and those that begin with # do not count.

        Raises:
            InputError: when it cannot be read, others than its owner may read it, or a line is no token of 32 letters,
                digits and ``._~+/-`` or more. No message repeats a token.
        """
        try:
            with open(path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise InputError(f"The token file {path} cannot be read ({error.strerror}).") from error
        if os.name == "posix" and stat.S_ISREG(mode) and mode & 0o077:
            raise InputError(f"Others may read the token file {path}; allow its owner only: chmod 600 {path}.")
        lines = data.decode("utf-8", "replace").splitlines()
        found: dict[str, None] = {}
        for number, line in enumerate(map(str.strip, lines), 1):
            if not line or line.startswith("#"):
                continue
            if not TOKEN.fullmatch(line):
                raise InputError(
                    f"Line {number} of the token file {path} is no token; make one with: openssl rand -hex 32."
                )
            found[fingerprint(line.encode())] = None
        if not found or len(data) > MAX_BYTES:
            raise InputError(f"The token file {path} holds no token; make one with: openssl rand -hex 32.")
        return cls(tuple(found))

    def known(self, authorization: bytes | None) -> str | None:
        """The fingerprint of the client that an Authorization header (``Bearer TOKEN``) names; None for nobody's.

        Every fingerprint is compared, and to its end: how long it takes tells nothing.
        """
        given = authorization or b""
        token = given[len(BEARER) :].strip() if given[: len(BEARER)].lower() == BEARER else b""
        asked, found = fingerprint(token), None
        for one in self.fingerprints:
            if hmac.compare_digest(one, asked):
                found = one
        return found
