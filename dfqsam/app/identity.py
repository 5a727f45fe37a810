"""What names a study to the store of judgements."""

from __future__ import annotations

import hashlib

import numpy as np

from dfqsam.imaging import Volume
from dfqsam.imaging.volume import DicomSource


def study_id(volume: Volume) -> str:
    """What names a study: its StudyInstanceUID, or the SHA-256 of its voxels where it has none.

    It is hashed with the site's key before it is stored, and never shown.
    """
    if isinstance(volume.source, DicomSource) and volume.source.instances:
        uid = str(getattr(volume.source.instances[0], "StudyInstanceUID", "") or "").strip()
        if uid:
            return uid
    voxels = np.ascontiguousarray(volume.array)
    digest = hashlib.sha256(f"{voxels.shape} {voxels.dtype.str}".encode())
    digest.update(voxels.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
