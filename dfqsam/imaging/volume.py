"""A study that was read: voxels, where they lie in the patient, and what a writer needs to put a mask back on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfqsam.errors import InputError
from dfqsam.imaging.view import Mm, Plane, View, make_view
from dfqsam.imaging.window import PRESETS, Window, percentile_window

AXES = ("slices", "rows", "columns")

# Widest step between slices by their narrowest that still counts as one spacing: positions are written in decimals.
EVEN = 1.01
# Hounsfield units: air is -1000, and nothing but CT reaches down there.
AIR = -900


@dataclass(frozen=True)
class PictureSource:
    """A PNG, JPEG or TIFF picture: pixels without a place in the patient."""


@dataclass(frozen=True)
class NiftiSource:
    """What a mask needs to lie exactly on a NIfTI volume.

    Args:
        header: nibabel's header as it was read, both transforms and their codes included.
        shape: of the volume in the file's own order (i, j, k ...), without time points.
    """

    header: Any = field(repr=False)
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ItkSource:
    """A volume that ITK read; its masks are written with its affine.

    Args:
        kind: NRRD or MetaImage.
    """

    kind: str


@dataclass(frozen=True)
class DicomSource:
    """What a mask needs to refer to DICOM instances.

    Args:
        instances: pydicom datasets without pixels, with the identifiers of the study; never printed.
        frames: for each slice of the array the instance (an index) and its frame (0 for the first).
    """

    instances: tuple[Any, ...] = field(repr=False)
    frames: tuple[tuple[int, int], ...] = field(repr=False)


Source = PictureSource | NiftiSource | ItkSource | DicomSource


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels with their geometry. Nothing is resampled, flipped or reordered beyond what ``array`` says.

    Args:
        array: S x R x C (slices, rows, columns) of numbers in the units of the file (CT: Hounsfield units), or
            S x R x C x 3 uint8 RGB. A NIfTI voxel (i, j, k) is ``array[k, j, i]``. The slices of a DICOM series are
            sorted by position along their normal. A single picture has one slice.
        spacing: mm between slices, rows and columns; None for plain pictures; the first is None where one slice does
            not say how thick it is.
        affine: 4 x 4, from an index (slice, row, column, 1) to mm in the patient, RAS (x to the right, y to the front,
            z to the head); None where the file does not say.
        modality: DICOM's code (CT, MR, US ...), empty where the file does not say.
        source: what the writers need.
        windows: those that the file names, the first being the one to show.
        inverted: small values are white (DICOM's MONOCHROME1).
        positions: mm of each slice along the normal, where steps between slices are not all the same; then ``affine``
            is right for the first and the last slice only. None where slices are even.
        notes: what was noticed on reading, one sentence each, without identifiers.
    """

    array: NDArray[Any]
    spacing: tuple[Mm | None, Mm, Mm] | None = None
    affine: NDArray[np.float64] | None = None
    modality: str = ""
    source: Source = field(default_factory=PictureSource)
    windows: tuple[Window, ...] = ()
    inverted: bool = False
    positions: tuple[Mm, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        slices, rows, columns = self.array.shape[:3]
        return slices, rows, columns

    @property
    def axes(self) -> tuple[str, ...]:
        """What each axis of the array is, in words."""
        return (*AXES, "colour") if self.colour else AXES

    @property
    def colour(self) -> bool:
        """Whether the array is RGB."""
        return self.array.ndim == 4

    def view(self, plane: Plane = "stored") -> View:
        """How to look at the volume; ``stored`` always exists, the others where the orientation is known.

        Raises:
            InputError: for a plane that does not exist.
        """
        return make_view(self.shape, self.spacing, self.affine, plane)

    @cached_property
    def natural_plane(self) -> Plane:
        """The plane to show first: across the axis with the longest steps, axial where all are alike."""
        if self.affine is None or self.spacing is None or isinstance(self.source, DicomSource):
            return "stored"
        steps = self.spacing
        planes: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
        return max(planes, key=lambda plane: round(steps[self.view(plane).axis] or 0.0, 3))

    @cached_property
    def hounsfield(self) -> bool:
        """Whether the values are taken as Hounsfield units: CT, or of unknown modality and as low as air (-900)."""
        if self.modality or self.colour:
            return self.modality == "CT"
        return float(np.fmin.reduce(self.array, axis=None)) < AIR

    @cached_property
    def _automatic(self) -> Window:
        return percentile_window(self.array)

    def window(self, wanted: Window | str | None = None) -> Window:
        """The window to show the volume with.

        Args:
            wanted: a window; the name of a preset; ``percentiles``; None for the first that the file names, then soft
                tissue for Hounsfield units, then percentiles.

        Raises:
            InputError: for an unknown name.
        """
        if isinstance(wanted, Window):
            return wanted
        if wanted is None:
            if self.windows:
                return self.windows[0]
            return PRESETS["soft tissue"] if self.hounsfield else self._automatic
        if wanted == "percentiles":
            return self._automatic
        if wanted not in PRESETS:
            raise InputError(f"The window {wanted!r} is none of percentiles, {', '.join(PRESETS)}.")
        return PRESETS[wanted]

    def values(self, k: int, view: View) -> NDArray[Any]:
        """Slice ``k`` (0 to ``view.count`` - 1, counted as stored) as ``view`` shows it: H x W, or H x W x 3.

        Raises:
            InputError: when there is no such slice.
        """
        return view.show(self.array[self._at(k, view)])

    def picture(self, k: int, view: View | None = None, window: Window | str | None = None) -> NDArray[np.uint8]:
        """Slice ``k`` as H x W x 3 uint8 RGB, ready for a predictor. Colour is returned as it is.

        Raises:
            InputError: when there is no such slice or window.
        """
        shown = self.values(k, view or self.view())
        if self.colour:
            return shown.astype(np.uint8, copy=False)
        grey = self.window(window).apply(shown)
        return np.repeat((255 - grey if self.inverted else grey)[..., None], 3, axis=2)

    def empty_mask(self) -> NDArray[np.uint8]:
        """S x R x C of zeros, to be filled with labels."""
        return np.zeros(self.shape, np.uint8)

    def put(self, mask: NDArray[Any], k: int, view: View, drawn: ArrayLike, label: int = 1) -> None:
        """Set ``label`` in ``mask`` (S x R x C, changed in place) where ``drawn`` (H x W, on slice k of view) holds.

        Voxels of slice ``k`` that had this label and are not drawn become 0; other labels stay.

        Raises:
            InputError: for a mask or a drawing of another size, a slice that is not there or a label that does not fit.
        """
        if mask.shape != self.shape:
            raise InputError(f"The mask has shape {mask.shape}; the volume has {self.shape} (slices, rows, columns).")
        most = 1 if mask.dtype == np.bool_ else np.iinfo(mask.dtype).max
        if not 1 <= label <= most:
            raise InputError(f"The label {label} does not fit into a mask of {mask.dtype}; take 1 to {most}.")
        inside = view.store(np.asarray(drawn, bool))
        target = mask[self._at(k, view)]
        target[(target == label) & ~inside] = 0
        target[inside] = label

    def _at(self, k: int, view: View) -> tuple[int | slice, ...]:
        if not 0 <= k < view.count:
            raise InputError(f"There is no slice {k}; there are {view.count}, from 0 on.")
        index: list[int | slice] = [slice(None)] * 3
        index[view.axis] = k
        return tuple(index)
