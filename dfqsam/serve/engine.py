"""The one thread that computes, who may wait for it, and the record that is on disk before an answer is sent."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from dfqsam.audit import AuditLog
from dfqsam.errors import DfqsamError, InputError
from dfqsam.serve.answers import Answer
from dfqsam.serve.metrics import Metrics
from dfqsam.serve.problems import RequestError, unforeseen

logger = logging.getLogger("dfqsam.serve")
SHARE = 0.1  # of the last piece of work in the running mean
LATE = "late"


@dataclass
class Ticket:
    """A request that was let in: its id, its client's fingerprint, and what it wants.

    Attributes:
        late: nobody waits for it any more.
        future: of its work, once it has begun to wait for its turn.
    """

    request: str
    client: str | None
    task: str
    late: bool = False
    future: Future[Answer | RequestError] | None = field(default=None, repr=False)


def defect(error: BaseException) -> str:
    """An unexpected error for the log: what libraries say may quote identifiers, where they said it does not."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


class Engine:
    """Computes requests one after another. All methods but the work itself belong to the event loop's thread.

    Args:
        queue: requests that may wait while one is computed.
        bundle: SHA-256, for the record.
        audit: where every accepted request is recorded; None for nowhere.
    """

    def __init__(self, queue: int, bundle: str, audit: AuditLog | None, metrics: Metrics) -> None:
        self._places, self._bundle, self._audit, self._metrics = queue + 1, bundle, audit, metrics
        self._thread = ThreadPoolExecutor(1, "dfqsam-engine")
        self._taken = 0
        self._mean = 0.5  # seconds of a piece of work, until it is known
        self.stopping = False
        self.recording = True

    @property
    def taken(self) -> int:
        """Requests that are read, wait or are computed."""
        return self._taken

    @property
    def ready(self) -> bool:
        """Whether a request would be taken and recorded now, were there room."""
        return self.recording and not self.stopping

    @contextmanager
    def admit(self, ticket: Ticket) -> Iterator[None]:
        """A place for a request, from before its body is read to its answer.

        Raises:
            RequestError: 429 where there is none.
        """
        if self._taken >= self._places:
            wait = max(1, math.ceil(self._taken * self._mean))
            raise RequestError(
                429, "Too many requests wait already.", f"Try again in {wait} s.", {"Retry-After": str(wait)}
            )
        self._taken += 1
        loop = asyncio.get_running_loop()
        try:
            yield
        finally:
            ticket.late = True  # to what is still computed, if anything is
            if ticket.future is None or ticket.future.done():
                self._release()
            else:
                ticket.future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release))

    def _release(self) -> None:
        self._taken -= 1

    async def run(self, ticket: Ticket, work: Callable[[], Answer]) -> Answer:
        """The answer of ``work``, which runs in the engine's thread once it is its turn.

        Raises:
            RequestError: what became of it instead; 500 for what nobody foresaw.
        """
        ticket.future = self._thread.submit(self._do, ticket, work)
        came = await asyncio.shield(asyncio.wrap_future(ticket.future))
        if isinstance(came, RequestError):
            raise came.again()
        return came

    def _do(self, ticket: Ticket, work: Callable[[], Answer]) -> Answer | RequestError:
        """What came of ``work``. A problem is returned, and without its traceback: the frames in it hold uploads, which
        would stay in memory until somebody looks for circles of references."""
        answer, problem, outcome = None, None, "answered"
        begun = time.perf_counter()
        try:
            if ticket.late:
                raise RequestError(503, "The request waited for too long.")
            answer = work()
        except RequestError as error:
            problem, outcome = error.again(), "refused"
        except InputError as error:
            problem, outcome = RequestError.of(error), "refused"
        except MemoryError:
            problem, outcome = RequestError(503, "There is not enough memory.", "Send a smaller image."), "failed"
        except Exception as error:
            logger.error("Request %s failed: %s", ticket.request, defect(error))
            problem, outcome = unforeseen(), "failed"
        self._mean += SHARE * (time.perf_counter() - begun - self._mean)
        unrecorded = self._record(ticket, LATE if ticket.late else outcome, answer)
        came = unrecorded or problem or answer
        assert came is not None
        return came

    def _record(self, ticket: Ticket, outcome: str, answer: Answer | None) -> RequestError | None:
        """Writes the entry; what is answered instead where that cannot be done."""
        self._metrics.accepted(ticket.task, outcome)
        if self._audit is None:
            return None
        sent = hashlib.sha256(answer.body).hexdigest() if answer is not None and outcome == "answered" else None
        about = {"request": ticket.request, "client": ticket.client, "task": ticket.task}
        try:
            self._audit.record("request", bundle=self._bundle, **about, outcome=outcome, answer=sent)
        except DfqsamError as error:
            self.recording = False
            logger.error("Request %s is not answered, as it cannot be recorded: %s", ticket.request, error)
            return RequestError(503, "The audit log cannot be written.", "Tell whoever runs this service.")
        self.recording = True
        return None

    def close(self) -> None:
        """End the thread, once what it was given is done."""
        self.stopping = True
        self._thread.shutdown()
