"""Volumes with reference masks, NIfTI or DICOM: every slice with an object is a case, the volume is the patient."""

from __future__ import annotations

import threading
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.evaluate.matching import patient_of, patients, series_of
from dfqsam.evaluate.matching_volumes import NIFTI, matched_volumes
from dfqsam.evaluate.samples import Mask, Picture, Sample, state
from dfqsam.imaging import Plane, View, Volume, Window, open_study, read_study_mask, segment_names, sniff
from dfqsam.imaging.measure import thicknesses
from dfqsam.imaging.volume import NiftiSource
from dfqsam.progress import track

KEPT_VOLUMES = 4  # slices of one volume follow each other; two volumes a worker on two cores

LevelWidth = tuple[float, float]
State = tuple[int, int]

# Two threads that want the same volume would otherwise both decode it.
_READING = threading.Lock()


@lru_cache(maxsize=KEPT_VOLUMES)
def _read(path: Path, state: State, series: int | None) -> Volume:
    del state  # so that what is kept in memory of files that changed is not used
    _check(path)
    try:
        volume = open_study(path, series)
    except InputError as error:  # files of a series are named without their folder, of which there are many here
        raise error if str(path) in str(error) else InputError(f"{path}: {error}") from error
    if isinstance(volume.source, NiftiSource) and len(volume.source.shape) < 3:
        raise InputError(f"{path} has the shape {volume.source.shape}; give a volume of three axes, or a picture.")
    return volume


@lru_cache(maxsize=KEPT_VOLUMES)
def _read_labels(mask: Path, state: State, image: Path, image_state: State, series: int | None) -> NDArray[np.uint16]:
    del state
    _check(mask)
    return read_study_mask(mask, _read(image, image_state, series), whole=True)


def _check(path: Path) -> None:
    """That a file is NIfTI where its name says so."""
    if path.name.lower().endswith(NIFTI) and sniff(path) is None:
        raise InputError(f"{path} cannot be read as NIfTI, which its name says it is; export it again.")


def _volume(path: Path, series: int | None) -> Volume:
    with _READING:
        return _read(path, state(path), series)


def _labels(mask: Path, image: Path, series: int | None) -> NDArray[np.uint16]:
    """S x R x C, on the voxels of the image."""
    with _READING:
        return _read_labels(mask, state(mask), image, state(image), series)


def _picture(path: Path, series: int | None, plane: Plane, k: int, window: Window | str | None) -> Picture:
    volume = _volume(path, series)
    return volume.picture(k, volume.view(plane), window)


def _mask(mask: Path, image: Path, series: int | None, view: View, k: int, value: int) -> Mask:
    return view.show(_labels(mask, image, series).take(k, view.axis) == value)


def _only_file(path: Path) -> Path:
    """The mask itself, or the one file in the folder that it was exported to."""
    if not path.is_dir():
        return path
    inside = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    if len(inside) != 1:
        raise InputError(f"{path} holds {len(inside)} files; a folder of a mask must hold one, a DICOM SEG.")
    return inside[0]


def _window(wanted: LevelWidth | None, modality: str, volume: Volume) -> Window | str | None:
    """As asked for; else soft tissue where only the data set says that it is CT; else as the volume is shown anyhow."""
    if wanted is not None:
        return Window(*wanted, "LINEAR_EXACT")
    return "soft tissue" if modality.upper() == "CT" and not volume.modality else None


def _thickness(volume: Volume, view: View) -> list[float | None]:
    """Of each slice of the view in mm, None where the file does not say."""
    if view.axis:
        return [None if volume.spacing is None else volume.spacing[view.axis]] * view.count
    try:
        return [float(mm) for mm in thicknesses(volume)]
    except InputError:
        return [None] * view.count


def slices_of(
    image: Path,
    mask: Path,
    *,
    name: str,
    dataset: str,
    patient: str,
    modality: str = "",
    names: dict[int, str] | None = None,
    label: str = "",
    slices: int | None = None,
    window: LevelWidth | None = None,
    series: int | None = None,
) -> list[Sample]:
    """The slices of one volume that show an object, for every label of its mask.

    Slices are cut in the volume's natural plane and counted as they are stored, as a viewer counts them.

    Args:
        image: a NIfTI file, or the file, folder or archive of a DICOM series.
        mask: NIfTI, a DICOM SEG or a folder with nothing else; a picture where the image has one slice.
        names: label values to names of objects; None for those that a DICOM SEG gives.
        label: of a mask that holds one object.
        slices: at most so many of each object, spread evenly.
        window: level and width; None for what suits the modality.
        series: which one of a folder or archive, from 1 on; of no matter where the image is a single file.

    Raises:
        InputError: when a file cannot be read, or the two have another size or position.
    """
    mask = _only_file(mask)
    if series is not None and sniff(image) not in ("folder", "zip"):
        series = None
    volume, values = _volume(image, series), _labels(mask, image, series)
    plane = volume.natural_plane
    view, shown = volume.view(plane), _window(window, modality, volume)
    thick = _thickness(volume, view)
    names = names or ({} if label else segment_names(mask))
    found = []
    present = [int(value) for value in np.unique(values) if value]
    for value in present:
        suffix = label if label and len(present) == 1 else f"{label} {value}".strip()
        where = np.flatnonzero((values == value).any(axis=tuple(other for other in range(3) if other != view.axis)))
        count = len(where) if slices is None else min(slices, len(where))
        for at in (int(where[i * len(where) // count]) for i in range(count)):
            found.append(
                Sample(
                    key=f"{name}#{at:05d}#{suffix}",
                    view=f"{name}#{at:05d}",
                    dataset=dataset,
                    modality=modality or volume.modality,
                    patient=patient,
                    label=names.get(value) or label or (f"label {value}" if len(present) > 1 else ""),
                    files=(image, mask),
                    picture=partial(_picture, image, series, plane, at, shown),
                    reference=partial(_mask, mask, image, series, view, at, value),
                    spacing=view.spacing,
                    thickness=thick[at],
                    shown=f"{shown} {series}",
                )
            )
    return sorted(found, key=lambda sample: sample.view)


def pairs(
    folder: Path, slices: int | None = None, window: LevelWidth | None = None, series: int | None = None
) -> list[Sample]:
    """The slices of the volumes in ``folder/images`` with masks of the same names in ``folder/masks``.

    Where ``patients.csv`` has a column series, it says which one of each folder or archive; elsewhere ``series`` does.

    Raises:
        InputError: when names do not match, and as :func:`slices_of`.
    """
    known, which, found = patients(folder), series_of(folder), []
    for name, image, label, mask in track(matched_volumes(folder), "Reading the masks"):
        patient, dataset = patient_of(name, known, folder), folder.resolve().name
        about = {"name": name, "dataset": dataset, "patient": patient, "label": label}
        found += slices_of(image, mask, **about, slices=slices, window=window, series=which.get(name, series))
    return sorted(found, key=lambda sample: sample.view)
