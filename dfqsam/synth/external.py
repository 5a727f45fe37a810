"""A foreign segmentation network as the prior: the role that a TransUNet plays in the paper."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from dfqsam.errors import InputError
from dfqsam.synth.prior import Candidate, fitting

LEAST_CONFIDENCE = 0.7
COMPONENTS = 2
"""Components kept of each class, the surest."""


class ExternalPrior:
    """A local TorchScript or ONNX network that maps B x 3 x h x w images in [0, 1] to B x K x h x w class logits.

    The pipeline is then free of the deployment's data, but no longer of all data: that network was trained on some.
    ``torch.jit.load`` runs the code graph that the file carries and unpickles no Python objects; it still runs what
    the file says, so use one that you trust.

    Args:
        path: ``.onnx``, or TorchScript under any other name.
        names: of the K classes, the background first.
        input_size: side that images are resized to before the network sees them; None for as they are.

    Raises:
        InputError: for a file that cannot be read, or fewer than two names.
    """

    def __init__(self, path: str | Path, names: Sequence[str], input_size: int | None = None) -> None:
        path = Path(path)
        if not path.is_file():
            raise InputError(f"There is no segmentation network {path}; give a TorchScript or ONNX file.")
        if len(names) < 2:
            raise InputError(f"Name the classes of {path.name}, the background first, with commas between.")
        self.names, self.input_size, self.file = tuple(names), input_size, path.name
        self.digest = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            self.run = _onnx(path) if path.suffix == ".onnx" else _script(path)
        except Exception as error:  # each library has errors of its own
            kind = type(error).__name__
            raise InputError(f"{path} is no TorchScript or ONNX network ({kind}); export it again.") from None

    def describe(self) -> dict[str, Any]:
        return {"kind": "external", "file": self.file, "sha256": self.digest, "classes": list(self.names)}

    @torch.no_grad()
    def propose(
        self, images: Tensor, embeddings: Tensor | None, masks: Tensor, generator: torch.Generator
    ) -> list[list[Candidate]]:
        """See :class:`SegmentationPrior`: per image and class, the components with the highest mean confidence.

        Raises:
            InputError: when the network does not take such images, or gives no plane for every class.
        """
        # One image at a time, since networks are often exported for a batch of one.
        return [self._regions(self._chances(image[None].cpu())) for image in images]

    def _chances(self, image: Tensor) -> Tensor:
        """The chances of the classes, K x S x S, for 1 x 3 x S x S."""
        shown = image
        if self.input_size:
            side = (self.input_size, self.input_size)
            shown = F.interpolate(image, side, mode="bilinear", align_corners=False)
        try:
            logits = self.run(shown.contiguous())
        except Exception as error:  # each library has errors of its own
            raise InputError(
                f"{self.file} cannot segment an image of the shape {tuple(shown.shape)} ({type(error).__name__}); "
                "export it for that shape or state its input size."
            ) from None
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if not isinstance(logits, Tensor) or logits.dim() != 4 or found[:2] != (1, len(self.names)):
            raise InputError(
                f"{self.file} gives {found} for one image; it must give 1 x {len(self.names)} x h x w, "
                "one plane for every named class."
            )
        return F.interpolate(logits.float(), image.shape[-2:], mode="bilinear", align_corners=False).softmax(1)[0]

    def _regions(self, chances: Tensor) -> list[Candidate]:
        found, winner = [], chances.argmax(0)
        for code, name in enumerate(self.names[1:], start=1):
            labelled: Any = ndimage.label((winner == code).numpy())
            labels, count = labelled
            regions = [torch.from_numpy(labels == label) for label in range(1, count + 1)]
            scored = [(float(chances[code][region].mean()), region) for region in regions if fitting(region)]
            for confidence, region in sorted(scored, key=lambda item: -item[0])[:COMPONENTS]:
                if confidence >= LEAST_CONFIDENCE:
                    found.append(Candidate(region, confidence, name))
        return found


def _script(path: Path) -> Callable[[Tensor], Tensor]:
    with warnings.catch_warnings():  # TorchScript is deprecated, and still what people have
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(str(path), map_location="cpu").eval()


def _onnx(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime as ort

    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0])
