"""DICOM SEG objects, read as labels on the study they refer to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.imaging.dicom.instance import NATIVE
from dfqsam.imaging.dicom.pixels import RLE
from dfqsam.imaging.dicom.reading import Item, read_dataset, tolerant
from dfqsam.imaging.extra import studies
from dfqsam.imaging.files import check_voxels, size_of
from dfqsam.imaging.volume import DicomSource, Volume

Placed = Callable[[NDArray[np.uint16], NDArray[np.float64]], NDArray[np.uint16]]
TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def is_segmentation(item: Item) -> bool:
    """Whether a DICOM file is a segmentation, by its header."""
    with item.open() as file, tolerant(item.name):
        return str(read_dataset(file, item.name).get("Modality")) == "SEG"


def read_names(item: Item) -> dict[int, str]:
    """Number to label (its name, for people) of every segment.

    Raises:
        InputError: for a damaged object.
    """
    with item.open() as file, tolerant(item.name):
        segments = read_dataset(file, item.name).get("SegmentSequence") or ()
        named = {int(one.SegmentNumber): str(one.get("SegmentLabel") or "") for one in segments}
    return {number: name or f"label {number}" for number, name in named.items()}


def _by_reference(segmentation: Any, volume: Volume) -> NDArray[Any] | None:
    """Labels of every slice by the instance and frame it was drawn on; None where the object does not refer to them."""
    if not isinstance(volume.source, DicomSource):
        return None
    instances = [str(dataset.get("SOPInstanceUID")) for dataset in volume.source.instances]
    known = {uid for _, _, uid in segmentation.get_source_image_uids()}
    if not known.intersection(instances):
        return None
    options = {"combine_segments": True, "assert_missing_frames_are_empty": True, "ignore_spatial_locations": True}
    if int(volume.source.instances[0].get("NumberOfFrames") or 1) > 1:  # a single frame is referred to as its instance
        frames = [frame + 1 for _, frame in volume.source.frames]
        return segmentation.get_pixels_by_source_frame(instances[0], frames, **options)
    slices = [instances[index] for index, _ in volume.source.frames]
    return segmentation.get_pixels_by_source_instance(slices, **options)


def read_segmentation(item: Item, volume: Volume, place: Placed) -> NDArray[np.uint16]:
    """The segments of a DICOM SEG as labels (segment numbers) on ``volume``, S x R x C.

    Args:
        item: the object.
        volume: the study.
        place: puts labels with an affine onto the study; used where the object does not refer to its instances.

    Raises:
        InputError: for a damaged object, more than 2^28 voxels, overlapping segments, or another study's.
    """
    highdicom = studies("highdicom.seg")
    path = item.name
    with item.open() as file, tolerant(path):
        header = read_dataset(file, path)
        frames = int(header.get("NumberOfFrames") or 1)
        check_voxels(path, frames, int(header.Rows), int(header.Columns))
        syntax = str(header.file_meta.TransferSyntaxUID)
        if syntax not in NATIVE and syntax != RLE:
            raise InputError(f"{path} is a compressed segmentation; export it uncompressed.")
        bits = int(header.get("BitsAllocated") or 1)
        if syntax in NATIVE and size_of(file) < frames * int(header.Rows) * int(header.Columns) * bits // 8:
            raise InputError(f"{path} is cut short; export it again.")
        if str(header.get("SegmentationType")) == "FRACTIONAL":
            raise InputError(f"{path} holds probabilities in place of a mask; export it as a binary segmentation.")
        segmentation = highdicom.Segmentation.from_dataset(read_dataset(file, path, pixels=True), copy=False)
        try:
            found = _by_reference(segmentation, volume)
            if found is None:
                spread = segmentation.get_volume(combine_segments=True)
                found = place(np.asarray(spread.array, np.uint16), TO_RAS @ np.asarray(spread.affine, np.float64))
        except RuntimeError as error:
            if "overlap" in str(error).lower():
                raise InputError(f"{path} has segments that overlap; export them one by one.") from error
            raise
        drawn = np.count_nonzero(segmentation.pixel_array)
    labels = np.asarray(found, np.uint16)
    if np.count_nonzero(labels) != drawn:  # a frame that refers to an image elsewhere would be passed over silently
        raise InputError(
            f"{path} has segments on images that are not in the study, or that overlap; give the whole of it."
        )
    if labels.shape != volume.shape:
        raise InputError(f"{path} has shape {labels.shape}; the study has {volume.shape} (slices, rows, columns).")
    return labels
