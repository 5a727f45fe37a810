"""One prompt followed through a stack, upwards and downwards, with the slices it may reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.segment.prompt import Box, Point, Prompt
from dfqsam.segment.rules import Propagation
from dfqsam.segment.slices import Slices
from dfqsam.segment.step import Stop, box_of, part, verdict

UP, DOWN = 1, -1


@dataclass
class _Head:
    """Where a trail is in one direction: the object on the last slice taken, and where it was largest (pixels)."""

    k: int
    mask: NDArray[np.bool_]
    largest: int


@dataclass(eq=False)
class Trail:
    """A prompt, and what was found by following it.

    Attributes:
        prompt: with slice and plane filled in.
        start: slice of the prompt.
        reach: for each direction (1 and -1) the last slice that may be taken, and why it is the last.
        masks: packed bits of H x W for every slice taken.
        quality: the model's own estimate of the IoU for every slice taken.
        stops: why it ended, for each direction.
    """

    prompt: Prompt
    start: int
    reach: dict[int, tuple[int, Stop]]
    masks: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    quality: dict[int, float] = field(default_factory=dict)
    stops: dict[int, Stop] = field(default_factory=dict)
    _heads: dict[int, _Head] = field(default_factory=dict)

    @classmethod
    def of(cls, prompt: Prompt, count: int) -> Self:
        """The trail of a prompt (slice and plane filled in) through ``count`` slices, nothing taken yet.

        Raises:
            InputError: for a prompt outside of its own limits.
        """
        start = prompt.slice or 0
        return cls(prompt, start, _reach(prompt, start, count))

    def wants(self, k: int, direction: int) -> bool:
        """Whether slice k is the next one in this direction; the prompt's own slice counts as upwards."""
        if k == self.start:
            return direction == UP and not self.masks and not self.stops
        return direction in self._heads and k == self._heads[direction].k + direction

    def may_come_down_to(self, k: int) -> bool:
        """Whether slice k, not wanted yet, may be on the way down."""
        return DOWN not in self.stops and self.reach[DOWN][0] <= k < self.start

    def take(self, k: int, direction: int, slices: Slices, rules: Propagation, again: bool = False) -> None:
        """Ask about slice k, which is wanted, and take its mask or stop; ``again`` is for :meth:`Slices.ask`."""
        if k == self.start:
            self.begin(*slices.ask(k, self.prompt, again))
            return
        head = self._heads[direction]
        given, quality = slices.ask(k, box_of(head.mask, rules.margin, rules.margin_share), again)
        mask = part(given, head.mask)
        stop = verdict(mask, head.mask, quality, head.largest, rules)
        if stop is not None:
            self._end(direction, stop)
            return
        self._put(k, mask, quality)
        self._heads[direction] = _Head(k, mask, max(head.largest, int(mask.sum())))
        self._end_at_reach(direction)

    def begin(self, mask: NDArray[np.bool_], quality: float) -> None:
        """Take ``mask`` (H x W) as the object on the prompt's slice, with the model's own estimate of its IoU."""
        if not mask.any():
            self.stops = {UP: Stop.EMPTY, DOWN: Stop.EMPTY}
            return
        self._put(self.start, mask, quality)
        self._heads = {side: _Head(self.start, mask, int(mask.sum())) for side in (UP, DOWN)}
        for side in (UP, DOWN):
            self._end_at_reach(side)

    def mask_at(self, k: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """H x W, the object on a slice that was taken."""
        return np.unpackbits(self.masks[k], count=shape[0] * shape[1]).reshape(shape).astype(bool)

    def _put(self, k: int, mask: NDArray[np.bool_], quality: float) -> None:
        self.masks[k], self.quality[k] = np.packbits(mask), quality

    def _end_at_reach(self, direction: int) -> None:
        end, why = self.reach[direction]
        if self._heads[direction].k == end:
            self._end(direction, why)

    def _end(self, direction: int, why: Stop) -> None:
        self.stops[direction] = why
        del self._heads[direction]


def _reach(prompt: Prompt, start: int, count: int) -> dict[int, tuple[int, Stop]]:
    if not prompt.propagate:
        return {UP: (start, Stop.SINGLE), DOWN: (start, Stop.SINGLE)}
    first, last = prompt.first or 0, count - 1 if prompt.last is None else prompt.last
    if last >= count:
        raise InputError(f"The last slice is to be {last}; there are {count}, from 0 on.")
    if not 0 <= first <= start <= last:
        raise InputError(f"The box on slice {start} lies outside of the slices {first} to {last}; move the limits.")
    above = (last, Stop.LIMIT) if last < count - 1 else (count - 1, Stop.EDGE)
    return {UP: above, DOWN: (first, Stop.LIMIT) if first else (0, Stop.EDGE)}


def _meet(one: Prompt, other: Prompt) -> bool:
    """Whether two prompts of one label are of one object: boxes that overlap, clicks in a box, or clicks alone."""
    a, b = one.box, other.box
    if a is not None and b is not None:
        return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])
    box = a or b
    if box is None:
        return True
    clicks = zip(*((other.points, other.inside) if a is not None else (one.points, one.inside)), strict=True)
    return any(inside and _within(point, box) for point, inside in clicks)


def _within(point: Point, box: Box) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def share(paths: Sequence[Trail]) -> None:
    """Prompts of one label that meet are of one object: each is followed half-way to the next."""
    for low in paths:
        for high in paths:
            same = low.prompt.label == high.prompt.label and low.prompt.propagate and high.prompt.propagate
            if same and low.start < high.start and _meet(low.prompt, high.prompt):
                half = (low.start + high.start) // 2
                if half < low.reach[UP][0]:
                    low.reach[UP] = half, Stop.PROMPT
                if half + 1 > high.reach[DOWN][0]:
                    high.reach[DOWN] = half + 1, Stop.PROMPT


def walk(groups: Sequence[tuple[Sequence[Trail], Slices]], rules: Propagation) -> Iterator[tuple[int, int]]:
    """Follow all trails of one view, upwards and then downwards, slice by slice, so that they share each slice.

    Args:
        groups: trails with the slices that they ask; several models that go through the same view step by step.
        rules: when to stop.

    Yields:
        direction and slice, after every slice on which a trail went on; who stops asking has what there is so far.
    """
    for direction in (UP, DOWN):
        for k in range(groups[0][1].view.count)[::direction]:
            went = False
            for paths, slices in groups:
                for trail in paths:
                    if trail.wants(k, direction):
                        again = direction == UP and any(other.may_come_down_to(k) for other in paths)
                        trail.take(k, direction, slices, rules, again)
                        went = True
            if went:
                yield direction, k


def follow(paths: Sequence[Trail], slices: Slices, rules: Propagation) -> None:
    """Follow all trails of one view to their ends; see :func:`walk`."""
    for _ in walk([(paths, slices)], rules):
        pass
