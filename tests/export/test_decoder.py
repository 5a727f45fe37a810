import numpy as np
import pytest
import torch

from dfqsam.export.graphs import DecoderGraph
from dfqsam.export.parity import decoder_dice, open_session
from dfqsam.export.trace import export_decoder
from dfqsam.quant.rounding import round_weights
from dfqsam.sam.upstream import segment_anything

GRID, SIZE = 8, 128


@pytest.fixture(scope="module")
def modules():
    torch.manual_seed(0)
    modeling = segment_anything("modeling")
    prompts = modeling.PromptEncoder(256, (GRID, GRID), (SIZE, SIZE), 16)
    transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
    decoder = modeling.MaskDecoder(transformer_dim=256, transformer=transformer)
    for module in (prompts, decoder):
        module.eval().requires_grad_(False)
        round_weights(module)
    return prompts, decoder


@pytest.fixture(scope="module")
def exported(modules):
    graph = DecoderGraph(*modules)
    return graph, export_decoder(graph, GRID)


POINTS = torch.tensor([[[10.0, 20.0], [90.0, 64.0], [33.0, 127.0]]])
BOX = torch.tensor([[5.0, 8.0, 100.0, 77.0]])


@pytest.mark.parametrize("kind", ["box", "points", "points and box", "box and mask"])
def test_every_prompt_equals_segment_anything(modules, exported, kind):
    prompts, decoder = modules
    torch.manual_seed(1)
    embedding, mask = torch.randn(1, 256, GRID, GRID), torch.randn(1, 1, 4 * GRID, 4 * GRID)
    labels = torch.tensor([[1, 0, 1]])
    points = (POINTS, labels) if "points" in kind else None
    boxes = BOX if "box" in kind else None
    masks = mask if "mask" in kind else None
    sparse, dense = prompts(points, boxes, masks)
    expected, quality = decoder.predict_masks(embedding, prompts.get_dense_pe(), sparse, dense)

    coords = [POINTS] if points else []
    codes = [labels.float()] if points else []
    coords.append(BOX.reshape(1, 2, 2) if boxes is not None else torch.zeros(1, 1, 2))
    codes.append(torch.tensor([[2.0, 3.0]]) if boxes is not None else torch.tensor([[-1.0]]))
    feeds = {
        "embedding": embedding,
        "point_coords": torch.cat(coords, 1),
        "point_labels": torch.cat(codes, 1),
        "mask_input": mask,
        "has_mask_input": torch.tensor([float(masks is not None)]),
    }
    found = open_session(exported[1]).run(None, {name: value.numpy() for name, value in feeds.items()})
    np.testing.assert_allclose(found[0], expected.numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[1], quality.numpy(), rtol=1e-3, atol=1e-4)


def test_rounded_weights_take_a_byte_each_and_masks_agree(exported):
    graph, model = exported
    parameters = sum(p.numel() for m in (graph.prompt_encoder, graph.mask_decoder) for p in m.parameters())
    assert model.ByteSize() < 1.1 * parameters
    embedding = np.random.default_rng(0).standard_normal((1, 256, GRID, GRID)).astype(np.float32)
    assert decoder_dice(model, graph, (embedding, embedding), seed=0) > 0.999
    other = np.random.default_rng(1).standard_normal((1, 256, GRID, GRID)).astype(np.float32)
    assert decoder_dice(model, graph, (embedding, other), seed=0) < 0.99
