"""What the two ONNX files compute, as torch modules: the encoder on uint8 pixels and the decoder on prompt tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class EncoderGraph(nn.Module):
    """uint8 RGB h x w x 3 (longest side resized to the input size, not padded) to embeddings 1 x 256 x E x E.

    Normalisation and padding are inside, so that no caller can get them wrong.
    """

    def __init__(self, encoder: nn.Module, normalise: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.encoder, self.normalise = encoder, normalise

    def forward(self, image: Tensor) -> Tensor:
        pixels = image.permute(2, 0, 1)[None].float() / 255
        return self.encoder(self.normalise(pixels))


class DecoderGraph(nn.Module):
    """SAM's prompt encoder and mask decoder on one prompt, with all four mask tokens.

    Inputs (float32): embedding 1 x 256 x E x E; point_coords 1 x N x 2 (x, y in pixels of the encoder's input);
    point_labels 1 x N (1 positive, 0 negative, 2 and 3 the corners of a box, -1 no point); mask_input 1 x 1 x 4E x 4E;
    has_mask_input 1 (0 or 1). Outputs: low_res_logits 1 x 4 x 4E x 4E and iou_predictions 1 x 4; the first is the
    single-mask token.

    Source: Segment Anything (Kirillov et al., 2023), appendix A.
    """

    prompt_encoder: Any
    mask_decoder: Any

    def __init__(self, prompt_encoder: nn.Module, mask_decoder: nn.Module) -> None:
        super().__init__()
        self.prompt_encoder, self.mask_decoder = prompt_encoder, mask_decoder

    def forward(
        self, embedding: Tensor, point_coords: Tensor, point_labels: Tensor, mask_input: Tensor, has_mask_input: Tensor
    ) -> tuple[Tensor, Tensor]:
        prompts, size = self.prompt_encoder, self.prompt_encoder.input_image_size
        unit = (point_coords + 0.5) / torch.tensor([size[1], size[0]], dtype=torch.float32)
        labels = point_labels[..., None]
        # Where there is no point, its position says nothing.
        sparse = prompts.pe_layer._pe_encoding(unit) * (labels != -1)
        sparse = sparse + prompts.not_a_point_embed.weight * (labels == -1)
        for code, embedded in enumerate(prompts.point_embeddings):
            sparse = sparse + embedded.weight * (labels == code)

        given = has_mask_input.reshape(1, 1, 1, 1)
        dense = prompts.mask_downscaling(mask_input) * given
        dense = dense + prompts.no_mask_embed.weight.reshape(1, -1, 1, 1) * (1 - given)
        return self.mask_decoder.predict_masks(
            image_embeddings=embedding,
            image_pe=prompts.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )
