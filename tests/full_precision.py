"""LiteMedSAM in full precision beside the 8-bit graphs that ship, for tests that compare the two."""

from pathlib import Path

from dfqsam.assets import shipped_bundle
from dfqsam.bundle import Bundle, open_bundle, write_bundle
from dfqsam.export.graphs import DecoderGraph, EncoderGraph
from dfqsam.export.trace import export_decoder, export_encoder
from dfqsam.sam.known import get_model
from dfqsam.sam.model import load_sam


def shipped_with_full_precision(folder: Path) -> Bundle:
    """The shipped bundle with the full-precision graphs added, written to ``folder``."""
    sam = load_sam(get_model("lite-medsam"))
    encoder = export_encoder(EncoderGraph(sam.encoder, sam.normalise), sam.family.image_size, plain=True)
    decoder = export_decoder(DecoderGraph(sam.prompt_encoder, sam.mask_decoder), sam.grid)
    shipped = open_bundle(shipped_bundle())
    manifest = shipped.manifest
    files = {name: shipped.read(name) for name in manifest.files}
    files["encoder_fp32.onnx"] = encoder.SerializeToString(deterministic=True)
    files["decoder_fp32.onnx"] = decoder.SerializeToString(deterministic=True)
    return write_bundle(
        folder,
        files,
        model=vars(manifest.model),
        preprocessing=manifest.preprocessing,
        prompts=manifest.prompts,
        profile=manifest.profile,
        quantization=manifest.quantization,
        calibration=manifest.calibration,
        provenance=manifest.provenance,
        versions=manifest.versions,
    )
