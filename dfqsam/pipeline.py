"""quantize(checkpoint) -> bundle: the one place where the stages meet."""

from __future__ import annotations

import copy
import hashlib
import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfqsam import __version__
from dfqsam.bundle import Bundle, write_bundle
from dfqsam.bundle.write import check_target
from dfqsam.config import QuantConfig, SynthesisConfig
from dfqsam.errors import ParityError
from dfqsam.export.census import integer_kernels
from dfqsam.export.graphs import DecoderGraph, EncoderGraph
from dfqsam.export.parity import decoder_dice, encoder_parity, require_parity
from dfqsam.export.trace import export_decoder, export_encoder
from dfqsam.progress import stage
from dfqsam.quant.passes import quantizable, quantize_encoder, quantized_layers
from dfqsam.quant.rounding import round_weights
from dfqsam.sam.known import LITE_MEDSAM, get_model
from dfqsam.sam.model import Sam, load_sam
from dfqsam.synth.shapes import shapes
from dfqsam.synth.synthesize import steps, synthesize

LIBRARIES = ("torch", "onnx", "onnxruntime", "onnxscript", "numpy", "segment-anything")
STATEMENT = "Calibration images were made from the model and a seed alone; no image was read."


def quantize(
    checkpoint: Path | None,
    output: Path,
    *,
    profile: str = "w8a8",
    method: str = "shapes",
    images: int = 16,
    seed: int = 0,
    family: str | None = None,
    image_size: int | None = None,
    full_precision: bool = False,
) -> Bundle:
    """Quantizes the image encoder of a SAM and writes a bundle that runs without torch.

    Args:
        checkpoint: ``.pth`` or ``.safetensors``; None for LiteMedSAM.
        output: directory of the bundle; new, empty, or a bundle to be replaced.
        profile: see :data:`dfqsam.config.PROFILES`.
        method, images, seed: how calibration images are made; see :class:`dfqsam.config.SynthesisConfig`.
        family, image_size: see :func:`dfqsam.sam.model.load_sam`.
        full_precision: put the full-precision graphs beside the quantized ones, to compare.

    Raises:
        InputError, CheckpointError, BundleError: for what the user can mend.
        ParityError: when an exported graph does not compute what the model computes.
    """
    quantization, synthesis = QuantConfig.of(profile), SynthesisConfig(method, images, seed)
    check_target(output)
    with stage("Loading the checkpoint"):
        path = checkpoint or get_model("lite-medsam")
        sam = load_sam(path, family, image_size)
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest() if checkpoint else LITE_MEDSAM.sha256
    with stage(f"Making calibration images ({method})", steps(synthesis)) as advance:
        pictures = synthesize(sam, synthesis, advance)
    return build_bundle(sam, pictures, output, quantization, asdict(synthesis), digest, full_precision)


def build_bundle(
    sam: Sam,
    pictures: Tensor,
    output: Path,
    config: QuantConfig,
    calibration: dict[str, Any],
    checkpoint_hash: str,
    full_precision: bool = False,
) -> Bundle:
    """The second half of :func:`quantize`: from calibration images (N x 3 x S x S in [0, 1]) to a bundle.

    ``sam`` itself is left as it is.
    """
    size = sam.family.image_size
    files: dict[str, bytes] = {}
    parity: dict[str, Any] = {}
    if full_precision:
        with stage("Exporting the full-precision graphs"):
            graph = EncoderGraph(sam.encoder, sam.normalise)
            model = export_encoder(graph, size)
            error = encoder_parity(model, graph, probe(size)).end_to_end
            if not error <= 1e-3:
                raise ParityError(f"The exported full-precision encoder differs from the model by {error:.1e}.")
            parity["full_precision"] = error
            files["encoder_fp32.onnx"] = model.SerializeToString(deterministic=True)
            plain = export_decoder(DecoderGraph(sam.prompt_encoder, sam.mask_decoder), sam.grid)
            files["decoder_fp32.onnx"] = plain.SerializeToString(deterministic=True)

    sam = copy.deepcopy(sam)
    with stage("Quantizing the encoder", len(quantizable(sam.sites(), config))) as advance:
        batches = [sam.normalise(picture[None]) for picture in pictures]
        names = quantize_encoder(sam.encoder, sam.sites(), batches, len(batches), config, advance)
        round_weights(sam.prompt_encoder)
        round_weights(sam.mask_decoder)
    with stage("Exporting and checking the graphs"):
        graph = EncoderGraph(sam.encoder, sam.normalise)
        decoding = DecoderGraph(sam.prompt_encoder, sam.mask_decoder)
        encoder = export_encoder(graph, size)
        report = encoder_parity(encoder, graph, probe(size))
        decoder = export_decoder(decoding, sam.grid)
        dice = decoder_dice(decoder, decoding, report.embeddings, seed=0)
        require_parity(report, dice)
        parity |= {"lockstep": report.worst[1], "end_to_end": report.end_to_end, "mask_dice": dice}
        files["encoder.onnx"] = encoder.SerializeToString(deterministic=True)
        files["decoder.onnx"] = decoder.SerializeToString(deterministic=True)
        kernels = integer_kernels(files["encoder.onnx"])
        if kernels < len(names):
            raise ParityError(f"Only {kernels} of {len(names)} quantized layers run on integer kernels here.")

    layers = quantized_layers(sam.encoder)
    return write_bundle(
        output,
        files,
        model={
            "family": sam.family.name,
            "title": sam.family.title,
            "image_size": size,
            "checkpoint_sha256": checkpoint_hash,
            "licence": sam.family.licence,
        },
        preprocessing=sam.family.preprocessing.to_json(),
        prompts=sam.family.prompts,
        profile=config.profile,
        quantization={
            **asdict(config),
            "keep": list(config.keep),
            "quantized_layers": len(layers),
            "full_precision": "depthwise convolutions, attention products, " + ", ".join(config.keep),
            "decoder": "8-bit weights per output channel, computed in full precision",
            "parity": parity,
        },
        calibration=calibration,
        provenance={"images_read": 0, "statement": STATEMENT},
        versions={
            "dfqsam": __version__,
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
            **{name: metadata.version(name) for name in LIBRARIES},
        },
    )


def probe(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A drawn picture (3/4 size x size x 3) that no calibration set holds, to compare graphs on."""
    drawn = (shapes(1, size, seed=2**31 - 1)[0] * 255).byte().permute(1, 2, 0)
    return np.ascontiguousarray(drawn[: size * 3 // 4].numpy())
