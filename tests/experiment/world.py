"""A small SAM with random weights, and a folder of drawn pictures with reference masks."""

import csv
import dataclasses
from pathlib import Path

import cv2
import numpy as np
import torch

from dfqsam.sam.families import FAMILIES
from dfqsam.sam.model import Sam, prompt_modules
from tests.small import tiny_encoder

COLUMNS = ["dataset", "modality", "patient_or_group", "image", "mask", "label", "licence"]
COLUMNS += ["source_repo", "source_commit", "split"]


def small_sam() -> Sam:
    """64 px in; boxes only."""
    encoder = tiny_encoder()
    torch.manual_seed(1)
    prompts, decoder = prompt_modules(16, 64)
    for module in (prompts, decoder):
        module.eval().requires_grad_(False)
    family = dataclasses.replace(FAMILIES["lite-medsam"], image_size=64, image_sizes=(64,))
    return Sam(family, encoder, prompts, decoder)


def write_folder(folder: Path, masks_of: dict[tuple[str, str], list[int]]) -> Path:
    """Pictures of 40 x 60 pixels: for each (data set, split) one picture for each number of masks."""
    rng = np.random.default_rng(0)
    rows = []
    for (dataset, split), counts in masks_of.items():
        for i, count in enumerate(counts):
            image = f"{dataset}/{split}{i}.png"
            (folder / dataset).mkdir(parents=True, exist_ok=True)
            coarse = rng.integers(0, 255, (5, 7, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / image), cv2.resize(coarse, (60, 40)))
            for j in range(count):
                mask = np.zeros((40, 60), np.uint8)
                cv2.circle(mask, (15 + 3 * j, 20), 8, 255, -1)
                name = f"{dataset}/{split}{i}-{j}.png"
                cv2.imwrite(str(folder / name), mask)
                rows.append(dict.fromkeys(COLUMNS, "") | {"dataset": dataset, "image": image, "mask": name})
                rows[-1]["split"] = split
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return folder
