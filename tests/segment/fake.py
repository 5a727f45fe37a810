"""A predictor that needs no model: what is bright inside the box, or connected to a click, is the object."""

from __future__ import annotations

import os

import cv2
import numpy as np

from dfqsam.errors import InputError
from dfqsam.sam.prompts import checked_box, checked_points
from dfqsam.segment import job


class Fake:
    """Gives the pixels above ``threshold`` inside of the box, and ``quality(picture)`` as predicted IoU; counts."""

    understands = ("box", "point")

    def __init__(self, threshold=128, quality=lambda picture: 0.9):
        self.threshold, self.quality = threshold, quality
        self.encoded, self.asked = [], []
        self.picture = None

    def check_prompt(self, shape, point_coords=None, point_labels=None, box=None):
        if box is not None:
            if "box" not in self.understands:
                raise InputError("a box gives worthless masks")
            checked_box(box, shape)
        if point_coords is not None:
            checked_points(point_coords, point_labels, shape)

    def set_image(self, image):
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        self.encoded.append(image.copy())
        self.picture = image[..., 0].astype(np.float32)

    @property
    def embedding(self):
        if self.picture is None:
            raise InputError("no picture")
        return self.picture

    def set_embedding(self, embedding, shape):
        assert embedding.shape == shape
        self.picture = embedding

    def predict(self, point_coords=None, point_labels=None, box=None):
        height, width = self.picture.shape
        x0, y0, x1, y1 = np.round((0, 0, width, height) if box is None else box).astype(int)
        mask = np.zeros(self.picture.shape, bool)
        mask[y0:y1, x0:x1] = self.picture[y0:y1, x0:x1] > self.threshold
        for (x, y), inside in zip(point_coords or (), point_labels or (), strict=True):
            _, parts = cv2.connectedComponents(mask.astype(np.uint8))
            clicked = (parts == parts[int(y), int(x)]) & mask
            mask = clicked if inside and box is None else mask & ~clicked if not inside else mask
        self.asked.append(None if box is None else tuple(float(v) for v in box))
        return mask[None], np.array([self.quality(self.picture)], np.float32), np.zeros((1, 4, 4), np.float32)


def start_fake(bundle, threads, force):
    """In place of :func:`dfqsam.segment.job.start_worker`: the same, but for the model."""
    job.settle()
    job._predictor = Moody()


class Moody(Fake):
    """Dies on a picture whose corner is 255, and is at a loss where it is 254."""

    def set_image(self, image):
        super().set_image(image)
        if image[0, 0, 0] == 255:
            os._exit(9)
        if image[0, 0, 0] == 254:
            raise RuntimeError("Test^Name 19000101")
