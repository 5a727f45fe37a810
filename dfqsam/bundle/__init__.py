"""Bundles: a directory with a manifest and the files it vouches for, and a signature that vouches for the manifest.

From the bottom up: ``strict``, ``manifest`` and ``store`` read and verify, ``write`` writes; ``keys``, ``trust`` and
``sign`` say who made a bundle; ``wire``, ``onnx_fields``, ``operators`` and ``preflight`` what an ONNX file may hold;
``records``, ``inventory`` and ``sbom`` write what is handed on with a bundle. Besides the standard library, there are
``cryptography`` for signatures and ``packaging`` for the list of software.
"""

from dfqsam.bundle.manifest import FORMAT, SELF_TEST, FileRecord, Manifest, ModelRecord
from dfqsam.bundle.store import Bundle, open_bundle, read_bundle
from dfqsam.bundle.trust import Trust, TrustStore
from dfqsam.bundle.write import write_bundle

__all__ = [
    "FORMAT",
    "SELF_TEST",
    "Bundle",
    "FileRecord",
    "Manifest",
    "ModelRecord",
    "Trust",
    "TrustStore",
    "open_bundle",
    "read_bundle",
    "write_bundle",
]
