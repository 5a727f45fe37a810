"""NIfTI volumes with reference masks: every slice with an object is a case, the volume is the patient."""

from __future__ import annotations

import logging
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.evaluate.matching import matched, patient_of, patients
from dfqsam.evaluate.samples import Mask, Picture, Sample
from dfqsam.progress import track

ENDINGS = (".nii", ".nii.gz")
MAX_VOXELS = 1 << 28
MOST_LABEL = 65_535
KEPT_VOLUMES = 4  # slices of one volume follow each other; two volumes a worker on two cores
SOFT_TISSUE = (40.0, 400.0)
AIR = -500.0  # values below are found in CT only, where air has -1000
MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
THICKER = 1.2

Window = tuple[float, float]


def is_volume(path: Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return path.name.lower().endswith(ENDINGS)


def _load(path: Path) -> Any:
    """The image of which nothing but the header has been read."""
    try:
        import nibabel
    except ImportError:
        raise InputError("NIfTI volumes need nibabel; install it with: pip install 'dfqsam[evaluate]'.") from None
    # It reports every oddity of a header on standard error by itself; what matters is raised.
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    try:
        image: Any = nibabel.load(path)  # pyright: ignore[reportPrivateImportUsage]
        shape = tuple(int(n) for n in image.shape)
    except FileNotFoundError:
        raise InputError(f"There is no file {path}.") from None
    except Exception as error:  # nibabel raises errors of many libraries on damaged files
        raise InputError(f"{path} cannot be read as NIfTI ({type(error).__name__}); export it again.") from error
    if not 3 <= len(shape) <= 4 or min(shape, default=0) < 1:
        raise InputError(f"{path} has the shape {shape}; give a volume of three axes, or four with channels last.")
    if int(np.prod(shape, dtype=object)) > MAX_VOXELS:
        raise InputError(f"{path} has {shape} voxels; the limit is {MAX_VOXELS >> 20} million.")
    return image


def _turned(image: Any) -> NDArray[Any]:
    """Where each axis points, in nibabel's notation: 3 rows of the anatomical axis and the direction."""
    from nibabel.orientations import io_orientation

    found = io_orientation(image.affine)
    if not np.isfinite(found).all():
        raise InputError(f"{image.get_filename()} has no usable affine, so its axes are unknown; export it again.")
    return found


def _state(path: Path) -> tuple[int, int]:
    """Size and time of change, so that what is kept in memory of a file that changed is not used."""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    return status.st_size, status.st_mtime_ns


def _volume(path: Path) -> NDArray[np.float32]:
    """X x Y x Z towards the patient's right, front and head; of several channels the first."""
    return _read_volume(path, _state(path))


def _labels(path: Path) -> NDArray[np.int32]:
    """As :func:`_volume`, of whole numbers."""
    return _read_labels(path, _state(path))


@lru_cache(maxsize=KEPT_VOLUMES)
def _read_volume(path: Path, state: tuple[int, int]) -> NDArray[np.float32]:
    from nibabel.orientations import apply_orientation

    del state
    image = _load(path)
    try:
        values = np.asanyarray(image.dataobj)
    except Exception as error:
        raise InputError(f"{path} is damaged or cut short ({type(error).__name__}); export it again.") from error
    values = (values[..., 0] if values.ndim == 4 else values).astype(np.float32)
    return np.nan_to_num(np.asarray(apply_orientation(values, _turned(image))), copy=False)


@lru_cache(maxsize=KEPT_VOLUMES)
def _read_labels(path: Path, state: tuple[int, int]) -> NDArray[np.int32]:
    values = _read_volume(path, state)
    whole = np.rint(values)
    if not np.array_equal(whole, values) or np.abs(whole).max() > MOST_LABEL:
        raise InputError(f"The mask {path} holds values that are no whole numbers up to {MOST_LABEL}; give labels.")
    return whole.astype(np.int32)


def _spacing(image: Any) -> tuple[float, float, float]:
    """Of a voxel in mm, along the axes of :func:`_volume`."""
    factor = MILLIMETRES[image.header.get_xyzt_units()[0]]
    sizes = {
        int(axis): float(size) * factor
        for (axis, _), size in zip(_turned(image), image.header.get_zooms()[:3], strict=True)
    }
    if min(sizes.values()) <= 0:
        raise InputError(f"{image.get_filename()} names a voxel size of 0; export it again.")
    return sizes[0], sizes[1], sizes[2]


def _across(spacing: tuple[float, float, float]) -> int:
    """The axis that slices are stacked along: the coarsest where one stands out, else head to foot."""
    ranked = sorted(range(3), key=lambda axis: -spacing[axis])
    return ranked[0] if spacing[ranked[0]] > THICKER * spacing[ranked[1]] else 2


def _cut(volume: NDArray[Any], axis: int, at: int) -> NDArray[Any]:
    """A slice as radiologists see it: head or front above, the patient's right on the left."""
    return np.ascontiguousarray(volume.take(at, axis).T[::-1, ::-1])


@lru_cache(maxsize=64)
def _window(path: Path, state: tuple[int, int], modality: str, window: Window | None) -> tuple[float, float]:
    """The values that become black and white."""
    if window is None:
        values = _read_volume(path, state)
        if modality.upper() == "CT" or values.min() < AIR:
            window = SOFT_TISSUE
        else:
            inside = values[values != 0]
            low, high = np.percentile(inside if inside.size else values, (0.5, 99.5))
            return float(low), float(high)
    return window[0] - window[1] / 2, window[0] + window[1] / 2


def _picture(path: Path, axis: int, at: int, modality: str, window: Window | None) -> Picture:
    low, high = _window(path, _state(path), modality, window)
    scaled = (_cut(_volume(path), axis, at) - low) * (255 / max(high - low, 1e-6))
    return np.repeat(np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)[..., None], 3, axis=2)


