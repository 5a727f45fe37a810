"""Volumes made by hand, whose voxels are black, or white where an object is."""

from __future__ import annotations

import numpy as np

from dfqsam.imaging import Volume, Window

GREY = (Window.between(0, 255),)
# Slices run to the head, rows to the back, columns to the left: the axial plane is the stored one.
AXIAL = np.array([[0, 0, -2.0, 0], [0, -2.0, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])


def volume(objects, affine=AXIAL, spacing=(2.0, 2.0, 2.0)):
    """White where ``objects`` (S x R x C) holds; an array of numbers is taken as it is."""
    values = np.where(objects, 200, 0) if objects.dtype == bool else objects
    return Volume(values.astype(np.uint8), spacing, affine, windows=GREY)


def grid(shape):
    return np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")


def ball(shape, centre, radius):
    return sum((axis - at) ** 2 for axis, at in zip(grid(shape), centre, strict=True)) <= radius**2


def tube(shape, row, column, half, first=0, last=None):
    """A square column of 2 half + 1 voxels along the slices, from ``first`` to ``last``, both included."""
    s, r, c = grid(shape)
    last = shape[0] - 1 if last is None else last
    return (abs(r - row) <= half) & (abs(c - column) <= half) & (s >= first) & (s <= last)


def box(mask):
    """The box of an H x W mask."""
    rows, columns = np.nonzero(mask)
    return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)
