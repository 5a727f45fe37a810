"""Progress bars on the terminal; silent when standard error is no terminal (logs, pipes, tests)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

T = TypeVar("T")


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
        yield lambda n=1, **info: None
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


def track(items: Iterable[T] | int, description: str) -> Iterator[Any]:
    """``items`` (or 0 ... items - 1 for a number) one by one, with a bar that counts them."""
    sequence: Iterable[Any] = range(items) if isinstance(items, int) else items
    total = len(sequence) if hasattr(sequence, "__len__") else None  # pyright: ignore[reportArgumentType]
    with stage(description, total) as advance:
        for item in sequence:
            yield item
            advance()
