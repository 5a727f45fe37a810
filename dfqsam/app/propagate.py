"""Objects followed through a plane by both models, slice by slice, in a thread of its own; a person may stop it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfqsam.app.compare import segment
from dfqsam.app.models import Choice, Model
from dfqsam.app.stack import Bits, Counted, End, Stack, Start, count
from dfqsam.errors import DfqsamError, InputError
from dfqsam.imaging import Plane, Volume, Window, voxel_millilitres
from dfqsam.segment import Prompt, Propagation
from dfqsam.segment.slices import Slices
from dfqsam.segment.trail import DOWN, UP, Trail, share, walk


class _Asked:
    """A model as propagation asks it: a predictor whose embeddings are those of the viewer, where there is room."""

    def __init__(self, model: Model) -> None:
        self._model, self._predictor = model, model.predictor()
        self.check_prompt, self.predict = self._predictor.check_prompt, self._predictor.predict
        self.set_embedding = self._predictor.set_embedding

    def set_image(self, image: ArrayLike) -> None:
        picture = np.asarray(image, np.uint8)
        made = self._model.embedding(picture, urgent=False, spare=True)
        self._predictor.set_embedding(made.values, (picture.shape[0], picture.shape[1]))

    @property
    def embedding(self) -> NDArray[np.float32]:
        return self._predictor.embedding


class Job:
    """One propagation. Both models take a slice before the next is begun, so that they stop at the same place.

    Attributes:
        stack: what came of it, once it is done; None where it failed or was dropped.
        error: one sentence where it failed.
    """

    def __init__(
        self,
        choice: Choice,
        volume: Volume,
        plane: Plane,
        window: Window | None,
        starts: Sequence[Start],
        rules: Propagation | None = None,
    ) -> None:
        """Take a note of what is to be done.

        Args:
            choice: the bundle.
            volume: the study.
            plane: in which slices are followed.
            window: that the models see.
            starts: at least one.
            rules: when to stop; None for the ones that were measured.
        """
        self.choice, self.starts = choice, tuple(starts)
        self.plane: Plane = plane
        self.stack: Stack | None = None
        self.error = ""
        self._volume, self._window, self._rules = volume, window, rules or Propagation()
        self._view = volume.view(plane)
        self._stop, self._keep = threading.Event(), False
        self._steps = 0
        self._at: int | None = None
        self._thread = threading.Thread(target=self._run, name="dfqsam-propagation", daemon=True)

    def start(self) -> None:
        """Begin, in the background."""
        self._thread.start()

    def stop(self, keep: bool) -> None:
        """End after the slice that is worked on; ``keep`` what is done so far, or drop it."""
        self._keep = keep
        self._stop.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Whether it is done, at the latest after ``seconds``."""
        self._thread.join(seconds)
        return self.done

    @property
    def done(self) -> bool:
        """Whether it ended, in whichever way."""
        return self._thread.ident is not None and not self._thread.is_alive()

    @property
    def progress(self) -> float:
        """Slices that were passed, as part of those that may have to be: 0 to 1."""
        first, last = min(one.k for one in self.starts), max(one.k for one in self.starts)
        return min(1.0, self._steps / max(1, self._view.count - 1 - first + last))

    @property
    def words(self) -> str:
        """Where it is, for people."""
        if self._stop.is_set():
            return "stopping after this slice"
        return "encoding the first slice" if self._at is None else f"slice {self._at + 1} of {self._view.count}"

    def _run(self) -> None:
        try:
            self._follow()
        except DfqsamError as error:
            self.error = str(error)
        except Exception as error:  # a defect must not leave a bar that never ends; what libraries say is not shown
            self.error = f"The propagation failed with an unexpected {type(error).__name__}; report it as a defect."

    def _follow(self) -> None:
        models = self.choice.models
        slices = [Slices(_Asked(model), self._volume, self._view, self._window, kept_bytes=0) for model in models]
        trails = [list(self._trails(full)) for full in (False, True)[: len(models)]]
        for paths in trails:
            share(paths)
        first, last = min(one.k for one in self.starts), max(one.k for one in self.starts)
        for direction, k in walk(list(zip(trails, slices, strict=True)), self._rules):
            self._at = k
            self._steps = k - first if direction == UP else self._view.count - 1 - first + last - k
            if self._stop.is_set():
                break
        if not self._stop.is_set() or self._keep:
            self.stack = self._stack(trails)

    def _trails(self, full: bool) -> Iterator[Trail]:
        for start in self.starts:
            if self._stop.is_set():
                return
            picture = self._volume.picture(start.k, self._view, self._window)
            pair = segment(self.choice, picture, start.target)
            answer = pair.full if full and pair.full is not None else pair.quantized
            height, width = self._view.shape
            box = start.target.box or (0.0, 0.0, float(width), float(height))
            trail = Trail.of(Prompt(box, start.k, self.plane, start.label), self._view.count)
            trail.begin(answer.mask, 1.0)  # what is seen, whatever the model's own estimate of it
            yield trail

    def _stack(self, trails: list[list[Trail]]) -> Stack:
        shape = self._view.shape
        masks = [_by_slice(paths) for paths in trails]
        ends = [
            End(start, full, min(t.masks, default=None), max(t.masks, default=None), t.stops.get(DOWN), t.stops.get(UP))
            for full, paths in zip((False, True), trails, strict=False)
            for start, t in zip(self.starts, paths, strict=False)
        ]
        quantized, full = masks[0], masks[1] if len(masks) > 1 else None
        made = Stack(
            self.plane, self._window, shape, self.starts, quantized, full, {}, tuple(ends), self._stop.is_set()
        )
        try:
            voxels = voxel_millilitres(self._volume)
        except InputError:
            voxels = None
        counts: dict[int, dict[int, Counted]] = {
            k: {label: count(self._view, voxels, k, made.pair(k, label)) for label in made.labels(k)}
            for k in sorted(set(quantized) | set(full or {}))
        }
        return Stack(**{**vars(made), "counts": counts})


def _by_slice(paths: Sequence[Trail]) -> dict[int, dict[int, Bits]]:
    """Masks by slice and label; those of one label are joined."""
    found: dict[int, dict[int, Bits]] = {}
    for trail in paths:
        for k, bits in trail.masks.items():
            here = found.setdefault(k, {})
            label = trail.prompt.label
            here[label] = here[label] | bits if label in here else bits
    return found
