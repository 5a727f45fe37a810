import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from dfqsam.errors import InputError
from dfqsam.synth.external import ExternalPrior

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
NAMES = ("background", "bright")
SIZE = 64


class Bright(torch.nn.Module):
    """Logits of background and of bright pixels."""

    def forward(self, x):
        bright = (x.mean(1, keepdim=True) - 0.5) * 20
        return torch.cat([-bright, bright], 1)


class Flat(torch.nn.Module):
    def forward(self, x):
        return x.mean(1)


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "bright.pt"
    torch.jit.save(torch.jit.trace(Bright(), torch.rand(1, 3, 8, 8)), str(path))
    return path


def graph(path: Path, side: int | str) -> Path:
    """The same network as ONNX: a 1 x 1 convolution."""
    weight = np.full((2, 3, 1, 1), 20 / 3, np.float32) * np.array([-1, 1], np.float32).reshape(2, 1, 1, 1)
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"])
    made = helper.make_graph(
        [node],
        "bright",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, side, side])],
        [
            helper.make_tensor("w", TensorProto.FLOAT, weight.shape, weight.ravel()),
            helper.make_tensor("b", TensorProto.FLOAT, [2], [10, -10]),
        ],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def images():
    """Two pictures: three bright squares of which one is dim, and nothing at all."""
    pictures = torch.zeros(2, 3, SIZE, SIZE)
    pictures[0, :, 4:16, 4:16] = 1
    pictures[0, :, 30:40, 30:40] = 0.9
    pictures[0, :, 50:62, 4:16] = 0.52
    return pictures


def propose(prior):
    masks = torch.zeros(2, 3, SIZE, SIZE, dtype=torch.bool)
    return prior.propose(images(), None, masks, torch.Generator())


def test_torchscript_and_onnx_find_the_sure_regions(script, tmp_path):
    for prior in (ExternalPrior(script, NAMES), ExternalPrior(graph(tmp_path / "b.onnx", "side"), NAMES)):
        first, second = propose(prior)
        assert second == []
        assert [c.name for c in first] == ["bright", "bright"]
        assert torch.equal(first[0].mask, images()[0, 0] == 1)
        assert 1 >= first[0].confidence >= first[1].confidence >= 0.7


def test_images_are_resized_to_what_the_network_takes(tmp_path):
    prior = ExternalPrior(graph(tmp_path / "b.onnx", 32), NAMES, input_size=32)
    mask, wanted = propose(prior)[0][0].mask, images()[0, 0] == 1
    assert mask.shape == (SIZE, SIZE)
    assert (mask & wanted).sum() >= 0.9 * (mask | wanted).sum()
    with pytest.raises(InputError, match="input size"):
        propose(ExternalPrior(tmp_path / "b.onnx", NAMES))


def test_the_provenance_names_the_file(script):
    told = ExternalPrior(str(script), NAMES).describe()
    digest = hashlib.sha256(script.read_bytes()).hexdigest()
    assert told == {"kind": "external", "file": "bright.pt", "sha256": digest, "classes": list(NAMES)}


def test_files_that_cannot_be_used_are_refused(script, tmp_path):
    with pytest.raises(InputError, match="no segmentation network"):
        ExternalPrior(tmp_path / "absent.pt", NAMES)
    with pytest.raises(InputError, match="Name the classes"):
        ExternalPrior(script, ("background",))
    for name in ("bad.pt", "bad.onnx"):
        (tmp_path / name).write_bytes(b"no network")
        with pytest.raises(InputError, match="export it again"):
            ExternalPrior(tmp_path / name, NAMES)
    with pytest.raises(InputError, match="1 x 3 x h x w"):
        propose(ExternalPrior(script, ("background", "a", "b")))
    flat = tmp_path / "flat.pt"
    torch.jit.save(torch.jit.trace(Flat(), torch.rand(1, 3, 8, 8)), str(flat))
    with pytest.raises(InputError, match="one plane"):
        propose(ExternalPrior(flat, NAMES))
