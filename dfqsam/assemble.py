"""The second half of :func:`dfqsam.pipeline.quantize`: from a model and calibration images to a bundle."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dfqsam import __version__
from dfqsam.bundle import SELF_TEST, Bundle, write_bundle
from dfqsam.bundle.manifest import REQUIRED_FILES
from dfqsam.bundle.preflight import check_graph
from dfqsam.bundle.records import record_files
from dfqsam.bundle.write import check_target
from dfqsam.config import QuantConfig
from dfqsam.errors import InputError, ParityError
from dfqsam.export.attention import choose_products, decision, whole_on_integers
from dfqsam.export.census import kernels, require_kernels
from dfqsam.export.graphs import DecoderGraph, EncoderGraph
from dfqsam.export.parity import decoder_dice, encoder_parity, require_parity
from dfqsam.export.trace import export_decoder, export_encoder
from dfqsam.mended import Mended, mended
from dfqsam.progress import stage
from dfqsam.quant.budget import stored_bytes
from dfqsam.quant.decoder import decoder_linears, quantize_decoder
from dfqsam.quant.encoder import quantizable, quantized_layers
from dfqsam.quant.heldout import few
from dfqsam.quant.layers import require_on_grid
from dfqsam.quant.rounding import round_weights
from dfqsam.quant.values import fold_into_values
from dfqsam.runtime.selftest import make_self_test
from dfqsam.sam.model import Sam
from dfqsam.synth.shapes import shapes
from dfqsam.synth.synthetic_set import SyntheticSet

LIBRARIES = ("torch", "onnx", "onnxruntime", "onnxscript", "numpy", "segment-anything")
FLOAT_DECODER = "8-bit weights per output channel, computed in full precision"
TEACHING = ("decoder", "distillation")  # passes that change the decoder
TAUGHT = "; taught to read the quantized encoder's embeddings, by synthetic images alone"
INTEGER_DECODER = "8-bit weights per output channel, 8-bit activations in the transformer"
STATEMENT = "Calibration images were made from the model and a seed alone; no image was read."
FOREIGN = "Calibration images were made from the model, a seed and a foreign segmentation network; no image was read."


def build_bundle(
    sam: Sam,
    images: SyntheticSet,
    output: Path,
    config: QuantConfig,
    calibration: dict[str, Any],
    checkpoint_hash: str,
    full_precision: bool = False,
    target: Mapping[str, float] | None = None,
    work: Path | None = None,
    made: Mended | None = None,
) -> Bundle:
    """Quantizes, mends, exports, checks and writes; ``sam`` itself is left as it is.

    Args:
        output: folder of the bundle.
        calibration: what the manifest says of ``images``.
        checkpoint_hash: SHA-256 of the file that the model came from.
        full_precision, work: see :func:`dfqsam.pipeline.quantize`.
        target: what the bits of layers were chosen for, and what the manifest says of it: ``encoder_bytes`` that the
            file may take, or the ``agreement`` that was asked for and the one that was ``found``; None for nothing.
        made: what ``config`` and ``images`` have made of ``sam`` already, changed here in place; None to make it.

    Raises:
        InputError: where the encoder takes more than ``encoder_bytes``.
        ParityError: when an exported graph does not compute what the model computes.
    """
    size = sam.family.image_size
    files: dict[str, bytes] = {}
    parity: dict[str, Any] = {}
    if full_precision:
        with stage("Exporting the full-precision graphs"):
            graph = EncoderGraph(sam.encoder, sam.normalise)
            model = export_encoder(graph, size, plain=True)
            error = encoder_parity(model, graph, probe(size)).end_to_end
            if not error <= 1e-3:
                raise ParityError(f"The exported full-precision encoder differs from the model by {error:.1e}.")
            parity["full_precision"] = error
            files["encoder_fp32.onnx"] = model.SerializeToString(deterministic=True)
            plain = export_decoder(DecoderGraph(sam.prompt_encoder, sam.mask_decoder), sam.grid)
            files["decoder_fp32.onnx"] = plain.SerializeToString(deterministic=True)

    names = [site.name for site in quantizable(sam.sites(), config)]
    made = made or mended(sam, list(images.images), config, work=work)
    sam = made.sam
    fold_into_values(sam.encoder)
    if config.block is None:
        choose_products(sam.encoder)
    require_on_grid(sam.encoder)
    if config.integer_decoder:
        with stage("Quantizing the decoder", len(decoder_linears(sam.mask_decoder))) as advance:
            embeddings = [sam.encoder(batch) for batch in few(made.batches)[0]]
            sam.mask_decoder = quantize_decoder(sam.prompter, embeddings, config.rows, advance=advance)
        require_on_grid(sam.mask_decoder)
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
        taken, allowed = len(files["encoder.onnx"]), (target or {}).get("encoder_bytes")
        if allowed is not None and taken > allowed:
            raise InputError(f"The encoder takes {taken} bytes, more than the {allowed} that it may; allow more.")
        require_kernels(kernels(files["encoder.onnx"]), names, config.block)

    layers = quantized_layers(sam.encoder)
    write = partial(
        write_bundle,
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
            "layer_bits": {name: bits for name, bits in config.layer_bits},
            "layer_bytes": {name: stored_bytes(layers[name].origin, bits) for name, bits in config.layer_bits},
            "quantized_layers": len(layers),
            "target": dict(target) if target else None,
            "changed_by_pass": made.changed,
            "full_precision": full_precision_parts(config, whole_on_integers(sam.encoder)),
            "attention_products": decision(sam.encoder, size),
            "decoder": decoder_parts(config, any(made.changed.get(name) for name in TEACHING)),
            "parity": parity,
        },
        calibration=calibration,
        provenance={
            "images_read": 0,
            "statement": FOREIGN if calibration.get("prior", {}).get("kind") == "external" else STATEMENT,
        },
        versions={
            "dfqsam": __version__,
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
            **{name: metadata.version(name) for name in LIBRARIES},
        },
    )
    for name, data in files.items():  # devices refuse what does not pass
        check_graph(data, name)
    folder = check_target(output)
    draft = folder.with_name(f".{folder.name}.draft")
    with stage("Recording the self-test"):
        try:
            bundle = write(draft, {name: files[name] for name in REQUIRED_FILES})
            files[SELF_TEST] = make_self_test(bundle, probe(size)).to_bytes()
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return write(output, files | record_files(bundle.manifest, files))


def full_precision_parts(config: QuantConfig, whole_on_integers: bool) -> str:
    """What a profile leaves in floating point, in words.

    Args:
        whole_on_integers: attention over the whole grid is computed on integers.
    """
    products = "attention products in windows" if whole_on_integers else "attention products"
    parts = [products, "LayerNorm, GELU and softmax", *config.keep]
    if config.block is not None:
        return ", ".join(["all activations", "convolutions other than 1x1", *parts])
    return ", ".join(["depthwise convolutions", *parts] if config.depthwise == "float" else parts)


def decoder_parts(config: QuantConfig, taught: bool) -> str:
    """What was done to the mask decoder, in words."""
    return (INTEGER_DECODER if config.integer_decoder else FLOAT_DECODER) + (TAUGHT if taught else "")


def probe(size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A drawn picture (3/4 size x size x 3) that no calibration set holds, to compare graphs on."""
    drawn = (shapes(1, size, seed=2**31 - 1)[0] * 255).byte().permute(1, 2, 0)
    return np.ascontiguousarray(drawn[: size * 3 // 4].numpy())
