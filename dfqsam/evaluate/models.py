"""The two models that are compared: one bundle as it runs, and the full-precision graphs that it came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dfqsam.bundle import Bundle, open_bundle
from dfqsam.errors import BundleError, InputError
from dfqsam.runtime import Predictor

FULL = ("encoder_fp32.onnx", "decoder_fp32.onnx")


@dataclass(frozen=True)
class Models:
    """A quantized bundle, and the bundle that holds its model in full precision (it may be the same one)."""

    quantized: Bundle
    reference: Bundle

    def predictors(self) -> tuple[Predictor, Predictor]:
        """Full precision and quantized, fresh ones, on one thread each.

        ONNX Runtime splits sums by its threads; with one a session a figure is the same to the last bit, however many
        workers there are.
        """
        full = Predictor(self.reference, full_precision=True, threads=1)
        return full, Predictor(self.quantized, threads=1)


def open_models(bundle: Path, reference: Path | None = None) -> Models:
    """The bundle to be judged, and its model in full precision.

    Args:
        bundle: directory of the quantized bundle.
        reference: directory of a bundle of the same checkpoint with full-precision graphs; None for ``bundle``.

    Raises:
        BundleError: when a bundle is damaged.
        InputError: when there are no full-precision graphs, or they are of another model.
    """
    quantized = open_bundle(bundle)
    other = quantized if reference is None else open_bundle(reference)
    if any(name not in other.manifest.files for name in FULL):
        raise InputError(
            f"{other.path} has no full-precision graphs to compare with; make a bundle that has them with: "
            "dfqsam quantize CHECKPOINT -o FULL --with-full-precision, and name it with --reference FULL."
        )
    one, two = quantized.manifest.model, other.manifest.model
    if one.checkpoint_sha256 != two.checkpoint_sha256:
        raise InputError(f"{other.path} is of another checkpoint than {bundle}; give one made from the same.")
    if one.image_size != two.image_size:
        raise InputError(f"{other.path} sees {two.image_size} pixels and {bundle} {one.image_size}; they must agree.")
    if quantized.manifest.prompts != other.manifest.prompts:
        raise BundleError(f"{other.path} names other prompts than {bundle}; one of the two was altered.")
    return Models(quantized, other)
