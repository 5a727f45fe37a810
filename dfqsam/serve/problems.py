"""What a client is told when something is not done: a status, a sentence, and what to do."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dfqsam.errors import InputError
from dfqsam.imaging.files import TooManyPixelsError

ADVICE = "Correct the request and send it again; /docs says what is taken."


class Problem(BaseModel):
    """The body of every answer that is no result."""

    error: str = Field(description="What is wrong, in one sentence.")
    advice: str = Field(description="What to do about it.")


class RequestError(Exception):
    """A request that is not answered as it was meant.

    Args:
        status: 4xx where the client can mend it, 5xx else.
        error: one sentence.
        advice: what to do.
        headers: of the answer.
    """

    def __init__(self, status: int, error: str, advice: str = ADVICE, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.advice, self.headers = status, error, advice, dict(headers or {})

    @classmethod
    def of(cls, error: InputError) -> RequestError:
        """From the one sentence of the readers, which ends in what to do: ``It is cut short; export it again.``"""
        text = " ".join(str(error).split())
        wrong, between, advice = text.rpartition("; ")
        status = 413 if isinstance(error, TooManyPixelsError) else 422
        return cls(status, f"{wrong}.", advice[:1].upper() + advice[1:]) if between else cls(status, text)

    def again(self) -> RequestError:
        """Another of the same kind, without a traceback."""
        return RequestError(self.status, self.error, self.advice, self.headers)

    def response(self) -> JSONResponse:
        """The answer."""
        return JSONResponse(
            Problem(error=self.error, advice=self.advice).model_dump(), status_code=self.status, headers=self.headers
        )


def unforeseen() -> RequestError:
    """The answer to a request at which the service failed."""
    return RequestError(500, "The service failed at this request.", "Report it with its X-Request-ID.")


def answer_request_error(_: Request, error: Exception) -> Response:
    """Starlette's handler of :class:`RequestError`."""
    assert isinstance(error, RequestError)
    return error.response()
