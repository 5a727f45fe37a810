"""What a service is told at its start, checked before anything else happens."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from dfqsam.errors import InputError
from dfqsam.serve.clients import Clients

MB = 1 << 20


@dataclass(frozen=True)
class Settings:
    """How a bundle is served.

    Args:
        host: address to listen on.
        port: 1 to 65535; 0 for any that is free.
        clients: who may ask; None for everybody who reaches the service.
        certificate: PEM file of the TLS certificate and its chain; None for plain HTTP.
        key: PEM file of its private key.
        insecure: listen beyond this machine without tokens or TLS all the same.
        max_body: bytes of one request.
        max_pixels: of one upload, rows x columns x slices, told from its header.
        queue: accepted requests that wait while one is computed.
        rate: requests a minute and client; 0 for no limit.
        cache: bytes of embeddings that are kept.
        timeout: seconds from the beginning of a request to its answer.
        threads: of ONNX Runtime; None for one a core.

    Raises:
        InputError: for a host beyond this machine without tokens and TLS, half of a certificate and key, or a value
            out of range.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    clients: Clients | None = None
    certificate: Path | None = None
    key: Path | None = None
    insecure: bool = False
    max_body: int = 64 * MB
    max_pixels: int = 25_000_000
    queue: int = 16
    rate: int = 600
    cache: int = 256 * MB
    timeout: float = 60.0
    threads: int | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InputError("TLS needs a certificate and its key; give both --tls-cert and --tls-key.")
        if not 0 <= self.port <= 65_535:
            raise InputError(f"There is no port {self.port}; give 1 to 65535, or 0 for any that is free.")
        least = {"max_body": 1, "max_pixels": 1, "queue": 0, "rate": 0, "cache": 0, "timeout": 0.001}
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)} is too small; give {low} or more.")
        missing = [
            what
            for what, there in (("--token-file", self.clients is not None), ("--tls-cert and --tls-key", self.tls))
            if not there
        ]
        if missing and not self.local and not self.insecure:
            raise InputError(
                f"To listen on {self.host}, beyond this machine, needs {' and '.join(missing)}; give them, listen on "
                "127.0.0.1 behind a proxy, or take the risk with --insecure."
            )

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.certificate is not None

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the service."""
        return is_loopback(self.host)

    def check_tls(self) -> None:
        """Raises:
        InputError: when the certificate and its key cannot be used together.
        """
        if self.certificate is None or self.key is None:
            return
        for path in (self.certificate, self.key):
            try:
                path.open("rb").close()
            except OSError as error:
                raise InputError(f"{path} cannot be read ({error.strerror}).") from error

        def no_passphrase() -> str:  # the library would ask on the terminal
            raise InputError(f"The key {self.key} has a passphrase; give one without, readable by the service alone.")

        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certificate, self.key, no_passphrase)
        except (ssl.SSLError, OSError) as error:
            raise InputError(
                f"{self.certificate} and {self.key} are no PEM certificate and its own private key; make them anew."
            ) from error


def is_loopback(host: str) -> bool:
    """Whether an address or name is that of this machine alone.

    >>> is_loopback("127.0.0.2"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
