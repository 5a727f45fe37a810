"""What was understood of a study, for people and scripts, without anything that names a patient."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from dfqsam.imaging.dicom.reading import is_dicom, walk
from dfqsam.imaging.measure import thicknesses
from dfqsam.imaging.study import open_study, sniff, study_series
from dfqsam.imaging.volume import DicomSource, ItkSource, NiftiSource, Volume


def is_study(path: str | Path) -> bool:
    """Whether there is something at ``path`` that :func:`open_study` would try: no bundle and no checkpoint.

    A folder is a study when one of its files is DICOM, an archive when it holds no pickled tensors.
    """
    path = Path(path)
    if path.is_dir():
        if (path / "manifest.json").exists():
            return False
        for item in walk(path):
            with item.open() as file:
                if is_dicom(file.read(132)):
                    return True
        return False
    if not path.is_file() or not path.stat().st_size:
        return False
    kind = sniff(path)
    if kind != "zip":
        return kind is not None
    try:
        with zipfile.ZipFile(path) as packed:
            return not any(name.endswith("data.pkl") for name in packed.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def _format(volume: Volume) -> str:
    if isinstance(volume.source, NiftiSource):
        return "NIfTI"
    if isinstance(volume.source, ItkSource):
        return volume.source.kind
    return "DICOM" if isinstance(volume.source, DicomSource) else "picture"


def describe(volume: Volume) -> dict[str, Any]:
    """Shape, axes, spacing, orientation, modality, values, window and notes of a volume, as JSON takes them."""
    values = volume.array if volume.array.dtype.kind != "f" else volume.array[np.isfinite(volume.array)]
    stored = volume.view()
    window = volume.window()
    described: dict[str, Any] = {
        "format": _format(volume),
        "modality": volume.modality or "unknown",
        "shape": list(volume.array.shape),
        "axes": list(volume.axes),
        "spacing_mm": None if volume.spacing is None else [None if s is None else round(s, 6) for s in volume.spacing],
        "sides": None,
        "natural_plane": volume.natural_plane,
        "values": [values.min().item(), values.max().item()] if values.size else None,
        "dtype": str(volume.array.dtype),
        "window": None if volume.colour else {"centre": window.centre, "width": window.width, "name": window.name},
        "inverted": volume.inverted,
        "notes": list(volume.notes),
    }
    if stored.sides is not None:
        described["sides"] = {name: getattr(stored.sides, name) for name in ("left", "right", "top", "bottom")}
    if volume.positions is not None:
        described["slice_thickness_mm"] = [round(float(mm), 6) for mm in thicknesses(volume)]
    return described


def describe_study(path: str | Path) -> dict[str, Any]:
    """:func:`describe` of the study at ``path``; the list of its series where a folder or archive has several.

    Raises:
        InputError: as :func:`open_study`.
    """
    if sniff(path) in ("folder", "zip") and len(found := study_series(path)) > 1:
        return {"series": [str(one) for one in found]}
    return describe(open_study(path))
