"""Progress: bars on a terminal; in logs and pipes a line a minute for what takes that long."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

T = TypeVar("T")

EVERY = 60.0  # seconds between two lines in a log; what takes less leaves none


class Advance(Protocol):
    """Reports ``n`` further steps; keywords (loss=0.3) are shown beside the bar."""

    def __call__(self, n: float = 1, **info: Any) -> None: ...


_shown: list[Progress] = []


def _info(values: dict[str, Any]) -> str:
    texts = (f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items())
    return "  ".join(texts)


@contextmanager
def stage(description: str, total: float | None = None) -> Iterator[Advance]:
    """Show a stage of the work while the block runs; yields the function that advances its bar.

    Args:
        description: what is being done, for people.
        total: number of steps, None where it is not known (then the bar only moves).

    A stage inside a stage gets a bar below the first one, which goes once the next of its name begins.
    """
    if not sys.stderr.isatty():
        with _lines(description, total) as advance:
            yield advance
        return
    outer = not _shown
    if outer:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[info]}"),
        )
        _shown.append(Progress(*columns, console=Console(stderr=True)))
        _shown[0].start()
    bar = _shown[0]
    for past in [task for task in bar.tasks if task.finished and task.description == description]:
        bar.remove_task(past.id)
    task = bar.add_task(description, total=total, info="")

    def advance(n: float = 1, **info: Any) -> None:
        bar.advance(task, n)
        if info:
            bar.update(task, info=_info(info))

    try:
        yield advance
        if total is None:
            done = next(one.completed for one in bar.tasks if one.id == task)
            bar.update(task, total=done or 1, completed=done or 1)
    finally:
        if outer:
            bar.stop()
            _shown.clear()


@contextmanager
def _lines(description: str, total: float | None) -> Iterator[Advance]:
    """:func:`stage` for a log: how far it is, at most every :data:`EVERY` seconds, and its end if it took that long."""
    begun = said = time.monotonic()
    done = 0.0

    def say(what: str) -> None:
        minutes = (time.monotonic() - begun) / 60
        print(f"{description}: {what}, {minutes:.0f} min", file=sys.stderr, flush=True)

    def advance(n: float = 1, **info: Any) -> None:
        nonlocal done, said
        done += n
        if time.monotonic() - said >= EVERY and done != total:
            said = time.monotonic()
            say("  ".join(filter(None, (f"{done:g}" if total is None else f"{done:g} of {total:g}", _info(info)))))

    yield advance
    if time.monotonic() - begun >= EVERY:
        say("done")


def track(items: Iterable[T] | int, description: str) -> Iterator[Any]:
    """``items`` (or 0 ... items - 1 for a number) one by one, with a bar that counts them."""
    sequence: Iterable[Any] = range(items) if isinstance(items, int) else items
    total = len(sequence) if hasattr(sequence, "__len__") else None  # pyright: ignore[reportArgumentType]
    with stage(description, total) as advance:
        for item in sequence:
            yield item
            advance()
