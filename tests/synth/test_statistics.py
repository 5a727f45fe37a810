import torch

from dfqsam.sam.tinyvit import batch_norm_statistics
from dfqsam.synth.statistics import MomentTap, SetMoments, distance
from tests.small_sam import tiny_sam


def test_distance_by_hand():
    targets = {"a": (torch.tensor([1.0, 0.0]), torch.tensor([2.0, 1.0]))}
    exact = {"a": (torch.tensor([1.0, 0.0]), torch.tensor([5.0, 1.0]))}  # E[x²] = mean² + deviation²
    assert float(distance(exact, targets)) < 1e-6
    shifted = {"a": (torch.tensor([3.0, 0.0]), torch.tensor([13.0, 1.0]))}  # one deviation off in one of two channels
    assert abs(float(distance(shifted, targets)) - 0.5) < 1e-3
    wide = {"a": (torch.tensor([1.0, 0.0]), torch.tensor([1.0 + 4 * torch.e**2, 1.0]))}
    assert abs(float(distance(wide, targets)) - 0.5) < 1e-3


def test_a_channel_that_is_switched_off_says_nothing():
    targets = {"a": (torch.tensor([0.0, 5.0]), torch.tensor([1.0, 0.0]))}
    assert float(distance({"a": (torch.zeros(2), torch.ones(2))}, targets)) < 1e-6


def test_moments_are_those_of_the_layers_output():
    sam = tiny_sam()
    images = torch.rand(2, 3, 64, 64)
    name, outputs = "layers.0.blocks.0.conv1", []
    hook = sam.encoder.get_submodule(name).register_forward_hook(lambda m, i, o: outputs.append(o))
    with MomentTap(sam.encoder, {name: None}) as tap:
        sam.embed(images)
    hook.remove()
    torch.testing.assert_close(tap.moments[name][0], outputs[0].mean((1, 2)))
    torch.testing.assert_close(tap.moments[name][1], outputs[0].square().mean((1, 2)))
    assert not sam.encoder.get_submodule(name)._forward_hooks


def test_a_batch_is_judged_as_a_part_of_the_set():
    whole = SetMoments(4)
    first = {"a": (torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [9.0]]))}
    assert whole.with_batch(slice(0, 2), first)["a"][0].item() == 2
    whole.put(slice(0, 2), first)
    second = {"a": (torch.tensor([[5.0], [7.0]]).requires_grad_(), torch.tensor([[25.0], [49.0]]))}
    mean, square = whole.with_batch(slice(2, 4), second)["a"]
    assert (mean.item(), square.item()) == (4, 21)
    mean.sum().backward()
    assert second["a"][0].grad.tolist() == [[0.25], [0.25]]
    # The batch's own earlier moments do not count twice.
    whole.put(slice(2, 4), {"a": (second["a"][0].detach() * 9, second["a"][1])})
    assert whole.with_batch(slice(2, 4), second)["a"][0].item() == 4


def test_statistics_come_from_the_batch_norm_behind_each_convolution():
    state = {
        "x.c.weight": torch.zeros(2, 1, 1, 1),
        "x.bn.bias": torch.tensor([0.5, -1.0]),
        "x.bn.weight": torch.tensor([-2.0, 3.0]),
    }
    mean, deviation = batch_norm_statistics(state)["x"]
    assert mean.tolist() == [0.5, -1.0]
    assert deviation.tolist() == [2.0, 3.0]
