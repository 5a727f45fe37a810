"""Studies made for the tests: NIfTI volumes and DICOM series of known geometry, with nothing of a patient in them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
SPACING = (2.5, 0.75, 0.5)  # mm between slices, rows, columns

RGB = np.random.default_rng(5).integers(0, 256, (6, 8, 3), np.uint8)


def ramp(slices: int = 5, rows: int = 6, columns: int = 7) -> np.ndarray:
    """S x R x C uint16 in which every voxel says where it is."""
    return np.arange(slices * rows * columns, dtype=np.uint16).reshape(slices, rows, columns)


def marked(shape: tuple[int, int, int]) -> np.ndarray:
    """A mask with two labels and no symmetry."""
    mask = np.zeros(shape, np.uint8)
    mask[1:3, 2:5, 1:3] = 1
    mask[shape[0] - 2, 1, shape[2] - 2] = 2
    return mask


def orientations() -> list[np.ndarray]:
    """All 48 flips and permutations of the axes, as 3 x 3 matrices of voxel (i, j, k) to RAS directions."""
    return [
        np.eye(3)[:, list(order)] * np.array(signs)
        for order in permutations(range(3))
        for signs in product((1, -1), repeat=3)
    ]


def nifti_affine(directions: np.ndarray, zooms: Sequence[float] = (0.5, 0.75, 2.5)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = directions @ np.diag(zooms)
    affine[:3, 3] = [-31.5, 12.25, 7.125]
    return affine


def nifti(path: Path, data: np.ndarray, affine: np.ndarray, kind: Any = nib.Nifti1Image, codes: tuple = (1, 1)) -> Path:
    """``data`` in the file's order (i, j, k), with both transforms set."""
    image = kind(data, affine)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


# Cosines of a row and of a column: axial, coronal, sagittal, oblique.
TILT = np.deg2rad(25)
PLANES = {
    "axial": ([1, 0, 0], [0, 1, 0]),
    "coronal": ([1, 0, 0], [0, 0, -1]),
    "sagittal": ([0, 1, 0], [0, 0, -1]),
    "oblique": ([np.cos(TILT), np.sin(TILT), 0], [-np.sin(TILT) * 0.6, np.cos(TILT) * 0.6, -0.8]),
}


def dataset(picture: np.ndarray, **values: Any) -> Dataset:
    """One picture (R x C or R x C x 3) as a DICOM dataset that can be written."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = UID(CT), generate_uid()
    made.StudyInstanceUID, made.SeriesInstanceUID = UID("1.2.3"), UID("1.2.3.4")
    made.FrameOfReferenceUID, made.Modality = UID("1.2.3.5"), "CT"
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = "Test^Name", "ID-4711", "19000101", "O"
    made.StudyID, made.AccessionNumber, made.StudyDate, made.StudyTime = "S1", "ACC-12", "20000101", "120000"
    made.ReferringPhysicianName = ""
    made.SeriesNumber, made.InstanceNumber = 1, 1
    made.Rows, made.Columns = picture.shape[:2]
    made.SamplesPerPixel = 3 if picture.ndim == 3 else 1
    made.PhotometricInterpretation = "RGB" if picture.ndim == 3 else "MONOCHROME2"
    if picture.ndim == 3:
        made.PlanarConfiguration = 0
    bits = 8 * picture.dtype.itemsize
    made.BitsAllocated, made.BitsStored, made.HighBit = bits, bits, bits - 1
    made.PixelRepresentation = int(picture.dtype.kind == "i")
    data = picture.tobytes()
    made.PixelData = data + b"\0" * (len(data) % 2)
    made["PixelData"].VR = "OW" if bits > 8 else "OB"
    for keyword, value in values.items():
        setattr(made, keyword, value)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def placed(stack: np.ndarray, plane: str = "axial", spacing: Sequence[float] = SPACING, **values: Any) -> list[Dataset]:
    """A series: slice k of ``stack`` (S x R x C) lies k steps along the normal of the plane."""
    right, down = (np.array(v, float) for v in PLANES[plane])
    normal = np.cross(right, down)
    return [
        dataset(
            picture,
            **{
                "ImageOrientationPatient": [round(float(x), 10) for x in (*right, *down)],
                "ImagePositionPatient": [round(float(x), 8) for x in np.array([-20, 30, 5]) + k * spacing[0] * normal],
                "PixelSpacing": [spacing[1], spacing[2]],
                "SliceThickness": spacing[0],
                "InstanceNumber": k + 1,
                **values,
            },
        )
        for k, picture in enumerate(stack)
    ]


def affine_of(plane: str, spacing: Sequence[float] = SPACING) -> np.ndarray:
    """What the affine of ``placed`` must be: (slice, row, column) to RAS."""
    right, down = (np.array(v, float) for v in PLANES[plane])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = (
        np.cross(right, down) * spacing[0],
        down * spacing[1],
        right * spacing[2],
    )
    affine[:3, 3] = [-20, 30, 5]
    return np.diag([-1, -1, 1, 1]) @ affine


def written(made: Dataset) -> bytes:
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()


def folder(path: Path, series: Sequence[Dataset], order: Sequence[int] | None = None) -> Path:
    """The series as files whose names follow ``order`` and not its slices."""
    path.mkdir(exist_ok=True, parents=True)
    for name, k in enumerate(order or range(len(series))):
        (path / f"file{name:03d}").write_bytes(written(series[k]))
    return path


def enhanced(stack: np.ndarray, plane: str = "axial", order: Sequence[int] | None = None) -> Dataset:
    """The series as one enhanced multi-frame whose frames lie in ``order``."""
    order = list(order or range(len(stack)))
    singles = placed(stack, plane)
    made = dataset(stack[0], SOPClassUID=UID(ENHANCED_CT), NumberOfFrames=len(stack))
    made.PixelData = np.stack([stack[k] for k in order]).tobytes()
    shared, measures, orientation, values = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = singles[0].PixelSpacing, singles[0].SliceThickness
    orientation.ImageOrientationPatient = singles[0].ImageOrientationPatient
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = 1, -50, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Items([measures]), Items([orientation])
    shared.PixelValueTransformationSequence = Items([values])
    made.SharedFunctionalGroupsSequence = Items([shared])
    frames = []
    for k in order:
        frame, position, content = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = singles[k].ImagePositionPatient
        content.StackID, content.InStackPositionNumber, content.DimensionIndexValues = "1", k + 1, [1, k + 1]
        frame.PlanePositionSequence, frame.FrameContentSequence = Items([position]), Items([content])
        frames.append(frame)
    made.PerFrameFunctionalGroupsSequence = Items(frames)
    return made


def one(path, made):
    """A dataset written alone, under a name that says nothing."""
    path.write_bytes(written(made))
    return path
