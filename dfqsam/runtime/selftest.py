"""What a bundle must compute on the device at hand: a picture, and what came of it where the bundle was made.

Rounding makes a deep network chaotic: two correct processors differ by a few percent in single values of an embedding,
and by far less in means over parts of the picture, in which flips of single codes cancel out. A kernel that is wrong
(saturating sums, a block of weights left out) moves the means. So means are compared, and a mask.
"""

from __future__ import annotations

import io
import os
import threading
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dfqsam.bundle import SELF_TEST, Bundle
from dfqsam.errors import BundleError
from dfqsam.runtime.predictor import THRESHOLD, Predictor
from dfqsam.runtime.sessions import ERRORS_ONLY

PARTS = 4  # an embedding is averaged over so many parts each way
FLOOR = 0.01  # of the limit; processors sum floats in orders of their own
MARGIN = 5.0  # times what graph optimization alone changes
DICE = 0.95
SKIP = "DFQSAM_SKIP_SELF_TEST"
_FIELDS = {"picture": 3, "means": 3, "mask": 2, "limit": 0}


@dataclass(frozen=True)
class SelfTest:
    """A picture and what must come of it.

    Attributes:
        picture: h x w x 3, uint8, longest side as the encoder's input.
        means: 256 x PARTS x PARTS, of the embedding.
        mask: 4E x 4E of bool, what the decoder gives for a box (or a point) in the middle of the picture.
        limit: the largest relative difference (L2) of the means that passes.
    """

    picture: NDArray[np.uint8]
    means: NDArray[np.float32]
    mask: NDArray[np.bool_]
    limit: float

    def to_bytes(self) -> bytes:
        """The file of a bundle; the same content gives the same bytes."""
        file = io.BytesIO()
        np.savez_compressed(file, picture=self.picture, means=self.means, mask=self.mask, limit=np.float64(self.limit))
        return file.getvalue()

    @classmethod
    def of(cls, bundle: Bundle) -> SelfTest | None:
        """That of a bundle; None where it has none.

        Raises:
            BundleError: when the file is not as :meth:`to_bytes` writes it.
        """
        if SELF_TEST not in bundle.manifest.files:
            return None
        try:
            with np.load(io.BytesIO(bundle.read(SELF_TEST)), allow_pickle=False) as file:
                found = {name: file[name] for name in _FIELDS}
        except Exception as error:  # numpy, zipfile and zlib each raise classes of their own
            raise BundleError(f"{bundle.path / SELF_TEST} is no self-test; the bundle is damaged.") from error
        arrays = all(isinstance(value, np.ndarray) and value.dtype.kind in "biuf" for value in found.values())
        if not arrays or any(found[name].ndim != dimensions for name, dimensions in _FIELDS.items()):
            raise BundleError(f"{bundle.path / SELF_TEST} holds arrays of other shapes; the bundle is damaged.")
        return cls(found["picture"], found["means"], found["mask"], float(found["limit"]))


@dataclass(frozen=True)
class SelfTestReport:
    """What :func:`self_test` found: relative difference of the means and its limit, and Dice of the masks (0 to 1)."""

    error: float
    limit: float
    dice: float

    @property
    def passed(self) -> bool:
        return self.error <= self.limit and self.dice >= DICE

    def require(self) -> None:
        """Lets a device through that computes what it must.

        Raises:
            BundleError: in one sentence, where it does not.
        """
        if not self.passed:
            raise BundleError(
                f"This device computes wrong results: the self-test of the bundle differs by {self.error:.3f} (at most "
                f"{self.limit:.3f}) and its mask agrees at Dice {self.dice:.3f} (at least {DICE}); do not use the "
                f"bundle here, and report the processor and onnxruntime {onnxruntime.__version__}."
            )


def self_test(predictor: Predictor) -> SelfTestReport | None:
    """Runs the self-test of a predictor's bundle on this device; None where the bundle has none. The picture that was
    set is forgotten.

    Raises:
        BundleError: when the file of the self-test is damaged.
    """
    test = SelfTest.of(predictor.bundle)
    if test is None:
        return None
    means, mask = _run(predictor, test.picture)
    if mask.shape != test.mask.shape or test.mask.dtype != np.bool_:
        raise BundleError(f"{predictor.bundle.path / SELF_TEST} holds a mask of another form; the bundle is damaged.")
    both = int(mask.sum()) + int(test.mask.sum())
    dice = 2 * int((mask & test.mask).sum()) / both if both else 1.0
    return SelfTestReport(difference(means, test.means), test.limit, dice)


_once = threading.Lock()
_passed: set[str] = set()


def require_right_results(predictor: Predictor) -> None:
    """Runs the self-test of a predictor's bundle, once a process and bundle; lets it through where there is none, or
    where ``DFQSAM_SKIP_SELF_TEST`` says so (``--skip-self-test``).

    Raises:
        BundleError: where this device computes something else than it must, or the self-test is damaged.
    """
    if os.environ.get(SKIP, "") not in ("", "0"):
        return
    identity = predictor.bundle.sha256
    with _once:  # who comes meanwhile waits for the result
        if identity in _passed:
            return
        report = self_test(predictor)
        if report is not None:
            report.require()
        _passed.add(identity)


def make_self_test(bundle: Bundle, picture: NDArray[np.uint8]) -> SelfTest:
    """What ``bundle`` computes here for ``picture`` (h x w x 3, longest side as the encoder's input).

    The limit follows from what other orders of sums change: the graph as it is written against the optimized one.
    """
    means, mask = _run(Predictor(bundle), picture)
    plain = part_means(_without_optimization(bundle.read("encoder.onnx"), picture))
    return SelfTest(picture, means, mask, max(FLOOR, MARGIN * difference(plain, means)))


def _run(predictor: Predictor, picture: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    predictor.set_image(picture)
    height, width = picture.shape[:2]
    if "box" in predictor.bundle.manifest.prompts:
        _, _, low = predictor.predict(box=[width / 4, height / 4, 3 * width / 4, 3 * height / 4])
    else:
        _, _, low = predictor.predict([[width / 2, height / 2]], [1])
    means = part_means(predictor.embedding)
    predictor.reset_image()
    return means, low[0] > THRESHOLD


def part_means(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 x C x E x E to C x PARTS x PARTS, means over parts of the grid as equal as can be.

    >>> part_means(np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8))[0, 0]
    array([ 4.5,  6.5,  8.5, 10.5], dtype=float32)
    """
    rows = [part.mean(1, dtype=np.float64) for part in np.array_split(embedding[0], PARTS, axis=1)]
    parts = [part.mean(1) for row in rows for part in np.array_split(row, PARTS, axis=1)]
    return np.stack(parts, 1).reshape(-1, PARTS, PARTS).astype(np.float32)


def difference(means: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Relative L2 difference; infinite where a value is not finite."""
    if means.shape != expected.shape or not np.isfinite(means).all():
        return float("inf")
    return float(np.linalg.norm(means - expected) / max(float(np.linalg.norm(expected)), 1e-12))


def _without_optimization(model: bytes, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The embedding of ``picture`` by ONNX Runtime's plainest kernels: other orders of sums, the same numbers else."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.asarray(plain.run(["embedding"], {"image": picture})[0])
