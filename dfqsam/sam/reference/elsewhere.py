"""Volumes with masks from two packages of PyPI, as a folder to measure on: studies that were not trained on.

    pip download --no-deps --no-binary :all: pyradiomics==3.0.1
    pip download --no-deps nilearn
    python -m dfqsam.sam.reference.elsewhere pyradiomics-3.0.1.tar.gz nilearn-VERSION-py3-none-any.whl FOLDER

PyRadiomics carries tumours: two of the brain and one of the breast in MR, two of the lung in CT. Nilearn carries the
ICBM 152 template in T1 with grey and white matter, which together are the brain. Axial slices, spread over those that
show enough of the object. The pictures stay on the machine; nothing of them is in this package.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dfqsam.errors import DfqsamError, InputError
from dfqsam.imaging import open_study
from dfqsam.progress import stage

DESCRIPTION = "Makes a folder to measure on from PyRadiomics and Nilearn."
SLICES = 8  # of a volume, at most
LEAST, SHARE = 80, 0.1  # of an object in a slice: pixels, and of the pixels where it is largest
MNI = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"


@dataclass(frozen=True)
class Source:
    """A volume, and the masks that are its object together, in files of these names.

    Attributes:
        share: of the largest value of a mask from which on a voxel belongs to it.
        window: least and greatest value that are told apart; None for the middle 99 % of the volume.
    """

    dataset: str
    modality: str
    image: str
    masks: tuple[str, ...]
    share: float = 0.0
    window: tuple[float, float] | None = None


LUNG = (-1350.0, 150.0)
SOURCES = (
    Source("radiomics_brain", "MRI (brain tumour)", "brain1_image.nrrd", ("brain1_label.nrrd",)),
    Source("radiomics_brain", "MRI (brain tumour)", "brain2_image.nrrd", ("brain2_label.nrrd",)),
    Source("radiomics_breast", "MRI (breast tumour)", "breast1_image.nrrd", ("breast1_label.nrrd",)),
    Source("radiomics_lung", "CT (lung tumour)", "lung1_image.nrrd", ("lung1_label.nrrd",), window=LUNG),
    Source("radiomics_lung", "CT (lung tumour)", "lung2_image.nrrd", ("lung2_label.nrrd",), window=LUNG),
    Source("icbm152_brain", "MRI T1 (template, brain)", MNI.format("t1"), (MNI.format("gm"), MNI.format("wm")), 0.5),
)


def make(archives: list[Path], output: Path) -> int:
    """Writes pictures, masks and ``manifest.csv`` (split ``validation``) below ``output``; returns how many masks.

    Raises:
        InputError: when an archive cannot be read, lacks a volume, or ``output`` is there already.
    """
    if output.exists():
        raise InputError(f"{output} is there already; name another folder.")
    rows = []
    with tempfile.TemporaryDirectory() as folder, stage("Slicing volumes", len(SOURCES)) as advance:
        found = {path.name: path for archive in archives for path in _unpacked(archive, Path(folder))}
        missing = [name for source in SOURCES for name in (source.image, *source.masks) if name not in found]
        if missing:
            raise InputError(f"There is no {missing[0]}; give PyRadiomics' source archive and Nilearn's wheel.")
        for source in SOURCES:
            for name, picture, mask in _slices(source, found):
                paths = Path(source.dataset) / "images" / name, Path(source.dataset) / "masks" / name
                for path, values in zip(paths, (picture, mask.astype(np.uint8) * 255), strict=True):
                    (output / path).parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(values).save(output / path)
                patient = f"{source.dataset}:{source.image.split('_')[0]}"
                rows.append((source.dataset, source.modality, patient, *map(str, paths), "object", "validation"))
            advance()
    with open(output / "manifest.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("dataset", "modality", "patient_or_group", "image", "mask", "label", "split"))
        writer.writerows(rows)
    return len(rows)


def _unpacked(archive: Path, folder: Path) -> Iterator[Path]:
    """The files of ``archive`` that are asked for, below ``folder``."""
    wanted = {name for source in SOURCES for name in (source.image, *source.masks)}
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                names = [name for name in opened.namelist() if Path(name).name in wanted]
                parts = [(Path(name).name, opened.read(name)) for name in names]
        else:
            with tarfile.open(archive) as opened:
                members = [one for one in opened if one.isfile() and Path(one.name).name in wanted]
                parts = [(Path(one.name).name, file.read()) for one in members if (file := opened.extractfile(one))]
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise InputError(f"{archive} cannot be read ({error}); download it again.") from error
    for name, content in parts:
        (folder / name).write_bytes(content)
        yield folder / name


def _slices(source: Source, found: dict[str, Path]) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.bool_]]]:
    """File names, pictures and masks of a volume's axial slices."""
    image = open_study(found[source.image])
    masks = [open_study(found[name]) for name in source.masks]
    values = image.array.astype(np.float32)
    total = np.sum([mask.array.astype(np.float32) for mask in masks], axis=0)
    inside = total > source.share * total.max()
    low, high = source.window or np.percentile(values, (0.5, 99.5))
    grey = (np.clip((values - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)
    seen = inside.sum((1, 2))
    enough = np.flatnonzero(seen >= max(LEAST, SHARE * seen.max()))
    for k in enough[np.linspace(0, len(enough) - 1, min(SLICES, len(enough))).round().astype(int)]:
        yield f"{source.image.split('_')[0]}-{k:03}.png", grey[k], inside[k]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m dfqsam.sam.reference.elsewhere", description=DESCRIPTION)
    parser.add_argument("archives", type=Path, nargs=2)
    parser.add_argument("output", type=Path)
    given = parser.parse_args(arguments)
    try:
        print(f"{given.output}: {make(given.archives, given.output)} masks")
    except DfqsamError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