def _mask(path: Path, axis: int, at: int, value: int) -> Mask:
    return _cut(_labels(path), axis, at) == value


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
    window: Window | None = None,
) -> list[Sample]:
    """The slices of one volume that show an object, for every label of its mask.

    Args:
        names: label values to names of objects.
        label: of a mask that holds one object.
        slices: at most so many of each object, spread evenly.

    Raises:
        InputError: when a file cannot be read, or the two have another size or position.
    """
    picture, labels = _load(image), _load(mask)
    if picture.shape[:3] != labels.shape[:3]:
        raise InputError(f"{mask} has {labels.shape[:3]} voxels and {image} has {picture.shape[:3]}; they differ.")
    if not np.allclose(picture.affine, labels.affine, atol=1e-2):
        raise InputError(f"{mask} lies elsewhere in space than {image} (their affines differ); resample the mask.")
    spacing = _spacing(picture)
    axis = _across(spacing)
    columns, rows = (spacing[other] for other in range(3) if other != axis)
    values = _labels(mask)
    found = []
    present = [int(value) for value in np.unique(values) if value]
    for value in present:
        where = np.flatnonzero((values == value).any(axis=tuple(other for other in range(3) if other != axis)))
        count = len(where) if slices is None else min(slices, len(where))
        for at in (int(where[i * len(where) // count]) for i in range(count)):
            found.append(
                Sample(
                    key=f"{name}#{at:05d}#{label or value}",
                    view=f"{name}#{at:05d}",
                    dataset=dataset,
                    modality=modality,
                    patient=patient,
                    label=(names or {}).get(value) or label or (f"label {value}" if len(present) > 1 else ""),
                    files=(image, mask),
                    picture=partial(_picture, image, axis, at, modality, window),
                    reference=partial(_mask, mask, axis, at, value),
                    spacing=(rows, columns),
                    thickness=spacing[axis],
                )
            )
    return sorted(found, key=lambda sample: sample.view)


def pairs(folder: Path, slices: int | None = None, window: Window | None = None) -> list[Sample]:
    """The slices of the volumes in ``folder/images`` with masks of the same names in ``folder/masks``.

    Raises:
        InputError: when names do not match, and as :func:`slices_of`.
    """
    known, found = patients(folder), []
    for name, image, label, mask in track(matched(folder, ENDINGS), "Reading the masks"):
        patient, dataset = patient_of(name, known, folder), folder.resolve().name
        about = {"name": name, "dataset": dataset, "patient": patient, "label": label}
        found += slices_of(image, mask, **about, slices=slices, window=window)
    return sorted(found, key=lambda sample: sample.view)
