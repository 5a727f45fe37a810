"""A training run on disk: a checkpoint that is whole at any moment, a log, and the weights to take away."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from dfqsam.errors import InputError
from dfqsam.sam.reference.settings import Settings

CHECKPOINT, LOG, WEIGHTS, CURVES = "training.pt", "log.jsonl", "model.safetensors", "curves.png"


def save(folder: Path, content: Mapping[str, Any]) -> None:
    """Replaces the checkpoint in one go: whoever is killed meanwhile finds the old one."""
    part = folder / f"{CHECKPOINT}.part"
    with open(part, "wb") as file:
        torch.save(dict(content), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, folder / CHECKPOINT)


def resume(folder: Path, settings: Settings) -> dict[str, Any] | None:
    """The checkpoint of a run with these settings, and its log cut to the same step; None where there is none.

    Raises:
        InputError: when the run was begun with other settings, or the checkpoint cannot be read.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        (folder / LOG).unlink(missing_ok=True)
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        before, step = content["settings"], int(content["step"])
    except Exception as error:  # torch raises whatever it stumbles over
        raise InputError(f"{path} cannot be read ({type(error).__name__}); remove {folder} to begin anew.") from None
    if before != asdict(settings):
        names = ", ".join(sorted(name for name, value in asdict(settings).items() if before.get(name) != value))
        raise InputError(f"{folder} holds a run with another {names}; go on as it began, or give another folder.")
    part = folder / f"{LOG}.part"
    part.write_text("".join(json.dumps(line) + "\n" for line in read_log(folder) if line["step"] <= step))
    os.replace(part, folder / LOG)
    return content


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of the log; one that a kill cut short is left out."""
    path, lines = folder / LOG, []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def add_line(folder: Path, line: Mapping[str, Any]) -> None:
    """Appends one line to the log."""
    with open(folder / LOG, "a") as file:
        file.write(json.dumps(dict(line)) + "\n")


def save_weights(folder: Path, state: Mapping[str, Tensor]) -> Path:
    """Writes ``state`` in half precision as ``model.safetensors``, which load_sam reads."""
    path = folder / WEIGHTS
    part = path.with_name(f"{WEIGHTS}.part")
    save_file({key: value.half().contiguous() for key, value in state.items()}, part)
    os.replace(part, path)
    return path


def draw_curves(folder: Path) -> None:
    """The log as a picture, ``curves.png``: parts of the loss above, Dice below.

    Raises:
        InputError: when matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("Curves need matplotlib; install it with: pip install 'dfqsam[quantize]'.") from None
    lines = read_log(folder)
    if not lines:
        return
    known = {name for line in lines for name in line}
    losses = [name for name in ("loss", "box", "clicks", "teacher", "means", "details") if name in known]
    scores = [name for name in ("dice_box", "dice_clicks") if name in known]
    drawn = [(losses, "Loss"), *([(scores, "Dice with the mask, training views")] if scores else [])]
    figure = Figure(figsize=(8, 3.5 * len(drawn)), layout="constrained")
    rows = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (names, title) in zip(rows, drawn, strict=True):
        for name in names:
            pairs = [(line["step"], line[name]) for line in lines if name in line]
            axes.plot(*zip(*pairs, strict=True), label=name.removeprefix("dice_"), linewidth=1)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        axes.set_ylabel(title)
    rows[0].set_yscale("log")
    if scores:
        rows[-1].set_ylim(0, 1)
    rows[-1].set_xlabel("Step")
    figure.savefig(folder / CURVES, dpi=110)
