"""quantize(checkpoint) -> bundle: the one place where the stages meet."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dfqsam.assemble import build_bundle
from dfqsam.assets import shipped_images
from dfqsam.bundle import Bundle
from dfqsam.bundle.manifest import MAX_FILE_BYTES
from dfqsam.bundle.write import check_target
from dfqsam.config import SIZE_ONLY, QuantConfig, SynthesisConfig
from dfqsam.errors import InputError
from dfqsam.memory import keep_freed_memory
from dfqsam.mixed import agreeing, full_precision_bytes, settled_bits, within
from dfqsam.progress import stage
from dfqsam.quant.sensitivity import chart, markdown, sensitivity
from dfqsam.sam.known import LITE_MEDSAM, get_model
from dfqsam.sam.model import Sam, load_sam
from dfqsam.synth.shapes import shapes
from dfqsam.synth.synthesize import settled, steps, synthesize
from dfqsam.synth.synthetic_set import SyntheticSet


def quantize(
    checkpoint: Path | None,
    output: Path,
    *,
    profile: str = "w8a8",
    preset: str = "fast",
    block: int | None = None,
    target_bytes: int | None = None,
    target_agreement: float | None = None,
    synthesis: SynthesisConfig | None = None,
    integer_decoder: bool = False,
    calibration: Path | None = None,
    resynthesize: bool = False,
    work: Path | None = None,
    family: str | None = None,
    image_size: int | None = None,
    full_precision: bool = False,
) -> Bundle:
    """Quantizes the image encoder of a SAM and writes a bundle that runs without torch.

    Args:
        checkpoint: ``.pth`` or ``.safetensors``; None for LiteMedSAM.
        output: directory of the bundle; new, empty, or a bundle to be replaced.
        profile: a deployable one, see :data:`dfqsam.config.PROFILES`.
        preset: how long the quantized encoder is mended, see :data:`dfqsam.config.PRESETS`.
        block: inputs that share a scale in the profile ``w4-only``: 32 (the default), 64 or 128.
        target_bytes: what the encoder's file may take. Layers that matter most then get 8-bit weights and the others
            4, whatever the profile says of weights; its name ends in ``-mixed``.
        target_agreement: how far, 0 to 100, masks of random prompts must stay what they were on synthetic images kept
            out of every fit. As few layers as that takes then get 8-bit weights; the name ends in ``-mixed`` too.
        synthesis: how calibration images are made; None for the defaults. Where these come to DFQ-SAM, the images that
            ship with dfqsam serve if they are of this very checkpoint.
        integer_decoder: see :class:`dfqsam.config.QuantConfig`.
        calibration: a synthetic set that was made before, in place of ``synthesis``.
        resynthesize: make the images even where a shipped set would serve.
        work: where unfinished synthesis and reconstruction keep what they have, to go on after a stop.
        family, image_size: see :func:`dfqsam.sam.model.load_sam`.
        full_precision: put the full-precision graphs beside the quantized ones, to compare.

    Raises:
        InputError, CheckpointError, BundleError: for what the user can mend.
        ParityError: when an exported graph does not compute what the model computes.
    """
    quantization = replace(deployable(profile, preset, block), integer_decoder=integer_decoder)
    if target_bytes is not None and target_agreement is not None:
        raise InputError("A size and an agreement were asked for; give one of them.")
    if quantization.block is not None and (target_bytes is not None or target_agreement is not None):
        raise InputError(f"All layers of {profile} have 4 bits, none of them 8; leave the target out, or take w4a8.")
    check_target(output)
    keep_freed_memory()
    with stage("Loading the checkpoint"):
        sam, digest = load(checkpoint, family, image_size)
    if full_precision:
        require_one_file(sam)
    images, source = calibration_images(sam, digest, synthesis, calibration, resynthesize, work)
    pictures = list(images.images)
    target: dict[str, float] = {}
    made = None
    if target_bytes is not None:
        target = {"encoder_bytes": target_bytes}
        quantization = replace(within(sam, pictures, quantization, target_bytes), profile=f"{profile}-mixed")
    elif target_agreement is not None:
        made, found = agreeing(sam, pictures, quantization, target_agreement, work)
        target = {"agreement": target_agreement, "found": round(found, 2)}
        quantization = replace(made.config, profile=f"{profile}-mixed")
    else:
        quantization = settled_bits(sam, pictures, quantization)
    bundle = build_bundle(sam, images, output, quantization, source, digest, full_precision, target, work, made)
    if work is not None:
        shutil.rmtree(work, ignore_errors=True)
    return bundle


def make_images(
    checkpoint: Path | None,
    output: Path,
    config: SynthesisConfig,
    family: str | None = None,
    image_size: int | None = None,
) -> SyntheticSet:
    """Calibration images for a checkpoint (None for LiteMedSAM), written to ``output`` with provenance and a sheet.

    Finished batches are kept beside ``output`` until the set is whole, so that a stopped run goes on.

    Raises:
        InputError, CheckpointError: for what the user can mend.
    """
    keep_freed_memory()
    with stage("Loading the checkpoint"):
        sam, digest = load(checkpoint, family, image_size)
    config = settled(sam, config)
    work = output.with_name(f".{output.name}.work")
    with stage(f"Making calibration images ({config.method})", steps(sam, config)) as advance:
        made = synthesize(sam, config, advance, work)
    made.provenance["checkpoint_sha256"] = digest
    made.save(output)
    shutil.rmtree(work, ignore_errors=True)
    return made


def measure_sensitivity(checkpoint: Path, folder: Path, bits: int, images: int) -> list[dict[str, Any]]:
    """The embedding error of every site quantized alone, on drawn pictures; a table and a chart in ``folder``."""
    keep_freed_memory()
    sam, _ = load(checkpoint)
    sites = sam.sites()
    with stage(f"Quantizing one site at a time ({bits} bits)", len(sites)) as advance:
        batch = sam.normalise(shapes(images, sam.family.image_size, seed=0))
        found = sensitivity(sam.encoder, sites, batch, bits, advance)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sensitivity.md").write_text(markdown(found))
    chart(found, folder / "sensitivity.png", f"{sam.family.title}: embedding error with one site at {bits} bits")
    return [asdict(site) for site in found]


def require_one_file(sam: Sam) -> None:
    """Raises InputError where the encoder in full precision is too large for the one file that a graph has to be."""
    taken = full_precision_bytes(sam.encoder)
    if taken > MAX_FILE_BYTES:
        raise InputError(
            f"In full precision the encoder of {sam.family.title} takes {taken / 1e9:.1f} GB, and an ONNX file holds 2 "
            "GiB; quantize it without --with-full-precision."
        )


def deployable(profile: str, preset: str = "fast", block: int | None = None) -> QuantConfig:
    """The settings of a profile that kernels exist for.

    Args:
        block: of weights, for the profile that has them; None for its default.

    Raises:
        InputError: for an unknown one, and for the paper's full settings, which can only be simulated.
    """
    config = QuantConfig.of(profile, preset)
    if block is not None:
        if config.block is None:
            raise InputError(f"{profile} has a scale a channel and no blocks; leave them out, or take {SIZE_ONLY}.")
        config = replace(config, block=block)
    if not config.deployable:
        raise InputError(
            f"{profile} is the paper's full setting, which no device computes: the attention products have no integer "
            f"kernel. Choose {profile.lower()} for a bundle, or measure {profile} with: dfqsam experiment."
        )
    return config


def load(checkpoint: Path | None, family: str | None = None, image_size: int | None = None) -> tuple[Sam, str]:
    """A model, LiteMedSAM where no checkpoint is named, and the SHA-256 of the file that its authors published."""
    path = checkpoint or get_model("lite-medsam")
    sam = load_sam(path, family, image_size)
    if checkpoint is None:
        return sam, LITE_MEDSAM.sha256
    with open(path, "rb") as file:
        return sam, hashlib.file_digest(file, "sha256").hexdigest()


def calibration_images(
    sam: Sam,
    digest: str,
    synthesis: SynthesisConfig | None = None,
    calibration: Path | None = None,
    resynthesize: bool = False,
    work: Path | None = None,
) -> tuple[SyntheticSet, dict[str, Any]]:
    """Calibration images, and what a manifest says of them. Arguments as those of :func:`quantize`."""
    config = settled(sam, synthesis or SynthesisConfig())
    default = SynthesisConfig("dfqsam")
    shipped = shipped_images(digest, sam.family.image_size) if config in (default, default.quick()) else None
    if calibration is not None:
        images, origin = SyntheticSet.load(calibration), "a synthetic set that was made before"
        if images.images.shape[-1] != sam.family.image_size:
            raise InputError(
                f"The synthetic set {calibration} has images of {images.images.shape[-1]} px; "
                f"this model takes {sam.family.image_size}."
            )
    elif shipped is not None and not resynthesize:
        images, origin = SyntheticSet.load_pictures(shipped), "the synthetic set that ships with dfqsam"
    else:
        with stage(f"Making calibration images ({config.method})", steps(sam, config)) as advance:
            images, origin = synthesize(sam, config, advance, work), "made for this bundle"
    provenance = images.provenance
    prior = provenance.get("prior", {"kind": "none"})
    return images, {**provenance["settings"], "origin": origin, "prior": prior, "sha256": images.sha256}
