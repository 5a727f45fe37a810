"""SAM's mask decoder asked by boxes or points, for embeddings of any side.

segment_anything's own path is tied to the side of the embedding of its full input; synthesis runs at half of it for
most steps. Positions are relative to the image, so that the same prompts fit every side.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def decode(
    prompt_encoder: Any, mask_decoder: Any, embedding: Tensor, prompts: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """One mask for every prompt; differentiable in the embedding.

    Args:
        prompt_encoder, mask_decoder: segment_anything's modules.
        embedding: 1 x 256 x E x E.
        prompts: boxes, K x 4 (x0, y0, x1, y1), or one positive point each, K x 2 (x, y), in pixels of an image of side
            ``size``.

    Returns:
        Logits K x 4E x 4E and predicted IoU K.
    """
    logits, quality = decode_all(prompt_encoder, mask_decoder, embedding, prompts, size)
    return logits[:, 0], quality[:, 0]


def decode_all(
    prompt_encoder: Any, mask_decoder: Any, embedding: Tensor, prompts: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """As :func:`decode`, with all four masks of every prompt, the single one first and then whole, part and sub-part:
    logits K x 4 x 4E x 4E and predicted IoU K x 4."""
    coordinates = _scaled(prompt_encoder, prompts, size)
    if prompts.shape[1] == 4:
        sparse = prompt_encoder._embed_boxes(coordinates)
    else:
        sparse = prompt_encoder._embed_points(coordinates[:, None], prompts.new_ones(len(prompts), 1), pad=True)
    grid = (embedding.shape[2], embedding.shape[3])
    logits, quality = mask_decoder.predict_masks(
        image_embeddings=embedding,
        image_pe=prompt_encoder.pe_layer(grid)[None],
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(len(sparse), -1, *grid),
    )
    return logits, quality


def _scaled(prompt_encoder: Any, coordinates: Tensor, size: int) -> Tensor:
    """Pixels of the image in pixels of the model's input, as SAM's own transform scales them."""
    return coordinates.float() * (prompt_encoder.input_image_size[0] / size)
