"""What every request passes on its way in and out: who asks, how often, and what is logged of it."""

from __future__ import annotations

import json
import logging
import secrets
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dfqsam.serve.engine import defect
from dfqsam.serve.metrics import Metrics, method_of
from dfqsam.serve.problems import RequestError, unforeseen
from dfqsam.serve.rate import Rate
from dfqsam.serve.settings import Settings, is_loopback

access = logging.getLogger("dfqsam.serve.access")
logger = logging.getLogger("dfqsam.serve")
# Probes of a supervisor, and what says how to ask; nothing of them tells what is on the machine.
OPEN = {"/health", "/ready", "/docs", "/openapi.json"}
UNMETERED = {"/health", "/ready"}
HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
UNKNOWN = "none"


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for key, value in scope["headers"] if key == name), None)


def _host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _place(origin: str) -> str | None:
    """Host and port of an Origin header; None where it names none."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


class Guard:
    """An ASGI application around another.

    It gives each request an id of its own (``X-Request-ID``), asks for a token where there are any, refuses what a page
    of another site makes a browser on this machine send, holds clients to their rate, counts and logs. The log has a
    request's time, id, method, route, status, duration and the beginning of its client's fingerprint, and nothing that
    the client chose.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._rate = Rate(settings.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, identity, status = time.perf_counter(), secrets.token_hex(16), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *HEADERS, (b"x-request-id", identity.encode())]
            await send(message)

        state: dict[str, Any] = scope.setdefault("state", {})
        state.update(request=identity, client=None)
        try:
            self._let_in(scope, state)
            await self._app(scope, receive, sending)
        except RequestError as refused:
            await refused.response()(scope, receive, sending)
        except Exception as error:  # the framework hands on what it did not foresee
            logger.error("Request %s failed: %s", identity, defect(error))
            if not status:
                await unforeseen().response()(scope, receive, sending)
        finally:
            seconds = time.perf_counter() - begun
            route = getattr(scope.get("route"), "path", UNKNOWN)
            self._metrics.answered(scope["method"], route, status, seconds)
            self._log(scope, state, identity, route, status, seconds)

    def _let_in(self, scope: Scope, state: dict[str, Any]) -> None:
        """Raises:
        RequestError: 400 or 403 for what another site sends, 401 without a token, 429 for too many.
        """
        host = (_header(scope, b"host") or b"").decode("latin-1")
        origin = (_header(scope, b"origin") or b"").decode("latin-1")
        if origin and _place(origin) != host:
            raise RequestError(403, "Pages of other sites may not ask.", "Ask from a program, or from this address.")
        clients, path = self._settings.clients, scope["path"]
        if clients is None and self._settings.local and not is_loopback(_host_name(host)):
            # A name that leads here from a page elsewhere (DNS rebinding); a token would hold it off.
            raise RequestError(403, "This machine is asked by another name than its own.", "Ask 127.0.0.1.")
        address = str((scope.get("client") or ("unknown",))[0])
        known = None if clients is None else clients.known(_header(scope, b"authorization"))
        state["client"] = known
        if path not in UNMETERED and (wait := self._rate.wait(known or address)):
            raise RequestError(
                429, "This client asks too often.", f"Try again in {wait} s.", {"Retry-After": str(wait)}
            )
        if clients is not None and known is None and path not in OPEN:
            raise RequestError(
                401,
                "There is no token, or one that is not known.",
                "Send the header Authorization: Bearer TOKEN.",
                {"WWW-Authenticate": "Bearer"},
            )

    def _log(self, scope: Scope, state: dict[str, Any], identity: str, route: str, status: int, seconds: float) -> None:
        if access.isEnabledFor(logging.INFO):
            line = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "request": identity,
                "method": method_of(scope["method"]),
                "route": route,
                "status": status,
                "ms": round(1000 * seconds),
                "client": (state["client"] or "")[:12] or None,
            }
            access.info(json.dumps(line))
