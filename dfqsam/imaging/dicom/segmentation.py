"""Masks as DICOM SEG, which refers to the very instances it was drawn on."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfqsam import __version__
from dfqsam.errors import InputError
from dfqsam.imaging.dicom.reading import tolerant
from dfqsam.imaging.extra import studies
from dfqsam.imaging.volume import DicomSource, Volume

# Type 2 in the patient and study modules: empty is a value. Files from which identifiers were taken may lack them.
MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName"),
)
MUST_BE_THERE = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


@dataclass(frozen=True)
class Code:
    """A coded concept: value and meaning in a coding scheme (SCT is SNOMED CT)."""

    value: str
    meaning: str
    scheme: str = "SCT"


TISSUE = Code("85756007", "Tissue")


@dataclass(frozen=True)
class Segment:
    """What a label stands for.

    Args:
        name: for people; at most 64 characters.
        category: of the property, as in CID 7150.
        type: of the property, as in CID 7151 and others. Tissue claims nothing that nobody has said.
    """

    name: str
    category: Code = TISSUE
    type: Code = TISSUE

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > 64 or "\\" in self.name or not self.name.isprintable():
            raise InputError(f"The segment name {self.name[:80]!r} cannot be used; give 1 to 64 printable characters.")


def _sources(source: DicomSource, placed: bool) -> list[Any]:
    sources = [copy.copy(dataset) for dataset in source.instances]
    if len(sources) > 1 and any(int(dataset.get("NumberOfFrames") or 1) > 1 for dataset in sources):
        raise InputError(
            "The series has several multi-frame instances, which one DICOM SEG cannot refer to; write NIfTI."
        )
    for dataset in sources:
        if not placed:  # a frame of reference without a position in it is none
            dataset.pop("FrameOfReferenceUID", None)
        for part in ("SOPInstanceUID", "SOPClassUID"):  # the file's own meta information says it again
            if not dataset.get(part) and (kept := dataset.file_meta.get(f"MediaStorage{part}")):
                setattr(dataset, part, kept)
        for keyword in MUST_BE_THERE:
            if not dataset.get(keyword):
                raise InputError(f"The study has no {keyword}, so a DICOM SEG cannot refer to it; write NIfTI.")
        for keyword in MAY_BE_EMPTY:
            if keyword not in dataset:
                setattr(dataset, keyword, "")
    return sources


def _planes(mask: NDArray[Any], source: DicomSource, instances: list[Any]) -> NDArray[Any]:
    """The mask in the order of the sources' frames; frames that the volume left out are empty."""
    if len(instances) > 1:
        order = np.argsort([instance for instance, _ in source.frames])
        return mask[order]
    planes = np.zeros((int(instances[0].get("NumberOfFrames") or 1), *mask.shape[1:]), mask.dtype)
    for k, (_, frame) in enumerate(source.frames):
        planes[frame] = mask[k]
    return planes


def segmentation_bytes(
    mask: NDArray[Any], volume: Volume, segments: Mapping[int, Segment], description: str = "Segmentation"
) -> bytes:
    """A mask (S x R x C, labels from 0 on) as the bytes of a DICOM SEG object, a binary segment for every label.

    Segments are numbered from 1 on in the order of their labels. The object carries the identifiers of the study, as
    the standard wants it, and nothing of the machine it was made on.

    Args:
        mask: labels; those above 0 must be in ``segments``.
        volume: read from DICOM.
        segments: what labels stand for; those that are not drawn become no segment.
        description: of the series, at most 64 characters.

    Raises:
        InputError: when the volume is not DICOM, the mask is empty, or the study lacks what a reference needs.
    """
    if not isinstance(volume.source, DicomSource):
        raise InputError("A DICOM SEG refers to DICOM images, and this study is none; write NIfTI, PNG or COCO JSON.")
    if volume.affine is None and volume.shape[0] > 1:
        raise InputError(
            "The frames have no places in the patient, so no DICOM SEG is written; write COCO JSON (.json)."
        )
    drawn = [int(label) for label in np.unique(mask) if label]
    if not drawn:
        raise InputError("The mask is empty, and DICOM SEG has no segment without pixels; draw something first.")
    highdicom, sr = studies("highdicom"), studies("highdicom.sr.coding")
    codes = studies("pydicom.sr.codedict").codes
    numbers = np.zeros(drawn[-1] + 1, np.uint8 if len(drawn) < 256 else np.uint16)
    numbers[drawn] = np.arange(1, len(drawn) + 1)
    numbered = numbers[mask]
    algorithm = highdicom.AlgorithmIdentificationSequence("dfqsam", codes.cid7162.ArtificialIntelligence, __version__)

    def coded(code: Code) -> Any:
        return sr.CodedConcept(code.value, code.scheme, code.meaning)

    described = [
        highdicom.seg.SegmentDescription(
            number,
            segments[label].name,
            coded(segments[label].category),
            coded(segments[label].type),
            highdicom.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
            algorithm,
            tracking_uid=highdicom.UID(),
            tracking_id=segments[label].name,
        )
        for number, label in enumerate(drawn, 1)
    ]
    with tolerant("A DICOM SEG of this study", "written"):
        instances = _sources(volume.source, volume.affine is not None)
        made = highdicom.seg.Segmentation(
            instances,
            _planes(numbered, volume.source, instances),
            highdicom.seg.SegmentationTypeValues.BINARY,
            described,
            series_instance_uid=highdicom.UID(),
            series_number=1000,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer="dfqsam",
            manufacturer_model_name="dfqsam",
            software_versions=__version__,
            device_serial_number="0",
            content_label="SEGMENTATION",
            series_description=description[:64],
        )
        out = io.BytesIO()
        made.save_as(out, enforce_file_format=True)
    return out.getvalue()
