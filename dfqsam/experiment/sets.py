"""The calibration set of each source: made, kept and found again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from dfqsam.config import SynthesisConfig
from dfqsam.errors import InputError
from dfqsam.experiment.cases import training_pictures
from dfqsam.experiment.rows import synthesis_of
from dfqsam.progress import stage
from dfqsam.sam.model import Sam
from dfqsam.synth.synthesize import steps, synthesize
from dfqsam.synth.synthetic_set import SyntheticSet


def calibration_images(
    sam: Sam, row: str, images: int, seed: int, sets: Path, data: Path, shipped: Path | None = None
) -> list[Tensor]:
    """The calibration set of a row: tensors 3 x h x w in [0, 1], longest side S.

    A synthetic set is kept as ``sets/ROW-SEED`` and taken from there the next time; real pictures are copied nowhere.

    Args:
        data: folder of the real pictures; no other row looks into it.
        shipped: folder of pictures that were formed from this very checkpoint; taken where they are what is asked for.

    Raises:
        InputError: for an unknown row, or when a kept set was made with other settings.
    """
    config = synthesis_of(row, images, seed)
    if config is None:
        return training_pictures(data, images, seed, sam.family.image_size)
    path = sets / f"{row}-{seed}"
    if path.exists():
        kept = SyntheticSet.load(path)
        if kept.provenance.get("settings") != json.loads(json.dumps(asdict(config))):
            raise InputError(f"{path} was made with other settings; start in another folder.")
        return list(kept.images)
    if shipped is not None and config == SynthesisConfig("dfqsam"):
        return list(SyntheticSet.load_pictures(shipped).images)
    with stage(f"Making calibration images ({row}, seed {seed})", steps(sam, config)) as advance:
        made = synthesize(sam, config, advance, sets / "unfinished")
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save(path)
    return list(made.images)
