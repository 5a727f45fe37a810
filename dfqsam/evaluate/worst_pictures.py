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
from dfqsam.evaluate.samples import Sample
from dfqsam.progress import track
from dfqsam.runtime.overlay import panel

LEAST, MOST = 384, 512  # pixels of the longest side


def draw(
    rows: Sequence[Row], indices: Sequence[int], samples: Sequence[Sample], models: Models, settings: Settings
) -> list[tuple[int, bytes]]:
    """Index and JPEG (full precision, quantized, difference side by side) of every row asked for."""
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
        scale = min(max(max(shape), LEAST), MOST) / max(shape)
        size = max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))
        small = np.asarray(
            cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), np.uint8
        )
        full, quantized = (cv2.resize(m, size, interpolation=cv2.INTER_NEAREST) for m in masks)
        box = None if prompt.box is None else [value * scale for value in prompt.box]
        encoded, data = cv2.imencode(".jpg", np.ascontiguousarray(panel(small, full, quantized, box)[..., ::-1]))
        if not encoded:
            raise InputError(f"Case {i + 1} cannot be drawn: a picture of shape {picture.shape} does not encode.")
        found.append((i, data.tobytes()))
    return found
