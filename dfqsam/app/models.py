"""Bundles, loaded once and shared by all sessions; each with its model in full precision where there is one."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqsam.app.embeddings import Embedding, EmbeddingCache, content_key
from dfqsam.app.prompts import Target
from dfqsam.app.settings import Settings
from dfqsam.app.turns import Turns
from dfqsam.assets import shipped_bundle
from dfqsam.bundle import Bundle, open_bundle
from dfqsam.bundle.store import MANIFEST
from dfqsam.errors import BundleError, InputError
from dfqsam.evaluate.models import FULL, open_models
from dfqsam.runtime import Predictor

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Answer:
    """A mask (H x W), and how long encoder and decoder took, in seconds; the encoder's when it last ran."""

    mask: Mask
    encoder: float
    decoder: float


class Model:
    """One model of a bundle, for any number of threads: ONNX Runtime's sessions are shared, pictures are not."""

    def __init__(self, bundle: Bundle, full_precision: bool, cache: EmbeddingCache, encoding: Turns) -> None:
        self.bundle, self.full_precision = bundle, full_precision
        self._cache, self._encoding = cache, encoding
        suffix = "_fp32" if full_precision else ""
        names = [f"{part}{suffix}.onnx" for part in ("encoder", "decoder")]
        files = bundle.manifest.files
        self.bytes = sum(files[name].bytes for name in names)
        self._key = f"{files[names[0]].sha256} {bundle.manifest.model.image_size}"
        self._loading = threading.Lock()

    @cached_property
    def _loaded(self) -> Predictor:
        return Predictor(self.bundle, full_precision=self.full_precision)

    def predictor(self) -> Predictor:
        """One of the caller's own, without a picture."""
        with self._loading:
            return copy.copy(self._loaded)

    def embedding(self, picture: NDArray[np.uint8], urgent: bool = True, spare: bool = False) -> Embedding:
        """Of an H x W x 3 uint8 picture, from the cache where it is there. One encoder runs at a time, on all cores.

        Args:
            picture: what is encoded.
            urgent: a person waits for it, and goes before those for whom nobody does.
            spare: keep it only where there is room; see :meth:`EmbeddingCache.get`.
        """

        def compute() -> Embedding:
            with self._encoding.take(urgent):
                predictor = self.predictor()
                start = time.perf_counter()
                predictor.set_image(picture)
                return Embedding(predictor.embedding, time.perf_counter() - start)

        return self._cache.get(content_key(self._key, picture), compute, spare)

    def segment(self, picture: NDArray[np.uint8], target: Target) -> Answer:
        """The mask of one object.

        Raises:
            InputError: for a kind of prompt that the model was not trained on.
        """
        predictor = self.predictor()
        coords = [point[:2] for point in target.points] or None
        labels = [point[2] for point in target.points] or None
        predictor.check_prompt(picture.shape[:2], coords, labels, target.box)
        embedding = self.embedding(picture)
        predictor.set_embedding(embedding.values, picture.shape[:2])
        start = time.perf_counter()
        masks, _, _ = predictor.predict(coords, labels, target.box)
        return Answer(np.asarray(masks[0], bool), embedding.seconds, time.perf_counter() - start)


@dataclass(frozen=True)
class Choice:
    """A bundle that may be chosen.

    Args:
        name: for people, unlike any other's.
        quantized: its model as it runs.
        full: the same in full precision; None where there is none.
        why: why there is none, one sentence; empty where there is one.
    """

    name: str
    quantized: Model
    full: Model | None
    why: str = ""

    @property
    def bundle(self) -> Bundle:
        """The quantized model's."""
        return self.quantized.bundle

    @property
    def models(self) -> tuple[Model, ...]:
        """The quantized one, and that in full precision where there is one."""
        return (self.quantized,) if self.full is None else (self.quantized, self.full)

    @property
    def prompts(self) -> tuple[str, ...]:
        """Kinds that the model was trained on: box, point, mask."""
        return self.bundle.manifest.prompts


def bundle_folders(paths: tuple[Path, ...]) -> list[Path]:
    """The bundles among ``paths``: each is one, or a folder that holds some; the one that ships where none is given.

    Raises:
        InputError: for a path that is neither.
    """
    found: list[Path] = []
    for path in paths:
        if (path / MANIFEST).is_file():
            found.append(path)
            continue
        inside = sorted(one.parent for one in path.glob(f"*/{MANIFEST}")) if path.is_dir() else []
        if not inside:
            raise InputError(f"{path} is no bundle and holds none; make one with: dfqsam quantize -o {path}.")
        found.extend(inside)
    return found or [shipped_bundle()]


def _full(bundle: Bundle, reference: Path | None) -> tuple[Bundle | None, str]:
    """The bundle that holds the full-precision model of ``bundle``, or why there is none."""
    if all(name in bundle.manifest.files for name in FULL):
        return bundle, ""
    if reference is None:
        return None, (
            "This bundle holds no full-precision model to compare with; "
            "make one with dfqsam quantize --with-full-precision and name it with --reference."
        )
    try:
        return open_models(bundle.path, reference).reference, ""
    except (InputError, BundleError) as error:
        return None, str(error)


class Library:
    """All bundles of a viewer. Files are verified here; sessions of ONNX Runtime are made when first needed."""

    def __init__(self, settings: Settings, limit: int | None = None) -> None:
        """Open the bundles.

        Raises:
            BundleError: when one is damaged.
            InputError: when a path holds none.
        """
        self.cache = EmbeddingCache() if limit is None else EmbeddingCache(limit)
        encoding = Turns()
        full: dict[object, Model] = {}
        choices: dict[str, Choice] = {}
        for path in bundle_folders(settings.bundles):
            bundle = open_bundle(path)
            holder, why = _full(bundle, settings.reference)
            reference = None
            if holder is not None:
                manifest = holder.manifest
                key = (*(manifest.files[name].sha256 for name in FULL), manifest.prompts, manifest.model)
                reference = full.setdefault(key, Model(holder, True, self.cache, encoding))
            name = f"{bundle.manifest.model.title} {bundle.manifest.profile}"
            name = name if name not in choices else f"{name} ({bundle.sha256[:8]})"
            choices[name] = Choice(name, Model(bundle, False, self.cache, encoding), reference, why)
        self.choices = choices


class Ahead:
    """Work done ahead in one background thread: of each session only what it asked for last, and never twice."""

    def __init__(self) -> None:
        self._wanted: dict[str, tuple[Callable[[], object], ...]] = {}
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="dfqsam-ahead", daemon=True).start()

    def ask(self, session: str, *steps: Callable[[], object]) -> None:
        """Do ``steps`` soon, in place of what this session asked for before; of that, a step that has begun is done."""
        with self._changed:
            self._wanted[session] = steps
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._wanted:
                    self._changed.wait()
                session = next(iter(self._wanted))
                steps = self._wanted.pop(session)
            for step in steps:
                if session in self._wanted:
                    break
                try:
                    step()
                except Exception:  # the session meets the same error when it needs the result, and shows it
                    break


_lock = threading.Lock()
_made: dict[Settings, tuple[Library, Ahead]] = {}


def shared(settings: Settings) -> tuple[Library, Ahead]:
    """The library of the process, and what works ahead for it; made on the first call.

    Raises:
        BundleError: as :class:`Library`.
        InputError: as :class:`Library`.
    """
    with _lock:
        if settings not in _made:
            _made[settings] = (Library(settings), Ahead())
        return _made[settings]
