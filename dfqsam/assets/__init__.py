"""What ships with the package: a ready bundle of LiteMedSAM, made by ``make asset``."""

from __future__ import annotations

from pathlib import Path

SHIPPED = "lite-medsam-w8a8"


def shipped_bundle() -> Path:
    """The directory of the 8-bit LiteMedSAM bundle."""
    return Path(__file__).parent / SHIPPED
