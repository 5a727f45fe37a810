"""Bundles: a directory with a manifest and the ONNX files it vouches for. Standard library only."""

from dfqsam.bundle.manifest import FORMAT, SELF_TEST, FileRecord, Manifest, ModelRecord
from dfqsam.bundle.store import Bundle, open_bundle
from dfqsam.bundle.write import write_bundle

__all__ = ["FORMAT", "SELF_TEST", "Bundle", "FileRecord", "Manifest", "ModelRecord", "open_bundle", "write_bundle"]
