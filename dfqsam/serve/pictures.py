"""Uploads as pictures that a predictor takes; nothing of their names is looked at, and nothing is written."""

from __future__ import annotations

import hashlib
import hmac
import io
import json
from dataclasses import astuple, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dfqsam.errors import InputError
from dfqsam.imaging import PLANES, Plane, View, Volume, Window, open_uploads
from dfqsam.imaging import PRESETS as WINDOWS
from dfqsam.imaging.files import at_most_pixels
from dfqsam.imaging.study import kind_of
from dfqsam.imaging.volume import DicomSource
from dfqsam.serve.problems import RequestError

NAME = "The image"  # what messages call every upload
SMALL = 1 << 14  # bytes of geometry
SHOWN = ("slice", "plane", "window")


@dataclass(frozen=True)
class Shown:
    """What of an upload is looked at.

    Args:
        slice: counted from 0; None where there is one only.
        plane: as :mod:`dfqsam.imaging.view` has them; None for the one with the finest pixels, or as stored.
        window: a preset, ``percentiles``, or ``CENTRE,WIDTH``; None for the first that the file names.
    """

    slice: int | None = None
    plane: Plane | None = None
    window: str | None = None

    @classmethod
    def of(cls, fields: dict[str, bytes]) -> Shown:
        """From the fields of a form.

        Raises:
            RequestError: 400 for what is none of these.
        """
        texts = {name: value.decode("utf-8", "replace") for name, value in fields.items() if name in SHOWN}
        number, plane, window = (texts.get(name) for name in SHOWN)
        if number is not None and not (number.isascii() and number.isdecimal() and len(number) < 10):
            raise RequestError(400, "The field slice is no whole number.", "Count slices from 0 on.")
        chosen: Plane | None = None if plane not in PLANES else PLANES[PLANES.index(plane)]
        if plane is not None and chosen is None:
            raise RequestError(400, "The field plane is unknown.", f"Give {', '.join(PLANES)}.")
        if window is not None:
            _window(window)
        return cls(None if number is None else int(number), chosen, window)


def _window(text: str) -> Window | str:
    if text in WINDOWS or text == "percentiles":
        return text
    try:
        centre, width = map(float, text.split(","))
        return Window(centre, width)
    except (ValueError, InputError):
        raise RequestError(
            400, "The field window is unknown.", f"Give percentiles, {', '.join(WINDOWS)}, or CENTRE,WIDTH."
        ) from None


def key_of(secret: bytes, client: str | None, data: bytes, shown: Shown) -> str:
    """Id of a picture: the same for the same content and client, and of no use to anybody else.

    Keyed with a secret of the process, so that an id in a log does not tell which file it is to somebody who has it.
    """
    about = json.dumps([client, hashlib.sha256(data).hexdigest(), *astuple(shown)])
    return hmac.new(secret, about.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Opened:
    """An upload as it is shown: H x W x 3 uint8, with the study that it is of."""

    picture: NDArray[np.uint8]
    volume: Volume
    view: View
    slice: int
    bytes: int

    @property
    def geometry(self) -> Volume:
        """The study without its voxels: an array of the same shape that takes no memory."""
        nothing = np.broadcast_to(np.zeros((), self.volume.array.dtype), self.volume.array.shape)
        return replace(self.volume, array=nothing)


def open_picture(data: bytes, shown: Shown, max_pixels: int) -> Opened:
    """The picture in an upload.

    Raises:
        InputError: as :func:`dfqsam.imaging.open_uploads`, and when there is no such slice or plane.
        RequestError: 415 for a zip archive, NRRD or MetaImage, 422 where a slice has to be chosen.
    """
    kind = kind_of(io.BytesIO(data))
    if kind == "zip":
        raise RequestError(415, "Zip archives are not taken.", "Send one image, or a slice of the series.")
    if kind == "itk":  # which a library would read in a process of its own for each request
        raise RequestError(415, "NRRD and MetaImage are not taken.", "Send the volume as NIfTI.")
    with at_most_pixels(max_pixels):
        volume = open_uploads({NAME: data})
    plane = shown.plane or ("stored" if volume.shape[0] == 1 else volume.natural_plane)
    view = volume.view(plane)
    if shown.slice is None and view.count > 1:
        raise RequestError(422, f"{NAME} has {view.count} slices.", "Choose one with the field slice, from 0 on.")
    number = shown.slice or 0
    window = None if shown.window is None else _window(shown.window)
    picture = volume.picture(number, view, window)
    # A DICOM header is kept for DICOM SEG; it is never longer than its file.
    kept = len(data) if isinstance(volume.source, DicomSource) else SMALL
    return Opened(picture, volume, view, number, kept)
