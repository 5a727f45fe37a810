"""Prompted segmentation with a bundle; the methods are those of segment_anything's ``SamPredictor``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfqsam.bundle import Bundle, open_bundle
from dfqsam.errors import InputError
from dfqsam.runtime.sessions import check_signature, open_graph
from dfqsam.sam import geometry, prompts

DECODER_INPUTS = ("embedding", "point_coords", "point_labels", "mask_input", "has_mask_input")
DECODER_OUTPUTS = ("low_res_logits", "iou_predictions")
THRESHOLD = 0.0
PLURALS = {"box": "boxes", "point": "points", "mask": "masks"}

Floats = NDArray[np.float32]


class Predictor:
    """A bundle made ready: ``set_image`` once a picture, ``predict`` once a prompt.

    >>> predictor = Predictor("my-bundle")  # doctest: +SKIP
    >>> predictor.set_image(picture)  # doctest: +SKIP
    >>> masks, quality, logits = predictor.predict(box=[40, 60, 200, 180])  # doctest: +SKIP
    """

    def __init__(
        self,
        bundle: str | Path | Bundle,
        *,
        full_precision: bool = False,
        threads: int | None = None,
        force_prompts: bool = False,
        check_device: bool = True,
    ) -> None:
        """Verify the bundle, load its two graphs, and see that this device computes what it must.

        Args:
            bundle: a bundle's directory, or one already opened.
            full_precision: run the full-precision graphs, where the bundle has them, to compare.
            threads: of ONNX Runtime, at least 1; None for one a core.
            force_prompts: accept kinds of prompt that the model was not trained on.
            check_device: run the bundle's self-test first, once a process and bundle; it is of the quantized graphs, so
                that full precision goes without.

        Raises:
            BundleError: when the bundle is incomplete or altered, was signed by nobody whom this site trusts, has no
                such graphs, does not load, or when this device's kernels give wrong results.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        self._force = force_prompts
        suffix = "_fp32" if full_precision else ""
        encoder, decoder = f"encoder{suffix}.onnx", f"decoder{suffix}.onnx"
        self._encoder = open_graph(self.bundle, encoder, threads)
        check_signature(self._encoder, ("image",), ("embedding",), encoder)
        self._decoder = open_graph(self.bundle, decoder, threads)
        check_signature(self._decoder, DECODER_INPUTS, DECODER_OUTPUTS, decoder)
        self.reset_image()
        if check_device and not full_precision:
            from dfqsam.runtime.selftest import require_right_results  # which knows the predictor

            require_right_results(self)

    @property
    def image_size(self) -> int:
        """Side of the square that the encoder sees, in pixels."""
        return self.bundle.manifest.model.image_size

    @property
    def is_image_set(self) -> bool:
        """Whether ``predict`` has a picture to work on."""
        return self._embedding is not None

    @property
    def embedding(self) -> Floats:
        """1 x 256 x E x E, of the picture that is set.

        Raises:
            InputError: when none is.
        """
        if self._embedding is None:
            raise InputError("No picture is set; call set_image first.")
        return self._embedding

    def reset_image(self) -> None:
        """Forget the picture."""
        self._embedding: Floats | None = None
        self._shape = (0, 0)

    def set_image(self, image: ArrayLike) -> None:
        """Encode a picture: H x W or H x W x 3 (RGB), uint8.

        Raises:
            InputError: for another shape or dtype, or an empty picture; the picture set before is forgotten.
        """
        self.reset_image()
        rgb = geometry.as_rgb(image)
        seen = geometry.resize_longest_side(rgb, self.image_size)
        (embedding,) = self._encoder.run(["embedding"], {"image": np.ascontiguousarray(seen)})
        self._embedding, self._shape = np.asarray(embedding), rgb.shape[:2]

    def set_embedding(self, embedding: Floats, shape: tuple[int, int]) -> None:
        """Go on with what :attr:`embedding` was for a picture of ``shape`` (height, width), without encoding it again.

        Raises:
            InputError: for anything but 1 x C x E x E finite numbers of float32, or an empty picture.
        """
        self.reset_image()
        values = np.asarray(embedding)
        square = values.ndim == 4 and len(values) == 1 and values.shape[2] == values.shape[3]
        if not square or values.dtype != np.float32 or not np.isfinite(values).all():
            raise InputError(f"The embedding has shape {values.shape}; give what a predictor's embedding was.")
        geometry.resized_shape(*shape, self.image_size)
        self._embedding, self._shape = values, (shape[0], shape[1])

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = False,
        return_logits: bool = False,
    ) -> tuple[NDArray[np.bool_] | Floats, Floats, Floats]:
        """Masks for one prompt on the picture that is set.

        Args:
            point_coords: N x 2, (x, y) in pixels of the picture.
            point_labels: N, 1 inside the object and 0 outside.
            box: x0, y0, x1, y1 in pixels of the picture.
            mask_input: 1 x h x w, the low-resolution logits of an earlier call.
            multimask_output: three masks (whole, part, sub-part) in place of one.
            return_logits: masks as logits, float32, in place of bool (logit > 0).

        Returns:
            masks M x H x W, predicted IoU M (about 0 to 1), low-resolution logits M x h x w; M is 1 or 3.

        Raises:
            InputError: no picture set, no prompt, a prompt of a wrong shape or outside the picture, or of a kind that
                the model was not trained on.
        """
        embedding = self.embedding
        coords, labels = self.check_prompt(self._shape, point_coords, point_labels, box, mask_input)
        feeds = {"embedding": embedding, "point_coords": coords, "point_labels": labels}
        feeds["mask_input"], feeds["has_mask_input"] = self._mask_tensors(mask_input)
        logits, quality = (np.asarray(value) for value in self._decoder.run(list(DECODER_OUTPUTS), feeds))
        chosen = slice(1, 4) if multimask_output else slice(0, 1)
        low, quality = logits[0, chosen], quality[0, chosen]
        masks = geometry.undo_on_logits(low, self._shape, self.image_size)
        return (masks if return_logits else masks > THRESHOLD), quality, low

    def check_prompt(
        self,
        shape: tuple[int, int],
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
    ) -> tuple[Floats, Floats]:
        """Refuses, as :meth:`predict` does, a prompt that is no good for a picture of ``shape`` (height, width), before
        anything is encoded; returns the decoder's point coordinates and labels."""
        given = {"box": box is not None, "point": point_coords is not None, "mask": mask_input is not None}
        self._check_kinds([kind for kind, present in given.items() if present])
        return prompts.prompt_tensors(shape, self.image_size, point_coords, point_labels, box)

    def _check_kinds(self, kinds: list[str]) -> None:
        manifest = self.bundle.manifest
        if not kinds:
            raise InputError("There is no prompt; give a box, points or a mask.")
        for kind in kinds:
            if kind not in manifest.prompts and not self._force:
                trained = " and ".join(PLURALS[known] for known in manifest.prompts)
                advice = "Draw a box" if "box" in manifest.prompts else f"Give {trained}"
                raise InputError(
                    f"{manifest.model.title} was trained on {trained} only; a {kind} gives worthless masks. "
                    f"{advice}, or pass force_prompts=True (--force) to try all the same."
                )

    def _mask_tensors(self, mask_input: ArrayLike | None) -> tuple[Floats, Floats]:
        """The decoder's ``mask_input`` [1, 1, 4E, 4E] and ``has_mask_input`` [1], for an embedding E x E."""
        side = 4 * self.embedding.shape[-1]
        if mask_input is None:
            return np.zeros((1, 1, side, side), np.float32), np.zeros(1, np.float32)
        try:
            mask = np.asarray(mask_input, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise InputError("The mask prompt must be plain numbers.") from error
        if mask.shape != (1, side, side) or not np.isfinite(mask).all():
            raise InputError(
                f"The mask prompt has shape {mask.shape}; give finite logits of an earlier call, 1 x {side} x {side}."
            )
        return mask[None], np.ones(1, np.float32)
