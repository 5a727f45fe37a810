"""SAM's ViT image encoder, rewritten exactly, with named quantization sites; channels-last throughout.

Two changes that keep what it computes (methods: 11.1): qkv comes before the window partition, whose padding takes the
qkv vector of a zero token, and global attention runs over a few rows of queries at a time, which bounds its memory.
Source: Segment Anything (Kirillov et al., 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfqsam.sam.adapter import Adapter, adapter_weights
from dfqsam.sam.fused import attention
from dfqsam.sam.integer_attention import attention_on_integers
from dfqsam.sam.relative import by_offset, relative_bias, relative_terms, resample_grid, resample_table
from dfqsam.sam.sites import ChannelsLastConv, Product, Site, neck, neck_sites, pointwise_weights, site_of
from dfqsam.sam.windows import Group, in_windows, partition, unpartition


@dataclass(frozen=True)
class ViTConfig:
    """Sizes of a ViT encoder; the defaults are those of SAM ViT-B.

    Attributes:
        window: side of the attention windows in tokens; blocks in ``global_blocks`` have none.
        rows_per_chunk: rows of queries that global attention takes at a time.
    """

    image_size: int = 1024
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    window: int = 14
    out_channels: int = 256
    adapters: bool = False
    rows_per_chunk: int = 8

    @property
    def grid(self) -> int:
        """Tokens along a side."""
        return self.image_size // self.patch


class Attention(nn.Module):
    """Multi-head attention with decomposed relative positions, in windows (``window`` > 0) or over the whole grid.

    The buffer ``qkv_pad`` holds the qkv vector of a zero token, set at loading and untouched by reparameterization.

    Attributes:
        fused: compute attention as one operator, see :mod:`dfqsam.sam.fused`.
        on_integers: both products of attention over the whole grid, see :mod:`dfqsam.sam.integer_attention`.
    """

    fused = on_integers = False

    qkv_pad: Tensor
    rel_pos_h: Tensor
    rel_pos_w: Tensor

    def __init__(self, dim: int, heads: int, side: int, window: int, rows_per_chunk: int) -> None:
        super().__init__()
        self.heads, self.side, self.window, self.rows = heads, side, window, rows_per_chunk
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.matmul_qk, self.matmul_av = Product(), Product()
        self.register_buffer("rel_pos_h", torch.zeros(2 * side - 1, dim // heads))
        self.register_buffer("rel_pos_w", torch.zeros(2 * side - 1, dim // heads))
        self.register_buffer("qkv_pad", torch.zeros(3 * dim), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width, dim = x.shape[1:]
        qkv = self.qkv(x)
        if self.on_integers:
            return self.proj(self._whole_on_integers(qkv))
        if self.fused:
            return self.proj(self._fused_windows(qkv) if self.window else self._fused_whole(qkv))
        if self.window:
            mixed = self._attend(partition(qkv, self.window, self.qkv_pad), self.window)
            return self.proj(unpartition(mixed, self.window, height, width))
        mixed = self._attend(qkv.reshape(-1, height * width, 3 * dim), self.rows)
        return self.proj(mixed.reshape(-1, height, width, dim))

    def _attend(self, qkv: Tensor, rows: int) -> Tensor:
        """B x side² x 3C to B x side² x C, ``rows`` rows of queries at a time."""
        side, head = self.side, qkv.shape[-1] // (3 * self.heads)
        split = qkv.reshape(-1, side * side, 3, self.heads, head).permute(2, 0, 3, 1, 4)
        query, key, value = split[0], split[1], split[2]
        key = key.transpose(-2, -1)
        table_h, table_w = by_offset(self.rel_pos_h, side), by_offset(self.rel_pos_w, side)
        chunks = []
        for first in range(0, side, rows):
            count = min(rows, side - first)
            part = query[:, :, first * side : (first + count) * side]
            bias = relative_bias(part.reshape(-1, count, side, head), table_h, table_w, first)
            scores = self.matmul_qk(part * head**-0.5, key)
            scores = scores + bias.reshape(-1, self.heads, count * side, side * side)
            chunks.append(self.matmul_av(scores.softmax(-1), value))
        mixed = chunks[0] if len(chunks) == 1 else torch.cat(chunks, dim=2)
        return mixed.transpose(1, 2).reshape(-1, side * side, self.heads * head)

    def _fused_windows(self, qkv: Tensor) -> Tensor:
        """B x H x W x 3C to B x H x W x C in windows."""
        height, width = qkv.shape[1:3]
        query, key, value = (x.flatten(1, 2) for x in qkv.chunk(3, -1))

        def tokens(places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            own = places.to(qkv.device)
            return query.index_select(1, own), key.index_select(1, own), value.index_select(1, own)

        return in_windows(tokens, self.qkv_pad, height, width, self.window, self._fused)

    def _fused_whole(self, qkv: Tensor) -> Tensor:
        """B x H x W x 3C to B x H x W x C over the whole grid, a few rows of queries at a time."""
        query, key, value = qkv.chunk(3, -1)
        height, width, dim = query.shape[1:]
        key, value = (x.reshape(-1, height * width, dim) for x in (key, value))
        chunks = []
        for first in range(0, height, self.rows):
            part = query[:, first : first + self.rows]
            chunks.append(self._fused(part, key, value, first=first).reshape(part.shape))
        return chunks[0] if len(chunks) == 1 else torch.cat(chunks, dim=1)

    def _whole_on_integers(self, qkv: Tensor) -> Tensor:
        """B x H x W x 3C to B x H x W x C over the whole grid."""
        query, key, value = (self._by_head(x) for x in qkv.chunk(3, -1))
        terms = relative_terms(query, by_offset(self.rel_pos_h, self.side), by_offset(self.rel_pos_w, self.side))
        flat = (x.flatten(1, 2) for x in (query, key, value, *terms))
        mixed = attention_on_integers(*flat, query.shape[-1] ** -0.5).reshape(query.shape)
        return mixed.unflatten(0, (-1, self.heads)).permute(0, 2, 3, 1, 4).flatten(3)

    def _fused(self, query: Tensor, key: Tensor, value: Tensor, _: Group | None = None, first: int = 0) -> Tensor:
        """N x h x w x C queries, from row ``first`` on, over N x side² x C keys and values: N x (h w) x C."""
        own = self._by_head(query)
        table_h, table_w = by_offset(self.rel_pos_h, self.side), by_offset(self.rel_pos_w, self.side)
        bias = relative_bias(own, table_h, table_w, first).flatten(2).unflatten(0, (-1, self.heads))
        return attention(query.flatten(1, 2), key, value, bias, self.heads, own.shape[-1] ** -0.5)

    def _by_head(self, x: Tensor) -> Tensor:
        """N x h x w x C to (N heads) x h x w x C / heads."""
        return x.unflatten(-1, (self.heads, -1)).permute(0, 3, 1, 2, 4).flatten(0, 1)


class Mlp(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, 4 * dim)
        self.lin2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(F.gelu(self.lin1(x)))


class Block(nn.Module):
    """Attention and MLP, each behind a LayerNorm and beside a residual path."""

    def __init__(self, config: ViTConfig, windowed: bool) -> None:
        super().__init__()
        side = config.window if windowed else config.grid
        self.norm1 = nn.LayerNorm(config.width, eps=1e-6)
        window = config.window if windowed else 0
        self.attn = Attention(config.width, config.heads, side, window, config.rows_per_chunk)
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = Mlp(config.width)
        self.Adapter = Adapter(config.width) if config.adapters else None

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        normed = self.norm2(x)
        x = x + self.mlp(normed)
        return x if self.Adapter is None else x + self.Adapter(normed)

    def sites(self, prefix: str) -> list[Site]:
        attn, mlp, norm = f"{prefix}.attn", f"{prefix}.mlp", f"{prefix}.norm2"
        # An adapter reads the second norm too, so that scales cannot be moved out of it.
        fed = norm if self.Adapter is None else None
        return [
            site_of(f"{attn}.qkv", self.attn.qkv, "layernorm", f"{prefix}.norm1"),
            site_of(f"{attn}.matmul_qk", self.attn.matmul_qk, "attention"),
            site_of(f"{attn}.matmul_av", self.attn.matmul_av, "attention"),
            site_of(f"{attn}.proj", self.attn.proj, "attention", stream=f"{prefix}.norm1"),
            site_of(f"{mlp}.lin1", self.mlp.lin1, "layernorm", fed),
            site_of(f"{mlp}.lin2", self.mlp.lin2, "gelu", stream=norm),
            *([] if self.Adapter is None else self.Adapter.sites(f"{prefix}.Adapter")),
        ]


class PatchEmbed(nn.Module):
    """One convolution whose stride is its size; B x S x S x 3 to B x grid x grid x C."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.proj = ChannelsLastConv(3, config.width, config.patch, stride=config.patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class ViT(nn.Module):
    """B x 3 x S x S normalised images to B x 256 x S/16 x S/16 embeddings."""

    pos_embed: Tensor

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size = config.image_size
        self.patch_embed = PatchEmbed(config)
        self.register_buffer("pos_embed", torch.zeros(1, config.grid, config.grid, config.width))
        self.blocks = nn.ModuleList(Block(config, i not in config.global_blocks) for i in range(config.depth))
        self.neck = neck(config.width, config.out_channels)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images.permute(0, 2, 3, 1)) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.neck(x).permute(0, 3, 1, 2)

    def sites(self) -> list[Site]:
        """Every Linear, convolution and attention product, in the order of execution."""
        found = [site_of("patch_embed.proj", self.patch_embed.proj, "image")]
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            found += block.sites(f"blocks.{i}")
        return found + neck_sites(self.neck)

    def stages(self) -> list[str]:
        """Blocks of global attention, which end a stage each; the last block where there is none."""
        found = [f"blocks.{i}" for i in self.config.global_blocks]
        return found or [f"blocks.{len(self.blocks) - 1}"]

    def units(self) -> list[str]:
        """Parts that pictures pass one after the other, each taking what the one before gave, up to the neck; the patch
        embedding, to which positions are added, stands before them."""
        return [*(f"blocks.{i}" for i in range(len(self.blocks))), "neck"]


def load_vit(config: ViTConfig, state: dict[str, Tensor]) -> ViT:
    """A ViT in evaluation mode with the published weights ``state`` (SAM's names, without a prefix).

    Position tables are resampled to the size that ``config`` asks for; adapters are dropped unless it has them.
    """
    encoder = ViT(config)
    state = pointwise_weights(state, encoder)
    if not config.adapters:
        state = {key: value for key, value in state.items() if ".Adapter." not in key}
    state = adapter_weights(state)
    if "pos_embed" in state and state["pos_embed"].dim() == 4:
        state["pos_embed"] = resample_grid(state["pos_embed"], config.grid)
    for i in config.global_blocks:
        for key in (f"blocks.{i}.attn.rel_pos_h", f"blocks.{i}.attn.rel_pos_w"):
            if key in state and state[key].dim() == 2:
                state[key] = resample_table(state[key], 2 * config.grid - 1)
    encoder.load_state_dict(state, strict=True)
    for module in encoder.modules():
        if isinstance(module, Attention):
            module.qkv_pad.copy_(module.qkv.bias.detach())
    return encoder.eval().requires_grad_(False)
