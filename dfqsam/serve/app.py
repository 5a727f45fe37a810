"""The web application: one bundle, made ready, behind its routes and its guard."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp

from dfqsam import __version__
from dfqsam.audit import AuditLog
from dfqsam.runtime import Predictor
from dfqsam.serve.cache import Cache
from dfqsam.serve.documents import with_schemas
from dfqsam.serve.engine import Engine
from dfqsam.serve.guard import Guard
from dfqsam.serve.metrics import Metrics
from dfqsam.serve.page import page
from dfqsam.serve.problems import RequestError, answer_request_error
from dfqsam.serve.routes import Service, router
from dfqsam.serve.settings import Settings
from dfqsam.serve.work import Work, not_here

ABOUT = "Masks of medical images from prompts, by a quantized Segment Anything model. Research use; not for diagnosis."


def _answer_framework_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    advice = "The page /docs lists what there is."
    return RequestError(error.status_code, f"{error.detail}.", advice, error.headers).response()


def _answer_wrong_id(_: Request, error: Exception) -> Response:
    del error  # the only parameter that the framework checks is an id
    return not_here().response()


class _Documented(FastAPI):
    """FastAPI's application, whose document says of forms what they hold."""

    tokens = False

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = with_schemas(super().openapi(), self.tokens)
        return self.openapi_schema


def make_service(predictor: Predictor, settings: Settings, audit: AuditLog | None = None) -> Service:
    """What a bundle and its settings come to, without the web."""
    manifest = predictor.bundle.manifest
    metrics, cache = Metrics(manifest.sha256, manifest.profile, __version__), Cache(settings.cache)
    engine = Engine(settings.queue, manifest.sha256, audit, metrics)
    metrics.watch("dfqsam_places_taken", "Requests that are read, wait or are computed.", lambda: engine.taken)
    metrics.watch("dfqsam_cache_bytes", "Of embeddings that are kept.", lambda: cache.bytes)
    metrics.watch("dfqsam_cache_images", "That are kept.", lambda: len(cache))
    work = Work(predictor, cache, metrics, settings.max_pixels)
    return Service(settings, predictor.bundle, engine, work, cache, metrics, secrets.token_bytes(32))


def make_app(service: Service) -> ASGIApp:
    """The ASGI application of a service; when it is shut down, what was accepted is finished first."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.engine.close()

    # FastAPI's own pages fetch their scripts from elsewhere.
    app = _Documented(
        title="dfqsam",
        version=__version__,
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.tokens = service.settings.clients is not None
    app.include_router(router(service))
    app.add_exception_handler(RequestError, answer_request_error)
    app.add_exception_handler(HTTPException, _answer_framework_error)
    app.add_exception_handler(RequestValidationError, _answer_wrong_id)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(page(app.openapi()))

    return Guard(app, service.settings, service.metrics)
