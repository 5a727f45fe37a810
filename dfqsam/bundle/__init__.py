"""Bundles: a directory with a manifest and the ONNX files it vouches for. Standard library only."""

from dfqsam.bundle.manifest import FORMAT, FileRecord, Manifest, ModelRecord
from dfqsam.bundle.store import Bundle, open_bundle
from dfqsam.bundle.write import write_bundle

__all__ = ["FORMAT", "Bundle", "FileRecord", "Manifest", "ModelRecord", "open_bundle", "write_bundle"]
