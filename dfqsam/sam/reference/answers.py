"""SAM's mask decoder asked about many pictures at once, which segment_anything's own does picture by picture.

The arithmetic is that of ``MaskDecoder.predict_masks`` for its first token, the single mask. Prompts are in the form of
:mod:`dfqsam.sam.prompts`: points with labels 1 and 0, a box as two corners with labels 2 and 3, or one padding point
with label -1 where there is no box.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dfqsam.sam.prompts import BOTTOM_RIGHT, PADDING, TOP_LEFT


def prompt_of(
    boxes: Tensor | None = None, points: Tensor | None = None, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Coordinates N x P x 2 and labels N x P of boxes (N x 4), of points (N x K x 2, with labels N x K), or of both."""
    places, marks = ([points], [labels]) if points is not None and labels is not None else ([], [])
    if boxes is not None:
        places.append(boxes.reshape(-1, 2, 2))
        marks.append(boxes.new_tensor([TOP_LEFT, BOTTOM_RIGHT]).expand(len(boxes), 2))
    elif points is not None:
        places.append(points.new_zeros(len(points), 1, 2))
        marks.append(points.new_full((len(points), 1), PADDING))
    return torch.cat(places, 1), torch.cat(marks, 1)


def answer(
    prompt_encoder: Any, mask_decoder: Any, embedding: Tensor, coords: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """One mask for every prompt.

    Args:
        embedding: N x 256 x E x E, each prompt's picture.
        coords: N x P x 2, x and y in pixels of the encoder's input.
        labels: N x P.

    Returns:
        Logits N x 4E x 4E and the predicted IoU, N.
    """
    # Coordinates do not survive 8 bits of mantissa.
    with torch.autocast(embedding.device.type, enabled=False):
        sparse = _sparse(prompt_encoder, coords.float(), labels[..., None])
        positions = prompt_encoder.pe_layer(tuple(embedding.shape[2:]))[None]
    dense = prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    fixed = torch.cat([mask_decoder.iou_token.weight, mask_decoder.mask_tokens.weight])
    tokens = torch.cat([fixed.expand(len(coords), -1, -1), sparse], 1)
    places = positions.expand(len(coords), -1, -1, -1)
    seen, source = mask_decoder.transformer(embedding + dense, places, tokens)
    upscaled = mask_decoder.output_upscaling(source.transpose(1, 2).reshape(embedding.shape))
    weights = mask_decoder.output_hypernetworks_mlps[0](seen[:, 1])
    quality = mask_decoder.iou_prediction_head(seen[:, 0])[:, 0]
    logits = (weights[:, None] @ upscaled.flatten(2))[:, 0].unflatten(1, upscaled.shape[2:])
    return logits.float(), quality.float()


def _sparse(prompts: Any, coords: Tensor, labels: Tensor) -> Tensor:
    height, width = prompts.input_image_size
    unit = (coords + 0.5) / coords.new_tensor([width, height])
    # Where there is no point, its position says nothing.
    sparse = prompts.pe_layer._pe_encoding(unit) * (labels != PADDING)
    sparse = sparse + prompts.not_a_point_embed.weight * (labels == PADDING)
    for code, embedded in enumerate(prompts.point_embeddings):
        sparse = sparse + embedded.weight * (labels == code)
    return sparse


def enlarged(logits: Tensor, side: int) -> Tensor:
    """N x h x h linearly resized to N x side x side, as two products: their gradient is the same in every run on a GPU
    too, unlike that of torch's own interpolation."""
    if logits.shape[-1] == side:
        return logits
    with torch.autocast(logits.device.type, enabled=False):
        unit = torch.eye(logits.shape[-1], device=logits.device)[None]
        weights = torch.nn.functional.interpolate(unit, size=side, mode="linear")[0].T  # side x h
        return weights @ logits.float() @ weights.T
