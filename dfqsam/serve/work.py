"""What is computed for a request, in the one thread that owns the model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dfqsam.errors import InputError
from dfqsam.runtime import Predictor
from dfqsam.serve.answers import Answer, Found, make_answer
from dfqsam.serve.cache import Cache, Encoded, Key
from dfqsam.serve.metrics import Metrics
from dfqsam.serve.pictures import Shown, open_picture
from dfqsam.serve.problems import RequestError
from dfqsam.serve.prompts import Format, Prompt, check_kinds

MOST_MASKED = 1 << 28  # pixels of all masks of a request: seconds of work, for which others wait


def not_here() -> RequestError:
    """The answer where there is no image of an id; the same whether there never was, or it is somebody else's."""
    return RequestError(404, "There is no such image, or it was dropped to make room.", "Send it to /v1/images again.")


class Work:
    """Pictures into embeddings, prompts into masks; one thread at a time."""

    def __init__(self, predictor: Predictor, cache: Cache, metrics: Metrics, max_pixels: int) -> None:
        self._predictor, self._cache, self._metrics, self._max_pixels = predictor, cache, metrics, max_pixels

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._metrics.step(step, time.perf_counter() - start)

    def encoded(self, key: Key, data: bytes, shown: Shown) -> Encoded:
        """What an upload is to the decoder; computed where it is not kept.

        Raises:
            InputError: as :func:`dfqsam.serve.pictures.open_picture`.
            RequestError: as that.
        """
        kept = self._cache.get(key)
        self._metrics.looked_up(kept is not None)
        if kept is not None:
            return kept
        with self._timed("read"):
            opened = open_picture(data, shown, self._max_pixels)
        with self._timed("encode"):
            self._predictor.set_image(opened.picture)
            embedding = self._predictor.embedding
            self._predictor.reset_image()
        size = embedding.nbytes + opened.bytes
        made = Encoded(embedding, opened.geometry, opened.view, opened.slice, size)
        self._cache.put(key, made)
        return made

    def kept(self, key: Key) -> Encoded:
        """An upload that was encoded before.

        Raises:
            RequestError: 404 where it is not kept.
        """
        found = self._cache.get(key)
        self._metrics.looked_up(found is not None)
        if found is None:
            raise not_here()
        return found

    def check(self, encoded: Encoded, prompts: Sequence[Prompt]) -> None:
        """Raises:
        RequestError: 422 for kinds that the model does not understand.
        InputError: for boxes and points that are no good for the picture.
        """
        manifest = self._predictor.bundle.manifest
        check_kinds(prompts, manifest.prompts, manifest.model.title)
        height, width = encoded.shape
        if len(prompts) * height * width > MOST_MASKED:
            raise RequestError(
                413,
                f"{len(prompts)} masks of {width} x {height} pixels are too many for one request.",
                f"Send at most {max(1, MOST_MASKED // (height * width))} prompts at a time.",
            )
        for number, prompt in enumerate(prompts):
            try:
                self._predictor.check_prompt(encoded.shape, prompt.point_coords, prompt.point_labels, prompt.box)
            except InputError as error:
                raise InputError(f"prompts[{number}]: {error}") from error

    def segment(self, key: Key, encoded: Encoded, prompts: Sequence[Prompt], kind: Format) -> Answer:
        """The masks of prompts on a picture.

        Raises:
            InputError: as :meth:`check` and :func:`dfqsam.serve.answers.make_answer`.
            RequestError: as :meth:`check`.
        """
        self.check(encoded, prompts)
        with self._timed("decode"):
            self._predictor.set_embedding(encoded.embedding, encoded.shape)
            about = {"bundle": self._predictor.bundle.sha256, "image": key[1]}
            answer = make_answer(encoded, self._found(prompts), kind, about)
            self._predictor.reset_image()
        return answer

    def _found(self, prompts: Sequence[Prompt]) -> Iterator[Found]:
        """One mask after another, so that there is never more than one of a large picture."""
        for prompt in prompts:
            masks, quality, _ = self._predictor.predict(prompt.point_coords, prompt.point_labels, prompt.box)
            yield Found(prompt, masks[0].astype(bool, copy=False), float(quality[0]))
