"""What a manifest says, in words for people. The manifest itself is for scripts."""

from __future__ import annotations

from typing import Any

from dfqsam.bundle.manifest import Manifest

UNKNOWN = "not recorded"


def facts(manifest: Manifest) -> dict[str, str]:
    """Name to one or more lines, in the order in which people ask. What a manifest leaves out is left out or said to be
    unknown; of settings it may hold anything, and nothing in them makes this fail."""
    model, settings, prompts = manifest.model, manifest.quantization, " and ".join(manifest.prompts)
    rows = {
        "model": f"{model.title} ({model.family}), {model.image_size} px, trained on {prompts} prompts",
        "licence of the weights": model.licence,
        "profile": _profile(manifest),
        "layers": layers(manifest),
        "target": _target(settings.get("target")),
        "in floating point": str(settings.get("full_precision", UNKNOWN)),
        "mask decoder": str(settings.get("decoder", UNKNOWN)),
        "parts mended": _mended(settings.get("changed_by_pass")),
        "calibration": _calibration(manifest.calibration),
        "provenance": str(manifest.provenance.get("statement", UNKNOWN)),
        "checked when made": _checked(settings.get("parity")),
        "made with": ", ".join([manifest.created_by, *_versions(manifest.versions)]),
        "files": "\n".join(f"{name}  {size(record.bytes)}" for name, record in manifest.files.items()),
        "checkpoint, SHA-256": model.checkpoint_sha256,
        "bundle, SHA-256": manifest.sha256,
    }
    return {name: text for name, text in rows.items() if text}


def size(count: float) -> str:
    """Bytes as people read them, in powers of ten.

    >>> size(3783967), size(45105)
    ('3.8 MB', '45 kB')
    """
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.0f} kB"


def layers(manifest: Manifest) -> str:
    """How many layers are quantized, and which have other bits than the profile says, with their bytes; empty where
    nothing is recorded."""
    settings = manifest.quantization
    count, bits, taken = (settings.get(name) for name in ("quantized_layers", "layer_bits", "layer_bytes"))
    if not isinstance(count, int):
        return ""
    bits, taken = (value if isinstance(value, dict) else {} for value in (bits, taken))
    text = f"{count} quantized"
    for other in sorted({value for value in bits.values() if isinstance(value, int)}):
        names = [name for name, value in bits.items() if value == other]
        weight = sum(_number(taken.get(name)) or 0.0 for name in names)
        text += f", {len(names)} of them with {other} bits ({size(weight)})"
    return text


def _number(value: Any) -> float | None:
    """``value`` where it is a number that a float can hold."""
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None


def _profile(manifest: Manifest) -> str:
    weights, activations, block = (
        manifest.quantization.get(name) for name in ("weight_bits", "activation_bits", "block")
    )
    if not isinstance(weights, int):
        return manifest.profile
    blocks = f" in blocks of {block}" if isinstance(block, int) else ""
    rest = f"{activations} bits" if isinstance(activations, int) else "in floating point"
    return f"{manifest.profile}: weights {weights} bits{blocks}, activations {rest}"


def _target(target: Any) -> str:
    if not isinstance(target, dict):
        return ""
    allowed, asked, found = (_number(target.get(name)) for name in ("encoder_bytes", "agreement", "found"))
    if allowed is not None:
        return f"an encoder of at most {size(allowed)}"
    if asked is not None and found is not None:
        return f"masks that agree by {asked:g} on synthetic images kept out of the fit; {found:g} were reached"
    return ""


def _mended(changed: Any) -> str:
    if not isinstance(changed, dict):
        return ""
    return ", ".join(f"{name} {count}" for name, count in changed.items() if count)


def _calibration(settings: dict[str, Any]) -> str:
    count, origin = settings.get("images", "?"), settings.get("origin", "of unknown origin")
    method, seed = settings.get("method"), settings.get("seed")
    return f"{count} images, {origin}" + (f" (method {method}, seed {seed})" if method is not None else "")


def _versions(versions: dict[str, Any]) -> list[str]:
    return [f"{name} {version}" for name, version in versions.items() if name != "dfqsam"]


def _checked(parity: Any) -> str:
    found = parity if isinstance(parity, dict) else {}
    lockstep, dice = _number(found.get("lockstep")), _number(found.get("mask_dice"))
    if lockstep is None or dice is None:
        return ""
    return f"graph against model: every layer within {lockstep:.1e} (limit 1e-3), masks at Dice {dice:.4f} (0.999)"
