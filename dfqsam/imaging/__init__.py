"""Pictures in, masks out."""

from dfqsam.imaging.raster import read_picture, write_mask, write_picture

__all__ = ["read_picture", "write_mask", "write_picture"]
