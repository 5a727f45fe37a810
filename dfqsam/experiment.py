"""Every profile with every calibration method on LiteMedSAM: the bundles behind the README's table.

    python -m dfqsam.experiment FOLDER

Calibration images are made once a method. A bundle that is already there is kept, so that a run can be resumed.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

from dfqsam.config import METHODS, PROFILES, QuantConfig, SynthesisConfig
from dfqsam.pipeline import build_bundle
from dfqsam.progress import stage
from dfqsam.sam.known import LITE_MEDSAM, get_model
from dfqsam.sam.model import load_sam
from dfqsam.synth.synthesize import steps, synthesize


def run(folder: Path) -> None:
    """Writes ``METHOD-PROFILE`` bundles below ``folder``; those of w8a8 hold the full-precision graphs too."""
    sam = load_sam(get_model("lite-medsam"))
    folder.mkdir(parents=True, exist_ok=True)
    for method in METHODS:
        synthesis = SynthesisConfig(method)
        wanted = {name: folder / f"{method}-{name}" for name in PROFILES}
        missing = {name: path for name, path in wanted.items() if not path.exists()}
        if not missing:
            continue
        with stage(f"Making calibration images ({method})", steps(synthesis)) as advance:
            pictures = synthesize(sam, synthesis, advance)
        for name, path in missing.items():
            config = QuantConfig.of(name)
            build_bundle(sam, pictures, path, config, asdict(synthesis), LITE_MEDSAM.sha256, name == "w8a8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python -m dfqsam.experiment FOLDER")
    run(Path(sys.argv[1]))
