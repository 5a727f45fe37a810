"""The paths of the service: each reads a request, hands it to the engine, and answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dfqsam import __version__
from dfqsam.bundle import Bundle
from dfqsam.serve import documents
from dfqsam.serve.answers import Answer, chosen_format
from dfqsam.serve.cache import Cache, Encoded
from dfqsam.serve.documents import Health, Kept, Served, problems
from dfqsam.serve.engine import Engine, Ticket
from dfqsam.serve.forms import read_form, read_json
from dfqsam.serve.metrics import CONTENT_TYPE, Metrics
from dfqsam.serve.pictures import SHOWN, Shown, key_of
from dfqsam.serve.problems import RequestError
from dfqsam.serve.prompts import PROMPTS, QUESTION, parse
from dfqsam.serve.settings import Settings
from dfqsam.serve.work import Work, not_here

ID = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="As /v1/images gave it.")]
ALWAYS = (401, 403, 429, 500)
UPLOADS = (400, 408, 413, 415, 422, 503, *ALWAYS)


@dataclass(frozen=True)
class Service:
    """What the routes work with.

    Attributes:
        secret: of this process; ids of pictures are keyed with it.
    """

    settings: Settings
    bundle: Bundle
    engine: Engine
    work: Work
    cache: Cache
    metrics: Metrics
    secret: bytes

    async def through(
        self, request: Request, task: str, prepare: Callable[[], Awaitable[Callable[[], Answer]]], status: int = 200
    ) -> Response:
        """Answers a request in its turn: a place is taken, ``prepare`` reads it, and what that returned is computed.

        Raises:
            RequestError: 429 where there is no place, 408 and 503 where it takes too long, and what these two raise.
        """
        state = request.scope["state"]
        ticket = Ticket(state["request"], state["client"], task)
        seconds = self.settings.timeout
        with self.engine.admit(ticket):
            try:
                async with asyncio.timeout(seconds):
                    answer = await self.engine.run(ticket, await prepare())
            except TimeoutError:
                if ticket.future is None:
                    raise RequestError(408, f"The body did not come within {seconds:g} s.", "Send it again.") from None
                raise RequestError(503, f"It took longer than {seconds:g} s.", "Try again.") from None
        return Response(answer.body, status, media_type=answer.media_type)


def _described(key: str, encoded: Encoded) -> Answer:
    height, width = encoded.shape
    view = encoded.view
    kept = Kept(id=key, height=height, width=width, slice=encoded.slice, slices=view.count, plane=view.plane)
    return Answer(kept.model_dump_json().encode())


def router(service: Service) -> APIRouter:
    """The routes of a service."""
    routes, settings = APIRouter(), service.settings

    @routes.post(
        "/v1/segment",
        responses=documents.masks(406, *UPLOADS),
        response_class=Response,
        openapi_extra=documents.SEGMENT_FORM,
        tags=["segment"],
    )
    async def segment(request: Request) -> Response:
        """Segment an image: a picture and prompts in, masks out. The same image again costs only the decoder."""

        async def prepare() -> Callable[[], Answer]:
            form = await read_form(request, settings.max_body, ("image",), ("prompts", "format", *SHOWN))
            if "prompts" not in form:
                raise RequestError(400, "The form has no prompts.", 'Give JSON such as [{"box": [1, 2, 30, 40]}].')
            asked = form["format"].decode("utf-8", "replace") if "format" in form else None
            kind = chosen_format(asked, request.headers.get("accept", ""))
            prompts, shown = parse(PROMPTS, form["prompts"], "prompts"), Shown.of(form)
            client = request.scope["state"]["client"]

            def work() -> Answer:
                key = client, key_of(service.secret, client, form["image"], shown)
                encoded = service.work.encoded(key, form["image"], shown)
                return service.work.segment(key, encoded, prompts, kind)

            return work

        return await service.through(request, "segment", prepare)

    @routes.post(
        "/v1/images",
        status_code=201,
        response_description="The image is kept.",
        responses={201: {"links": documents.LINKS}, **problems(*UPLOADS)},
        response_model=Kept,
        openapi_extra=documents.IMAGE_FORM,
        tags=["images"],
    )
    async def add_image(request: Request) -> Response:
        """Encode an image once, for any number of prompts. It is kept in memory until room is needed."""

        async def prepare() -> Callable[[], Answer]:
            form = await read_form(request, settings.max_body, ("image",), SHOWN)
            shown, client = Shown.of(form), request.scope["state"]["client"]

            def work() -> Answer:
                key = client, key_of(service.secret, client, form["image"], shown)
                encoded = service.work.encoded(key, form["image"], shown)
                if encoded.bytes > service.cache.limit:
                    raise RequestError(503, "The image does not fit into the cache.", "Send it to /v1/segment.")
                return _described(key[1], encoded)

            return work

        return await service.through(request, "image", prepare, 201)

    @routes.post(
        "/v1/images/{image}/segment",
        operation_id="segment_image",
        responses=documents.masks(400, 404, 406, 408, 413, 415, 422, 503, *ALWAYS),
        response_class=Response,
        openapi_extra=documents.QUESTION_BODY,
        tags=["images"],
    )
    async def segment_image(image: ID, request: Request) -> Response:
        """Segment an image that was sent before; this costs only the decoder."""

        async def prepare() -> Callable[[], Answer]:
            question = parse(QUESTION, await read_json(request), "body")
            kind = chosen_format(question.format, request.headers.get("accept", ""))
            key = request.scope["state"]["client"], image
            return lambda: service.work.segment(key, service.work.kept(key), question.prompts, kind)

        return await service.through(request, "segment", prepare)

    @routes.delete(
        "/v1/images/{image}",
        operation_id="forget_image",
        status_code=204,
        response_description="The image is forgotten.",
        responses=problems(404, *ALWAYS),
        response_class=Response,
        tags=["images"],
    )
    async def forget_image(image: ID, request: Request) -> Response:
        """Forget an image now, rather than when room is needed."""
        if not service.cache.forget((request.scope["state"]["client"], image)):
            raise not_here()
        return Response(status_code=204)

    @routes.get("/v1/bundle", responses=problems(*ALWAYS), tags=["service"])
    async def bundle() -> Served:
        """Which model is served, which prompts it understands, and what is taken."""
        manifest = service.bundle.manifest
        return Served(
            bundle=manifest.sha256,
            title=manifest.model.title,
            family=manifest.model.family,
            profile=manifest.profile,
            image_size=manifest.model.image_size,
            prompts=[kind for kind in manifest.prompts if kind in ("box", "point")],
            trust=service.bundle.trust.state,
            version=__version__,
            max_body=settings.max_body,
            max_pixels=settings.max_pixels,
        )

    @routes.get("/health", responses=problems(403, 500), tags=["service"])
    async def health() -> Health:
        """Whether the service runs."""
        return Health(status="ok")

    @routes.get(
        "/ready",
        response_model=Health,
        responses={503: {"model": Health, "description": "It takes no requests."}, **problems(403, 500)},
        tags=["service"],
    )
    async def ready() -> Response:
        """Whether the service takes requests: it does not stop, and its audit log can be written."""
        engine = service.engine
        status = "stopping" if engine.stopping else "ok" if engine.recording else "cannot record"
        return JSONResponse({"status": status}, 200 if engine.ready else 503)

    @routes.get(
        "/metrics",
        response_class=Response,
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Figures."},
            **problems(*ALWAYS),
        },
        tags=["service"],
    )
    async def metrics() -> Response:
        """Figures for Prometheus; nothing of patients or clients."""
        return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    return routes
