import torch

from dfqsam.sam.prompter import Answers, Prompter


def test_boxes_around_masks_by_hand():
    logits = -torch.ones(3, 8, 8)
    logits[0, 2:4, 5:8] = 1  # rows 2 and 3, columns 5 to 7, of a grid with two pixels a cell
    logits[2, 7, 0] = 1
    boxes = Prompter(None, None, ("box",), 16).around(Answers(torch.zeros(3, 1, 1), logits[:, None], torch.zeros(3, 1)))
    assert boxes.tolist() == [[10, 4, 15, 7], [0, 14, 1, 15]]  # the empty mask in the middle has none


def test_empty_masks_and_models_without_boxes_have_none():
    empty, full = (Answers(torch.zeros(2, 1, 1), sign * torch.ones(2, 1, 4, 4), torch.zeros(2, 1)) for sign in (-1, 1))
    assert Prompter(None, None, ("box",), 16).around(empty).shape == (0, 4)
    assert Prompter(None, None, ("box",), 16).around(full).tolist() == [[0, 0, 15, 15]] * 2
    assert Prompter(None, None, ("point",), 16).around(full).shape == (0, 4)
