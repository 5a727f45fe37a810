"""What ships with the package: a ready bundle of LiteMedSAM, the synthetic images that it was calibrated on, and the
measurement that decides how attention products are computed."""

from __future__ import annotations

import json
from pathlib import Path

SHIPPED = "lite-medsam-w8a8"
IMAGES = "lite-medsam-images"
PRODUCTS = "attention-products.json"


def shipped_bundle() -> Path:
    """The directory of the 8-bit LiteMedSAM bundle."""
    return Path(__file__).parent / SHIPPED


def attention_products() -> Path:
    """The JSON file that ``python -m dfqsam.bench.products --json`` has written."""
    return Path(__file__).parent / PRODUCTS


def shipped_images(checkpoint_sha256: str, image_size: int) -> Path | None:
    """The directory of the synthetic pictures of a checkpoint, known by its hash; None where there are none."""
    folder = Path(__file__).parent / IMAGES
    facts = folder / "provenance.json"
    if not facts.is_file():
        return None
    known = json.loads(facts.read_text())
    fits = known.get("checkpoint_sha256") == checkpoint_sha256 and known.get("image_size") == image_size
    return folder if fits else None
