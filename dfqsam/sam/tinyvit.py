"""TinyViT image encoder of LiteMedSAM and MobileSAM, with batch norm folded and named quantization sites.

Channels-last throughout. Sources: TinyViT (Wu et al., ECCV 2022), MobileSAM (Zhang et al., 2023), LiteMedSAM (Ma).
LiteMedSAM differs in its patch embedding only: two 1x1 convolutions of stride 1, at 256 px, where MobileSAM has two 3x3
ones of stride 2, at 1024 px; both give a 256 x 256 grid of tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfqsam.sam.fused import attention, bottleneck
from dfqsam.sam.sites import ChannelsLastConv, Pointwise, Product, Site, neck, neck_sites, pointwise_weights, site_of
from dfqsam.sam.windows import Group, in_windows, partition, unpartition

BN_EPS = 1e-5


@dataclass(frozen=True)
class TinyViTConfig:
    """Sizes of a TinyViT; the defaults are those of LiteMedSAM and MobileSAM (5M)."""

    image_size: int = 256
    patch_stride: int = 1
    dims: tuple[int, ...] = (64, 128, 160, 320)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (2, 4, 5, 10)
    windows: tuple[int, ...] = (7, 7, 14, 7)
    out_channels: int = 256


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Module:
    if kernel == 1:
        return Pointwise(inputs, outputs)
    return ChannelsLastConv(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups)


class MBConv(nn.Module):
    """Inverted bottleneck: 1x1 expand, depthwise 3x3, 1x1 project, residual, GELU.

    Attributes:
        strips: compute it in so many strips of rows, see :mod:`dfqsam.sam.fused`.
    """

    strips = 1

    def __init__(self, dim: int, expand: int = 4) -> None:
        super().__init__()
        self.conv1 = _conv(dim, dim * expand)
        self.conv2 = _conv(dim * expand, dim * expand, 3, groups=dim * expand)
        self.conv3 = _conv(dim * expand, dim)

    def forward(self, x: Tensor) -> Tensor:
        if self.strips > 1:
            return bottleneck(x, (self.conv1, self.conv2, self.conv3), self.strips, residual=True)
        y = F.gelu(self.conv1(x))
        y = F.gelu(self.conv2(y))
        return F.gelu(self.conv3(y) + x)

    def sites(self, prefix: str) -> list[Site]:
        return [
            site_of(f"{prefix}.conv1", self.conv1, "residual"),
            site_of(f"{prefix}.conv2", self.conv2, "gelu"),
            site_of(f"{prefix}.conv3", self.conv3, "gelu", stream=prefix),
        ]


class PatchMerging(nn.Module):
    """1x1, depthwise 3x3 (of stride 2, or 1 where the grid is kept), 1x1; widens the channels.

    Attributes:
        strips: as in :class:`MBConv`.
    """

    strips = 1

    def __init__(self, dim: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(dim, out)
        self.conv2 = _conv(out, out, 3, stride, groups=out)
        self.conv3 = _conv(out, out)

    def forward(self, x: Tensor) -> Tensor:
        if self.strips > 1:
            return bottleneck(x, (self.conv1, self.conv2, self.conv3), self.strips, residual=False)
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))

    def sites(self, prefix: str) -> list[Site]:
        return [
            site_of(f"{prefix}.conv1", self.conv1, "residual"),
            site_of(f"{prefix}.conv2", self.conv2, "gelu"),
            site_of(f"{prefix}.conv3", self.conv3, "gelu"),
        ]


def bias_table(biases: Tensor, window: int) -> Tensor:
    """Learned biases (heads x window²), one per distance (|dy|, |dx|), as heads x window² x window² for every pair of
    tokens of a window. Two gathers of window x window indices, so that a graph stores the learned values only."""
    steps = torch.arange(window, device=biases.device)
    distance = (steps[:, None] - steps[None, :]).abs().flatten()
    grid = biases.reshape(-1, window, window)
    pairs = grid.index_select(1, distance).index_select(2, distance)
    pairs = pairs.reshape(-1, window, window, window, window)  # heads, qy, ky, qx, kx
    return pairs.transpose(2, 3).reshape(-1, window**2, window**2)


class WindowAttention(nn.Module):
    """LayerNorm and multi-head attention inside windows, with learned biases per offset.

    A padded token is zero before the norm, so its normalised value is the norm's bias and its qkv vector is
    ``qkv(norm.bias)``: the buffer ``qkv_pad``, set by :func:`load_tinyvit` and untouched by reparameterization. Outputs
    of ``qkv`` are the queries of all heads, then the keys, then the values, as in SAM's ViT (published weights have the
    three of each head together; :func:`load_tinyvit` sorts them).

    Attributes:
        fused: compute attention as one operator, see :mod:`dfqsam.sam.fused`.
    """

    fused = False

    qkv_pad: Tensor
    attention_biases: Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.matmul_qk, self.matmul_av = Product(), Product()
        self.register_buffer("qkv_pad", torch.zeros(3 * dim), persistent=False)
        self.register_buffer("attention_biases", torch.zeros(heads, window**2))

    def forward(self, x: Tensor) -> Tensor:
        height, width, dim = x.shape[1:]
        x, head, bias = self.norm(x), dim // self.heads, bias_table(self.attention_biases, self.window)
        if self.fused:
            flat = x.flatten(1, 2)

            def tokens(places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
                query, key, value = self.qkv(flat.index_select(1, places.to(x.device))).chunk(3, -1)
                return query, key, value

            def attend(query: Tensor, key: Tensor, value: Tensor, group: Group) -> Tensor:
                own = bias.unflatten(1, (self.window, -1))[:, : group.high, : group.wide].flatten(1, 2)
                return attention(query.flatten(1, 2), key, value, own[None], self.heads, head**-0.5)

            return self.proj(in_windows(tokens, self.qkv_pad, height, width, self.window, attend))
        mixed = self._attend(partition(self.qkv(x), self.window, self.qkv_pad), bias, head)
        return self.proj(unpartition(mixed, self.window, height, width))

    def _attend(self, qkv: Tensor, bias: Tensor, head: int) -> Tensor:
        """B x window² x 3C to B x window² x C."""
        split = qkv.reshape(-1, self.window**2, 3, self.heads, head).permute(2, 0, 3, 1, 4)
        query, key, value = split[0], split[1], split[2]
        scores = self.matmul_qk(query * head**-0.5, key.transpose(-2, -1)) + bias
        mixed = self.matmul_av(scores.softmax(-1), value)
        return mixed.transpose(1, 2).reshape(-1, self.window**2, self.heads * head)


class Mlp(nn.Module):
    """LayerNorm, Linear, GELU, Linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class TinyViTBlock(nn.Module):
    """Window attention, depthwise 3x3 and MLP; the first and last are residual branches."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.attn = WindowAttention(dim, heads, window)
        self.local_conv = _conv(dim, dim, 3, groups=dim)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.local_conv(x + self.attn(x))
        return x + self.mlp(x)

    def sites(self, prefix: str) -> list[Site]:
        attn, mlp = f"{prefix}.attn", f"{prefix}.mlp"
        return [
            site_of(f"{attn}.qkv", self.attn.qkv, "layernorm", f"{attn}.norm"),
            site_of(f"{attn}.matmul_qk", self.attn.matmul_qk, "attention"),
            site_of(f"{attn}.matmul_av", self.attn.matmul_av, "attention"),
            site_of(f"{attn}.proj", self.attn.proj, "attention", stream=attn),
            site_of(f"{prefix}.local_conv", self.local_conv, "residual"),
            site_of(f"{mlp}.fc1", self.mlp.fc1, "layernorm", f"{mlp}.norm"),
            site_of(f"{mlp}.fc2", self.mlp.fc2, "gelu", stream=mlp),
        ]


class Stage(nn.Module):
    """Blocks of one resolution, and the merging that leads to the next."""

    def __init__(self, blocks: list[MBConv] | list[TinyViTBlock], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class PatchEmbed(nn.Module):
    """Two convolutions with a GELU between."""

    def __init__(self, config: TinyViTConfig) -> None:
        super().__init__()
        half, full = config.dims[0] // 2, config.dims[0]
        kernel = 1 if config.patch_stride == 1 else 3
        stride = 1 if config.patch_stride == 1 else 2
        self.seq = nn.Sequential(_conv(3, half, kernel, stride), nn.GELU(), _conv(half, full, kernel, stride))

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


class TinyViT(nn.Module):
    """B x 3 x S x S normalised images to B x 256 x S/4 x S/4 (MobileSAM: S/16) embeddings."""

    def __init__(self, config: TinyViTConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size = config.image_size
        # What the folded batch norms remember of the training pictures; filled by load_tinyvit.
        self.batch_norm: dict[str, tuple[Tensor, Tensor]] = {}
        self.patch_embed = PatchEmbed(config)
        dims, last = config.dims, len(config.dims) - 1
        self.layers = nn.ModuleList()
        for i, depth in enumerate(config.depths):
            # The last merging keeps the grid; the others halve it.
            merge = PatchMerging(dims[i], dims[i + 1], 1 if i == last - 1 else 2) if i < last else None
            if i == 0:
                self.layers.append(Stage([MBConv(dims[0]) for _ in range(depth)], merge))
            else:
                blocks = [TinyViTBlock(dims[i], config.heads[i], config.windows[i]) for _ in range(depth)]
                self.layers.append(Stage(blocks, merge))
        self.neck = neck(dims[-1], config.out_channels)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images.permute(0, 2, 3, 1))
        for layer in self.layers:
            x = layer(x)
        return self.neck(x).permute(0, 3, 1, 2)

    def sites(self) -> list[Site]:
        """Every Linear, convolution and attention product, in the order of execution."""
        found = [
            site_of("patch_embed.seq.0", self.patch_embed.seq[0], "image"),
            site_of("patch_embed.seq.2", self.patch_embed.seq[2], "gelu"),
        ]
        for i, layer in enumerate(self.layers):
            for j, block in enumerate(layer.blocks):  # type: ignore[arg-type]
                found += block.sites(f"layers.{i}.blocks.{j}")
            if layer.downsample is not None:
                found += layer.downsample.sites(f"layers.{i}.downsample")  # type: ignore[operator]
        return found + neck_sites(self.neck)

    def stages(self) -> list[str]:
        """Parts behind which the resolution or the width changes."""
        return [f"layers.{i}" for i in range(len(self.layers))]

    def units(self) -> list[str]:
        """Parts that pictures pass one after the other, each taking what the one before gave, up to the neck."""
        found = ["patch_embed"]
        for i, layer in enumerate(self.layers):
            found += [f"layers.{i}.blocks.{j}" for j in range(len(layer.blocks))]  # type: ignore[arg-type]
            if layer.downsample is not None:
                found.append(f"layers.{i}.downsample")
        return [*found, "neck"]


def fold_batch_norm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replaces every ``X.c.weight`` + ``X.bn.*`` of a Conv_BN by the ``X.weight`` and ``X.bias`` of one convolution.

    The published names of all other entries stay. Computed in float64, so that folding costs no accuracy.
    """
    folded: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.endswith(".c.weight"):
            name = key.removesuffix(".c.weight")
            mean, var, gamma, beta = (
                state[f"{name}.bn.{part}"].double() for part in ("running_mean", "running_var", "weight", "bias")
            )
            gain = gamma / (var + BN_EPS).sqrt()
            folded[f"{name}.weight"] = (value.double() * gain[:, None, None, None]).to(value.dtype)
            folded[f"{name}.bias"] = (beta - mean * gain).to(value.dtype)
        elif ".bn." not in key:
            folded[key] = value
    return folded


