import math

import pytest
import torch

from dfqsam.quant.learn.attention import SHARE, attention_losses, entropy, strengths, teach, temperatures_for


def features(seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(2, 6, 5, 8) * torch.rand(8).exp() * (1 + 3 * torch.rand(2, 6, 5, 1))


def test_both_attentions_are_distributions_of_the_entropy_that_is_asked_for():
    teacher = teach(features())
    for logarithms, size in ((teacher.spatial, 30), (teacher.channel, 8)):
        assert logarithms.exp().sum(1).tolist() == pytest.approx([1, 1], abs=1e-5)
        assert entropy(logarithms).tolist() == pytest.approx([SHARE * math.log(size)] * 2, rel=1e-3)


def test_images_of_a_batch_are_taught_as_if_each_were_alone():
    x, student = features(), features(1)
    together = attention_losses(student, teach(x))
    alone = [attention_losses(student[i : i + 1], teach(x[i : i + 1])) for i in range(2)]
    for loss, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(loss, sum(parts) / 2)


def test_strengths_by_hand():
    x = torch.tensor([[[[1.0, 10.0], [3.0, 20.0]]]])  # one image, one row, two tokens, two channels
    spatial, channel = strengths(x, torch.tensor([[[1.0, 10.0]]]))
    assert spatial.tolist() == [[1.0, 6.5]]  # (1 + 1) / 2 and (9 + 4) / 2
    torch.testing.assert_close(channel.exp(), torch.tensor([[5.0, 250.0]]))


def test_a_student_like_its_teacher_loses_nothing_and_another_one_loses():
    x = features()
    teacher = teach(x)
    for loss in attention_losses(x, teacher):
        assert abs(float(loss)) < 1e-6
    for loss in attention_losses(features(1), teacher):
        assert float(loss) > 0.01


def test_a_factor_common_to_all_features_leaves_the_channels_attention_alone():
    x = features()
    assert abs(float(attention_losses(3 * x, teach(x))[1])) < 1e-5


def test_equal_values_have_full_entropy_at_any_temperature():
    assert temperatures_for(torch.zeros(2, 5)).isfinite().all()
