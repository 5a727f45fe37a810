"""Key names of Hugging Face's ``SamModel`` as SAM's own."""

from __future__ import annotations

import re

from torch import Tensor

# In this order; each is applied to what the former left.
_RENAMES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^vision_encoder\.", "image_encoder."),
        (r"^image_encoder\.layers\.", "image_encoder.blocks."),
        (r"^image_encoder\.patch_embed\.projection\.", "image_encoder.patch_embed.proj."),
        (r"^image_encoder\.neck\.conv1\.", "image_encoder.neck.0."),
        (r"^image_encoder\.neck\.layer_norm1\.", "image_encoder.neck.1."),
        (r"^image_encoder\.neck\.conv2\.", "image_encoder.neck.2."),
        (r"^image_encoder\.neck\.layer_norm2\.", "image_encoder.neck.3."),
        (r"^prompt_encoder\.point_embed\.", "prompt_encoder.point_embeddings."),
        (r"^prompt_encoder\.mask_embed\.conv1\.", "prompt_encoder.mask_downscaling.0."),
        (r"^prompt_encoder\.mask_embed\.layer_norm1\.", "prompt_encoder.mask_downscaling.1."),
        (r"^prompt_encoder\.mask_embed\.conv2\.", "prompt_encoder.mask_downscaling.3."),
        (r"^prompt_encoder\.mask_embed\.layer_norm2\.", "prompt_encoder.mask_downscaling.4."),
        (r"^prompt_encoder\.mask_embed\.conv3\.", "prompt_encoder.mask_downscaling.6."),
        (r"^mask_decoder\.upscale_conv1\.", "mask_decoder.output_upscaling.0."),
        (r"^mask_decoder\.upscale_layer_norm\.", "mask_decoder.output_upscaling.1."),
        (r"^mask_decoder\.upscale_conv2\.", "mask_decoder.output_upscaling.3."),
        (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.0\.", r"\1.layers.1."),
        (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.proj_in\.", r"\1.layers.0."),
        (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.proj_out\.", r"\1.layers.2."),
        (r"layer_norm_final_attn\.", "norm_final_attn."),
        (r"\.layer_norm(\d)\.", r".norm\1."),
    )
)
_POSITIONS = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_SHARED = ("shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding")


def is_hugging_face(state: dict[str, Tensor]) -> bool:
    """Whether the keys are those of a ``SamModel``."""
    return any(key.startswith("vision_encoder.") for key in state)


def sam_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under SAM's names."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        if key in _SHARED:
            renamed[_POSITIONS] = value
            continue
        for pattern, name in _RENAMES:
            key = pattern.sub(name, key)
        renamed[key] = value
    return renamed
