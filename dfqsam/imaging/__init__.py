"""Studies and pictures in, masks out, with geometry kept.

The base install reads PNG, JPEG and TIFF; NIfTI and DICOM need the extra ``studies``, NRRD and MetaImage ``itk``.
"""

from dfqsam.imaging.coco import coco, write_coco
from dfqsam.imaging.dicom.segmentation import Code, Segment
from dfqsam.imaging.dicom.series import Series
from dfqsam.imaging.masks import write_study_mask
from dfqsam.imaging.masks_in import read_study_mask, read_uploaded_mask, segment_names
from dfqsam.imaging.measure import area_mm2, millilitres, voxel_millilitres
from dfqsam.imaging.raster import read_picture, write_mask, write_picture
from dfqsam.imaging.study import open_study, open_uploads, sniff, study_series, upload_series
from dfqsam.imaging.view import PLANES, Plane, Sides, View
from dfqsam.imaging.volume import Volume
from dfqsam.imaging.window import PRESETS, TableWindow, Window

__all__ = [
    "PLANES",
    "PRESETS",
    "Code",
    "Plane",
    "Segment",
    "Series",
    "Sides",
    "TableWindow",
    "View",
    "Volume",
    "Window",
    "area_mm2",
    "coco",
    "millilitres",
    "open_study",
    "open_uploads",
    "read_picture",
    "read_study_mask",
    "read_uploaded_mask",
    "segment_names",
    "sniff",
    "study_series",
    "upload_series",
    "voxel_millilitres",
    "write_coco",
    "write_mask",
    "write_picture",
    "write_study_mask",
]
