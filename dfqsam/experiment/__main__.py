"""Every deployable profile with every calibration method on LiteMedSAM: the bundles behind the README's table.

    python -m dfqsam.experiment FOLDER

Calibration images are made once a method. A bundle that is already there is kept, so that a run can be resumed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dfqsam.config import METHODS, PROFILES, QuantConfig, SynthesisConfig
from dfqsam.pipeline import build_bundle, calibration_images
from dfqsam.sam.known import LITE_MEDSAM, get_model
from dfqsam.sam.model import load_sam


def write_bundles(folder: Path) -> None:
    """Writes ``METHOD-PROFILE`` bundles below ``folder``; those of w8a8 hold the full-precision graphs too."""
    sam = load_sam(get_model("lite-medsam"))
    folder.mkdir(parents=True, exist_ok=True)
    for method in METHODS:
        wanted = {name: folder / f"{method}-{name}" for name in PROFILES}
        missing = {name: path for name, path in wanted.items() if not path.exists()}
        if not missing:
            continue
        images, source = calibration_images(sam, LITE_MEDSAM.sha256, SynthesisConfig(method))
        for name, path in missing.items():
            config = QuantConfig.of(name)
            build_bundle(sam, images, path, config, source, LITE_MEDSAM.sha256, name == "w8a8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python -m dfqsam.experiment FOLDER")
    write_bundles(Path(sys.argv[1]))
