"""One entrance to every synthesis method: a model, settings and a seed in, a set of calibration images out."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dfqsam.config import SynthesisConfig
from dfqsam.sam.device import computing_on
from dfqsam.sam.model import Sam
from dfqsam.synth.batching import batches
from dfqsam.synth.dfqsam import LEARNING_RATE, WEIGHTS, Batch, Former
from dfqsam.synth.external import ExternalPrior
from dfqsam.synth.layouts import random_layouts
from dfqsam.synth.noise import noise
from dfqsam.synth.prior import SAMSelfPrior, SegmentationPrior
from dfqsam.synth.psaq import psaq
from dfqsam.synth.shapes import shapes
from dfqsam.synth.synthetic_set import Snapshot, SyntheticSet

TITLES = ("start", "middle", "end")
STATEMENT = "Made from the model and a seed alone; no image was read."


def settled(sam: Sam, config: SynthesisConfig) -> SynthesisConfig:
    """``config`` with a method in place of ``auto``; see :attr:`SynthesisConfig.method`."""
    if config.method != "auto":
        return config
    return replace(config, method="dfqsam" if sam.batch_norm else "shapes")


def steps(sam: Sam, config: SynthesisConfig) -> int:
    """How many steps :func:`synthesize` will report to ``advance``; ``config`` is :func:`settled`."""
    if config.method in ("psaq", "dfqsam"):
        return config.steps * len(list(batches(sam, config)))
    return config.images


def computed_by(device: torch.device) -> dict[str, Any]:
    """What formed images depend on besides settings and model, down to the last bit."""
    return {
        "device": device.type,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "processor": _processor(),
    }


def _processor() -> str:
    """The processor's name; libraries choose their kernels by it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def make_prior(sam: Sam, config: SynthesisConfig) -> SegmentationPrior:
    """The prior that evolves the labels: a foreign network where one is named, else the model itself."""
    if config.prior is not None:
        return ExternalPrior(Path(config.prior), config.prior_classes)
    return SAMSelfPrior(sam.prompt_encoder, sam.mask_decoder, sam.family.prompts, sam.family.image_size)


def synthesize(
    sam: Sam,
    config: SynthesisConfig,
    advance: Callable[..., object] = lambda *_, **__: None,
    work: Path | None = None,
) -> SyntheticSet:
    """Calibration images in [0, 1], config.images x 3 x S x S, with pseudo masks where the method has them.

    Args:
        config: :func:`settled`.
        advance: called after every step, with losses by name where there are any.
        work: a directory in which finished batches are kept, so that a run that was cut off goes on where it was and
            gives the same images; ``dfqsam`` only.

    Raises:
        InputError: for a prior that cannot be used.
    """
    size = sam.family.image_size
    provenance: dict[str, Any] = {
        "settings": asdict(config),
        "model": sam.family.name,
        "image_size": size,
        "statement": STATEMENT,
    }
    if config.method in ("dfqsam", "psaq"):
        with computing_on((sam.encoder, sam.prompt_encoder, sam.mask_decoder)) as device:
            provenance["computed_by"] = computed_by(device)
            if config.method == "dfqsam":
                return _form(sam, config, advance, work, provenance)
            images = psaq(sam, config, advance)
    else:
        images = {"noise": noise, "shapes": shapes}[config.method](config.images, size, config.seed)
        advance(config.images)
    nothing = torch.zeros_like(random_layouts(1, size, 0)).expand(config.images, -1, -1, -1).clone()
    return SyntheticSet.of(images, nothing, provenance, [])


def _form(
    sam: Sam, config: SynthesisConfig, advance: Callable[..., object], work: Path | None, provenance: dict[str, Any]
) -> SyntheticSet:
    prior = make_prior(sam, config)
    former = Former(sam, config, prior)
    done: list[Batch] = []
    identity = _key(sam, config, provenance["computed_by"])
    for index in batches(sam, config):
        batch = former.start(index)
        kept = None if work is None else work / f"batch-{identity}-{index.start:04d}.safetensors"
        if kept is not None and _restore(kept, batch):
            former.settle(batch)
            advance(config.steps)
        else:
            former.form(batch, advance)
            if kept is not None:
                _keep(kept, batch)
        done.append(batch)
    with torch.no_grad():
        images = torch.cat([batch.pyramid().cpu() for batch in done])
    provenance |= {
        "prior": prior.describe() if config.evolve else {"kind": "none"},
        "batch_norm_layers": len(former.statistics),
        "losses": [{"steps": b.steps, **{name: round(v, 4) for name, v in b.losses.items()}} for b in done],
    }
    shown = [batch.snapshots for batch in done if batch.snapshots]
    snapshots = [
        Snapshot(title, *(torch.cat([stages[i][part] for stages in shown]) for part in range(3)))
        for i, title in enumerate(TITLES)
    ]
    return SyntheticSet.of(images, torch.cat([batch.masks.cpu() for batch in done]), provenance, snapshots)


def _key(sam: Sam, config: SynthesisConfig, computed: dict[str, Any]) -> str:
    """Tells the work of other settings, of another checkpoint, of other weights of the terms or of another machine (see
    :func:`computed_by`) from this one's."""
    weights = hashlib.sha256()
    for _, value in sorted(sam.encoder.state_dict().items()):
        weights.update(value.detach().cpu().contiguous().numpy().tobytes())
    text = json.dumps([asdict(config), WEIGHTS, LEARNING_RATE, computed], sort_keys=True)
    return hashlib.sha256(weights.digest() + text.encode()).hexdigest()[:16]


def _keep(path: Path, batch: Batch) -> None:
    """Writes a finished batch under a name of its own until it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {f"pyramid.{k}": v.contiguous() for k, v in batch.pyramid.state_dict().items()}
    tensors["masks"] = batch.masks.contiguous()
    for i, stage in enumerate(batch.snapshots):
        for j, value in enumerate(stage):
            tensors[f"snapshot.{i}.{j}"] = value.contiguous()
    facts = {"steps": str(batch.steps), "losses": json.dumps(batch.losses)}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata=facts)
    partial.replace(path)


def _restore(path: Path, batch: Batch) -> bool:
    """Fills ``batch`` from a file of an earlier run; False where there is none or it is damaged."""
    if not path.is_file():
        return False
    try:
        tensors = load_file(path)
        batch.pyramid.load_state_dict({k.removeprefix("pyramid."): v for k, v in tensors.items() if "pyramid" in k})
        batch.masks = tensors["masks"].to(batch.masks.device)
        count = len({name.split(".")[1] for name in tensors if name.startswith("snapshot")})
        batch.snapshots = [tuple(tensors[f"snapshot.{i}.{j}"] for j in range(3)) for i in range(count)]  # type: ignore[misc]
        header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
        batch.steps = int(header["__metadata__"]["steps"])
        batch.losses = json.loads(header["__metadata__"]["losses"])
    except (SafetensorError, KeyError, RuntimeError, ValueError):
        return False
    return True
