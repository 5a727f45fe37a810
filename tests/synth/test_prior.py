import torch
import torch.nn.functional as F

from dfqsam.sam.decode import decode
from dfqsam.sam.model import prompt_modules
from dfqsam.synth import prior as prior_module
from dfqsam.synth.layouts import random_layouts
from dfqsam.synth.prior import AREAS, SAMSelfPrior, asked_boxes, asked_points, sure

SIZE, GRID = 64, 8


def modules():
    torch.manual_seed(0)
    parts = prompt_modules(GRID, SIZE)
    for part in parts:
        part.eval().requires_grad_(False)
    return parts


def test_decoding_equals_the_ordinary_path_at_full_size():
    prompts, decoder = modules()
    embedding, boxes = torch.randn(1, 256, GRID, GRID), torch.tensor([[3.0, 4, 20, 30], [0, 0, 63, 63]])
    sparse, dense = prompts(points=None, boxes=boxes, masks=None)
    wanted, quality = decoder(embedding, prompts.get_dense_pe(), sparse, dense, multimask_output=False)
    logits, found = decode(prompts, decoder, embedding, boxes, SIZE)
    assert torch.equal(logits, wanted[:, 0])
    assert torch.equal(found, quality[:, 0])
    points = torch.tensor([[10.0, 12], [40, 5]])
    sparse, dense = prompts(points=(points[:, None], torch.ones(2, 1)), boxes=None, masks=None)
    wanted, _ = decoder(embedding, prompts.get_dense_pe(), sparse, dense, multimask_output=False)
    assert torch.equal(decode(prompts, decoder, embedding, points, SIZE)[0], wanted[:, 0])


def test_half_the_embedding_decodes_boxes_of_any_image_and_has_a_gradient():
    prompts, decoder = modules()
    embedding = torch.randn(1, 256, GRID // 2, GRID // 2, requires_grad=True)
    boxes = torch.tensor([[3.0, 4, 20, 30]])
    logits, quality = decode(prompts, decoder, embedding, boxes, SIZE)
    assert logits.shape == (1, 2 * GRID, 2 * GRID)
    assert quality.shape == (1,)
    assert torch.allclose(logits, decode(prompts, decoder, embedding, 2 * boxes, 2 * SIZE)[0])
    logits.square().mean().backward()
    assert embedding.grad is not None
    assert embedding.grad.abs().sum() > 0


def test_prompts_lie_in_the_image_and_points_in_their_masks():
    masks = random_layouts(1, SIZE, 3)[0, :1]
    boxes = asked_boxes(masks, SIZE, torch.Generator().manual_seed(1))
    assert boxes.shape == (4, 4)
    assert 0 <= float(boxes.min()) <= float(boxes.max()) <= SIZE - 1
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    for x, y in asked_points(masks, torch.Generator().manual_seed(1)).long().tolist():
        assert masks[0, y, x]


def test_only_confident_stable_masks_of_fitting_area_are_kept():
    far = torch.full((6, 16, 16), -9.0)
    far[0, 4:8, 4:8] = 9  # good
    far[1, 4:8, 4:8] = 9  # not confident
    far[2] = F.pad(torch.full((4, 4), 0.5), (4, 8, 4, 8), value=-0.5)  # not stable
    far[4] = 9  # everything
    far[5, 4:8, 4:8] = 9
    found = sure(far, torch.tensor([0.8, 0.6, 0.9, 0.9, 0.9, 1.2]), SIZE)  # the fourth is empty
    assert [round(c.confidence, 3) for c in found] == [0.8, 1.0]
    assert AREAS[0] <= float(found[0].mask.float().mean()) <= AREAS[1]


def test_proposals_come_from_the_generator_and_empty_masks_are_no_problem(monkeypatch):
    prompts, decoder = modules()
    monkeypatch.setattr(prior_module, "sure", lambda logits, quality, size: [(logits, quality, size)])
    prior = SAMSelfPrior(prompts, decoder, ("box", "point", "mask"), SIZE)
    assert prior.describe() == {"kind": "self", "prompts": ["box", "point"]}
    images, embeddings = torch.rand(2, 3, SIZE, SIZE), torch.randn(2, 256, GRID, GRID)
    masks = random_layouts(2, SIZE, 1)
    masks[1] = False
    first, second = (prior.propose(images, embeddings, masks, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first[0][0][0], second[0][0][0])
    assert len(first[0]) == 2  # boxes and points
    assert len(first[1]) == 1  # no points without a mask
    monkeypatch.undo()
    assert len(prior.propose(images, embeddings, masks, torch.Generator())) == 2
