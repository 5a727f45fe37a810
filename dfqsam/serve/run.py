"""The process: a bundle is verified, tested and loaded, then a socket is opened, then requests are taken."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from dfqsam import audit
from dfqsam.audit import AuditLog
from dfqsam.bundle import TrustStore, open_bundle
from dfqsam.errors import InputError
from dfqsam.imaging.extra import studies
from dfqsam.runtime import Predictor
from dfqsam.serve.app import make_app, make_service
from dfqsam.serve.routes import Service
from dfqsam.serve.settings import Settings

CONNECTIONS = 512
IDLE_SECONDS = 5
# A connection is looked at this often; who has asked nothing whole between two looks is cut off.
PATIENCE = 15.0
BACKLOG = 128


class Impatient(H11Protocol):
    """uvicorn's protocol waits for ever for the rest of a request's header, or of a body that nobody reads."""

    _seen: Any = None
    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._look = self.loop.call_later(PATIENCE, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def _check(self) -> None:
        waiting = self.cycle is None or self.cycle.response_complete
        now: Any = ("waiting", self.cycle) if waiting else None
        if waiting and self._seen == now and not self.transport.is_closing():
            self.transport.close()
            return
        self._seen = now
        self._look = self.loop.call_later(PATIENCE, self._check)


MULTIPART = (("multipart", logging.CRITICAL), ("python_multipart", logging.CRITICAL))  # remarks on damaged forms


def _logs() -> None:
    """Requests on standard output, which decoders never silence; what went wrong on standard error."""
    access = logging.getLogger("dfqsam.serve.access")
    access.handlers[:] = [logging.StreamHandler(sys.stdout)]
    access.setLevel(logging.INFO)
    access.propagate = False
    for name, level in (("dfqsam.serve", logging.WARNING), ("uvicorn.error", logging.CRITICAL), *MULTIPART):
        one = logging.getLogger(name)
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        one.handlers[:], one.propagate = [handler], False
        one.setLevel(level)


def listen(host: str, port: int) -> socket.socket:
    """An open socket.

    Raises:
        InputError: when there is no such address here, or somebody listens there already.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
            reason = os.strerror(error.errno)  # the library adds words of its own
        raise InputError(f"{host}:{port} cannot be listened on ({reason}); choose another --host or --port.") from error


def address_of(opened: socket.socket, settings: Settings) -> str:
    """What is asked, as a URL."""
    host, port = opened.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http{'s' if settings.tls else ''}://{shown}:{port}"


def _load_readers() -> None:
    """Readers of studies are loaded when first needed, which takes seconds; nobody is to wait for them here."""
    for module in ("nibabel", "pydicom", "pydicom.pixels", "highdicom.seg"):
        with contextlib.suppress(InputError):  # whoever sends such a file is told what is missing
            studies(module)


def _greeting(predictor: Predictor, address: str) -> str:
    bundle = predictor.bundle
    return f"Serving {bundle.path.resolve().name} ({bundle.sha256[:12]}), {bundle.trust.sentence}, at {address}"


def serve(bundle: Path, settings: Settings, store: TrustStore | None = None) -> None:
    """Serve a bundle until SIGTERM or SIGINT; what was accepted by then is finished, and nothing more is taken.

    Args:
        bundle: its directory.
        settings: how it is served.
        store: keys that must have signed it; None for those of the site.

    Raises:
        BundleError: when the bundle is damaged, not trusted, or computed wrongly on this device.
        InputError: when the audit log, the certificate or the address cannot be used.
        ChainError: when the audit log was altered.
    """
    settings.check_tls()
    if store is not None and TrustStore.configured() is not None:
        open_bundle(bundle)  # the site's own rule holds beside what was named
    predictor = Predictor(open_bundle(bundle, store), threads=settings.threads)
    where = audit.configured()
    log = None if where is None else AuditLog(where)
    _load_readers()
    service = make_service(predictor, settings, log)
    opened = listen(settings.host, settings.port)
    _logs()
    config = uvicorn.Config(
        make_app(service),
        http=Impatient,
        ws="none",
        loop="asyncio",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=int(settings.timeout) + 5,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
    )
    server = _Server(config, _greeting(predictor, address_of(opened, settings)))

    def stop(*_: object) -> None:
        server.should_exit = True

    # Signals are heeded before uvicorn does so; and it raises the one that ended it once more, when all work is
    # finished, which is success.
    before = {one: signal.signal(one, stop) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        _note(log, service, "start")
        server.run(sockets=[opened])
        _note(log, service, "stop")
    finally:
        service.engine.close()
        for one, handler in before.items():
            signal.signal(one, handler)
        opened.close()
        if log is not None:
            log.close()
    if not server.started:
        raise InputError("The service could not start; look at what was said above.")


def _note(log: AuditLog | None, service: Service, event: str) -> None:
    if log is not None:
        log.record("serve", bundle=service.bundle.sha256, event=event)


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    def __init__(self, config: uvicorn.Config, greeting: str) -> None:
        super().__init__(config)
        self._greeting = greeting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self._greeting, file=sys.stderr, flush=True)
