"""Pictures of chosen cases with the masks of both models; they are patients' data and are made on request only."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from dfqsam.errors import InputError
from dfqsam.evaluate.measure import Settings
from dfqsam.evaluate.models import Models
from dfqsam.evaluate.prompts import make
from dfqsam.evaluate.rows import Row
from dfqsam.evaluate.samples import Box, Mask, Sample
from dfqsam.progress import track
from dfqsam.runtime.overlay import panel

LEAST, MOST = 384, 512  # pixels of the longest side
AROUND, SMALLEST = 1.0, 64  # of an object, as part of its size; pixels of what is shown at least


def _region(masks: Sequence[Mask], box: Box | None, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns around what either model drew and the box; the whole picture where there is nothing."""
    rows, columns = np.nonzero(np.logical_or.reduce([np.asarray(mask, bool) for mask in masks]))
    if box is not None:
        rows, columns = np.append(rows, [int(box[1]), int(box[3])]), np.append(columns, [int(box[0]), int(box[2])])
    if not len(rows):
        return slice(0, shape[0]), slice(0, shape[1])
    size = max(int(np.ptp(rows)), int(np.ptp(columns))) + 1
    side = max(SMALLEST, round(size * (1 + 2 * AROUND)))
    found = []
    for values, length in ((rows, shape[0]), (columns, shape[1])):
        start = (int(values.min()) + int(values.max()) - side) // 2
        start = max(0, min(start, length - side))
        found.append(slice(start, min(length, start + side)))
    return found[0], found[1]


def draw(
    rows: Sequence[Row], indices: Sequence[int], samples: Sequence[Sample], models: Models, settings: Settings
) -> list[tuple[int, bytes]]:
    """Index and JPEG (full precision, quantized, difference side by side) of every row asked for, cut to the object
    and as much again on each side."""
    by_key = {sample.key: sample for sample in samples}
    predictors = models.predictors()
    found = []
    for i in track(list(indices), "Drawing the worst cases"):
        sample = by_key[rows[i].case]
        picture = sample.picture()
        mask = None if sample.reference is None else sample.reference()
        shape = picture.shape[0], picture.shape[1]
        prompt = make(rows[i].prompt, sample.key, settings.seed, shape, mask, sample.box)
        masks = []
        for predictor in predictors:
            predictor.set_image(picture)
            answer = np.asarray(predictor.predict(prompt.points, prompt.labels, prompt.box)[0][0], np.uint8)
            masks.append(answer)
        rows_shown, columns_shown = _region(masks, prompt.box, shape)
        picture = np.ascontiguousarray(picture[rows_shown, columns_shown])
        masks = [np.ascontiguousarray(mask[rows_shown, columns_shown]) for mask in masks]
        shape = picture.shape[0], picture.shape[1]
        scale = min(max(max(shape), LEAST), MOST) / max(shape)
        size = max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))
        small = np.asarray(
            cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), np.uint8
        )
        full, quantized = (cv2.resize(m, size, interpolation=cv2.INTER_NEAREST) for m in masks)
        corner = (columns_shown.start, rows_shown.start) * 2
        box = None
        if prompt.box is not None:
            box = [(value - start) * scale for value, start in zip(prompt.box, corner, strict=True)]
        encoded, data = cv2.imencode(".jpg", np.ascontiguousarray(panel(small, full, quantized, box)[..., ::-1]))
        if not encoded:
            raise InputError(f"Case {i + 1} cannot be drawn: a picture of shape {picture.shape} does not encode.")
        found.append((i, data.tobytes()))
    return found