def batch_norm_statistics(state: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and standard deviation (each C) that every Conv_BN's *output* had over the training pictures, by its name.

    A batch norm in evaluation mode maps its running mean to ``bias`` and its running deviation to ``|weight|``, so that
    these two say what pictures of the training distribution give behind the folded convolution.
    """
    names = [key.removesuffix(".c.weight") for key in state if key.endswith(".c.weight")]
    return {name: (state[f"{name}.bn.bias"].float(), state[f"{name}.bn.weight"].float().abs()) for name in names}


def load_tinyvit(config: TinyViTConfig, state: dict[str, Tensor]) -> TinyViT:
    """A TinyViT in evaluation mode with the published weights ``state`` (names as in MobileSAM, without a prefix)."""
    encoder = TinyViT(config)
    encoder.batch_norm = batch_norm_statistics(state)
    state = pointwise_weights(fold_batch_norm(state), encoder)
    for name, module in encoder.named_modules():
        if isinstance(module, WindowAttention):
            for key in (f"{name}.qkv.weight", f"{name}.qkv.bias"):
                if key in state:
                    parts = state[key].unflatten(0, (module.heads, 3, -1))
                    state[key] = parts.transpose(0, 1).flatten(0, 2)
    encoder.load_state_dict(state, strict=True)
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, WindowAttention):
                module.qkv_pad.copy_(module.qkv(module.norm.bias))
    return encoder.eval().requires_grad_(False)
