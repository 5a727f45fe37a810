"""SAM's mask decoder asked by boxes or points, for embeddings of any side.

segment_anything's own path is tied to the side of the embedding of its full input; synthesis runs at half of it for
most steps. Positions are relative to the image, so that the same prompts fit every side.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def decode(
    prompt_encoder: Any, mask_decoder: Any, embedding: Tensor, boxes: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """One mask for every box; differentiable in the embedding.

    Args:
        prompt_encoder, mask_decoder: segment_anything's modules.
        embedding: 1 x 256 x E x E.
        boxes: K x 4, x0, y0, x1, y1 in pixels of an image of side ``size``.

    Returns:
        Logits K x 4E x 4E and predicted IoU K.
    """
    sparse = prompt_encoder._embed_boxes(_scaled(prompt_encoder, boxes, size))
    return _decode(prompt_encoder, mask_decoder, embedding, sparse)


def decode_points(
    prompt_encoder: Any, mask_decoder: Any, embedding: Tensor, points: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """As :func:`decode`, with one positive point a mask: ``points`` is K x 2, x, y."""
    coordinates = _scaled(prompt_encoder, points, size)[:, None]
    sparse = prompt_encoder._embed_points(coordinates, points.new_ones(len(points), 1), pad=True)
    return _decode(prompt_encoder, mask_decoder, embedding, sparse)


def _scaled(prompt_encoder: Any, coordinates: Tensor, size: int) -> Tensor:
    """Pixels of the image in pixels of the model's input, as SAM's own transform scales them."""
    return coordinates.float() * (prompt_encoder.input_image_size[0] / size)


def _decode(prompt_encoder: Any, mask_decoder: Any, embedding: Tensor, sparse: Tensor) -> tuple[Tensor, Tensor]:
    grid = (embedding.shape[2], embedding.shape[3])
    dense = prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(len(sparse), -1, *grid)
    logits, quality = mask_decoder(
        image_embeddings=embedding,
        image_pe=prompt_encoder.pe_layer(grid)[None],
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    return logits[:, 0], quality[:, 0]
