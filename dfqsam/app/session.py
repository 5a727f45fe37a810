"""What one person works on: a study, where in it, what was drawn, and the masks that came of it."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dfqsam.app.compare import Pair, segment
from dfqsam.app.identity import study_id
from dfqsam.app.models import Choice
from dfqsam.app.packed import Packed
from dfqsam.app.prompts import Prompts, Target, parse
from dfqsam.app.propagate import Job
from dfqsam.app.sent import Sent
from dfqsam.app.stack import Stack
from dfqsam.errors import InputError
from dfqsam.imaging import Plane, View, Volume, Window
from dfqsam.judgement import Stored

Place = tuple[str, int]  # plane and slice
T = TypeVar("T")


@dataclass
class Verdict:
    """The last verdict on a study that is open.

    Args:
        place: names slice and model.
        accepts: whether the mask was accepted.
        stored: what came of it; None where it was refused.
        refused: why.
        time: of the press, in seconds of the clock that only goes forward.
        told: whether the person has been told.
    """

    place: str
    accepts: bool
    stored: Stored | None
    refused: str
    time: float
    told: bool = False


@dataclass
class Work:
    """A study that is open in one session.

    Args:
        name: of the study, for the person who opened it.
        volume: its voxels.
        number: how many studies this session has opened before; sets what belongs to one apart from the next.
    """

    name: str
    volume: Volume
    number: int = 0
    plane: Plane = "stored"
    prompts: dict[Place, Prompts] = field(default_factory=dict)
    stacks: dict[tuple[str, Plane], Stack] = field(default_factory=dict)  # by bundle and plane
    job: Job | None = None
    trouble: str = ""  # why the last propagation failed
    kept: dict[str, tuple[Hashable, Any]] = field(default_factory=dict)  # by name: what it was made from, and it
    heard: dict[tuple[str, str], int] = field(default_factory=dict)  # number of the last news, by component and name
    sent: defaultdict[str, Sent] = field(default_factory=lambda: defaultdict(Sent))  # by component
    shown: dict[Plane, int] = field(default_factory=dict)  # slice by plane
    moves: int = 0  # how often another slice was asked for
    level: tuple[float, float] | None = None  # centre and width of the window
    levels: int = 0  # how often one of the windows with names was chosen
    verdict: Verdict | None = None
    cursor: tuple[int, int, int] | None = None  # voxel that three planes go through
    _masks: dict[tuple[str, Place], dict[Target, tuple[Packed, Packed | None]]] = field(default_factory=dict)
    _seen: dict[tuple[str, Place], Window | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plane = self.volume.natural_plane

    @cached_property
    def study(self) -> str:
        """What names the study; for the site's keyed hash only, never to be shown or kept."""
        return study_id(self.volume)

    @property
    def view(self) -> View:
        """Of the plane that is shown."""
        return self.volume.view(self.plane)

    @property
    def planes(self) -> list[Plane]:
        """Those that may be chosen: by name where the patient's orientation is known, and there are slices to cut."""
        if self.volume.affine is None or self.volume.shape[0] == 1:
            return ["stored"]
        named: list[Plane] = ["axial", "coronal", "sagittal"]
        return ["stored", *named] if self.volume.natural_plane == "stored" else named

    @property
    def at(self) -> int:
        """The slice that is shown, from 0 on; at first the one in the middle."""
        return self.shown.get(self.plane, self.view.count // 2)

    def go(self, k: object) -> None:
        """Show slice ``k`` of this plane next; anything but a slice is left alone, as the browser is not trusted."""
        if type(k) is int and 0 <= k < self.view.count:
            self.shown[self.plane] = k
            self.moves += 1

    def epoch(self, k: int) -> str:
        """Names study, plane and slice for the component."""
        return f"{self.number}/{self.plane}/{k}"

    def shows(self, epoch: object) -> bool:
        """Whether an epoch that the component named is of the study and the plane that are shown now."""
        return isinstance(epoch, str) and epoch.rpartition("/")[0] == f"{self.number}/{self.plane}"

    def drawn(self, k: int) -> Prompts:
        """The prompts on slice ``k`` of the plane that is shown."""
        return self.prompts.get((self.plane, k), Prompts())

    def take(self, document: Any) -> None:
        """Keep what the component sent, for the slice it was drawn on; what was drawn on another study is dropped.

        Raises:
            InputError: for prompts that are not understood.
        """
        epoch = document.get("epoch") if isinstance(document, dict) else None
        parts = epoch.split("/") if isinstance(epoch, str) else []
        if len(parts) != 3 or parts[0] != str(self.number) or parts[1] not in self.planes or not parts[2].isdecimal():
            return
        view, k = self.volume.view(parts[1]), int(parts[2])
        if k < view.count:
            self.prompts[parts[1], k] = parse(document, view.shape)

    def follow(self, job: Job) -> None:
        """Start a propagation; it ends without a result when this study is closed or its session is over."""
        self.job, self.trouble = job, ""
        weakref.finalize(self, job.stop, False)
        job.start()

    def made(self, name: str, source: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` gives, made anew only where ``source`` is another than the last time; one of each name."""
        if name not in self.kept or self.kept[name][0] != source:
            self.kept[name] = source, make()
        return self.kept[name][1]

    def close(self) -> None:
        """End what runs for it."""
        if self.job is not None:
            self.job.stop(keep=False)

    def finish(self) -> None:
        """Take what came of the propagation that has ended."""
        job, self.job = self.job, None
        if job is not None:
            self.trouble = job.error
            if job.stack is not None:
                self.stacks[job.choice.name, job.plane] = job.stack

    def answers(self, choice: Choice, k: int, picture: NDArray[np.uint8], window: Window | None) -> list[Pair]:
        """The masks of all objects on slice ``k``; only what has changed is computed.

        Args:
            choice: the bundle.
            k: slice of the plane that is shown.
            picture: of the slice, H x W x 3 uint8.
            window: that the picture was made with; masks of another one are made anew.

        Raises:
            InputError: for a prompt that the model was not trained on.
        """
        key = (choice.name, (self.plane, k))
        if key in self._masks and self._seen[key] != window:
            del self._masks[key]
        before = self._masks.get(key, {})
        now: dict[Target, tuple[Packed, Packed | None]] = {}
        for target in self.drawn(k).targets:
            if target not in before:
                pair = segment(choice, picture, target)
                packed = Packed.of(pair.quantized), None if pair.full is None else Packed.of(pair.full)
                before = {**before, target: packed}
            now[target] = before[target]
        self._masks[key], self._seen[key] = now, window
        return self._pairs(key, self.drawn(k).targets)

    def _pairs(self, key: tuple[str, Place], targets: Sequence[Target]) -> list[Pair]:
        found = [self._masks[key][target] for target in targets]
        return [Pair(one.answer(), None if two is None else two.answer()) for one, two in found]

    def all_masks(
        self, choice: Choice, window: Window | None, full: bool = False
    ) -> dict[int, list[NDArray[np.bool_]]]:
        """The masks of every slice of the shown plane that was drawn on, as they were seen; what this bundle has not
        answered yet is computed.

        Raises:
            InputError: when the full-precision masks are asked for and there are none, and as :meth:`answers`.
        """
        found = self.all_pairs(choice, window)
        return {k: [self._one(pair, full) for pair in pairs] for k, pairs in found.items()}

    def all_pairs(self, choice: Choice, window: Window | None) -> dict[int, list[Pair]]:
        """As :meth:`all_masks`, of both models."""
        found: dict[int, list[Pair]] = {}
        for (plane, k), prompts in sorted(self.prompts.items()):
            if plane != self.plane or not prompts.targets:
                continue
            key = (choice.name, (plane, k))
            if all(target in self._masks.get(key, {}) for target in prompts.targets):
                found[k] = self._pairs(key, prompts.targets)
            else:
                found[k] = self.answers(choice, k, self.volume.picture(k, self.view, window), window)
        return found

    @staticmethod
    def _one(pair: Pair, full: bool) -> NDArray[np.bool_]:
        if not full:
            return pair.quantized.mask
        if pair.full is None:
            raise InputError("This bundle has no full-precision model; save the quantized mask.")
        return pair.full.mask
