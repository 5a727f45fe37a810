"""The slices of a volume, each encoded once, however many objects ask about it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfqsam.errors import InputError
from dfqsam.imaging import View, Volume, Window
from dfqsam.segment.prompt import Box, Prompt

# Bytes of embeddings that are kept: 128 slices of 256 x 64 x 64 in single precision.
KEPT_BYTES = 1 << 29


class Segmenter(Protocol):
    """What is needed of a predictor; :class:`dfqsam.runtime.Predictor` is one."""

    def check_prompt(
        self,
        shape: tuple[int, int],
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
    ) -> Any: ...

    def set_image(self, image: ArrayLike) -> None: ...

    @property
    def embedding(self) -> NDArray[np.float32]: ...

    def set_embedding(self, embedding: NDArray[np.float32], shape: tuple[int, int]) -> None: ...

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]: ...


def _clicks(prompt: Prompt) -> tuple[list[tuple[float, float]] | None, list[float] | None]:
    """Points and their labels, as a predictor takes them."""
    if not prompt.points:
        return None, None
    return list(prompt.points), [float(inside) for inside in prompt.inside]


class Slices:
    """The slices of one view, asked about with boxes.

    Objects that are followed towards each other pass the same slices at different times; embeddings of those are kept,
    the latest first, up to ``kept_bytes``. A slice beyond that is encoded again, to the same result.

    Attributes:
        view: the view.
        encoded: how many times a slice went through the encoder.
        on_encoded: called each time.

    Args:
        predictor: with a bundle loaded; its picture is changed.
        volume: the study.
        view: a view of it.
        window: of the grey levels, as :meth:`Volume.window` takes it.
        kept_bytes: most that is kept of embeddings, None for 512 MB; 0 where the predictor keeps them itself.
    """

    def __init__(
        self,
        predictor: Segmenter,
        volume: Volume,
        view: View,
        window: Window | str | None = None,
        kept_bytes: int | None = None,
    ) -> None:
        self._kept_bytes = KEPT_BYTES if kept_bytes is None else kept_bytes
        self.view = view
        self.encoded = 0
        self.on_encoded: Callable[[], None] = lambda: None
        self._predictor, self._volume = predictor, volume
        self._window = None if volume.colour else volume.window(window)
        self._kept: OrderedDict[int, NDArray[np.float32]] = OrderedDict()
        self._current: int | None = None

    def check(self, k: int, prompt: Prompt) -> None:
        """Raises:
        InputError: when there is no such slice, the prompt is no good for it, or the model does not take boxes, by
            which objects are followed.
        """
        if not 0 <= k < self.view.count:
            raise InputError(
                f"There is no slice {k} in the {self.view.plane} plane; there are {self.view.count}, from 0 on."
            )
        self._predictor.check_prompt(self.view.shape, *_clicks(prompt), box=prompt.box)
        if prompt.box is None and prompt.propagate and self.view.count > 1:
            height, width = self.view.shape
            try:
                self._predictor.check_prompt(self.view.shape, box=(0, 0, width, height))
            except InputError as error:
                raise InputError(
                    "Objects are followed by boxes, which this model was not trained on; click on every slice, without "
                    "propagation (--no-propagate, propagate: no)."
                ) from error

    def ask(self, k: int, asked: Box | Prompt, again: bool = False) -> tuple[NDArray[np.bool_], float]:
        """The mask (H x W) that the model gives for a box on slice k, and its own estimate of the mask's IoU.

        Args:
            k: slice.
            asked: a box in pixels of the slice as the view shows it, or the box and the clicks of a prompt.
            again: the slice will be asked about once more after others.
        """
        self._go(k, again)
        if isinstance(asked, Prompt):
            masks, quality, _ = self._predictor.predict(*_clicks(asked), box=asked.box)
        else:
            masks, quality, _ = self._predictor.predict(box=asked)
        return np.asarray(masks[0], bool), float(quality[0])

    def _go(self, k: int, again: bool) -> None:
        if k == self._current:
            return
        if k in self._kept:
            self._predictor.set_embedding(self._kept[k], self.view.shape)
        else:
            self._current = None  # a picture that fails leaves the predictor empty
            self._predictor.set_image(self._volume.picture(k, self.view, self._window))
            self.encoded += 1
            self.on_encoded()
            if again:
                self._keep(k, self._predictor.embedding)
        self._current = k

    def _keep(self, k: int, embedding: NDArray[np.float32]) -> None:
        self._kept[k] = embedding
        while len(self._kept) * embedding.nbytes > self._kept_bytes:
            self._kept.popitem(last=False)
