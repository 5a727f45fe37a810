import torch

from dfqsam.quant.variety import framed, softened, varied


def test_a_frame_is_zero_below_and_the_picture_above():
    x = torch.rand(1, 3, 8, 8) + 1
    assert not framed(x)[:, :, 6:].any()
    assert torch.equal(framed(x)[:, :, :6], x[:, :, :6])
    assert float(x.min()) >= 1


def test_softening_spreads_a_point_and_leaves_an_even_area_alone():
    point = torch.zeros(1, 1, 9, 9)
    point[..., 4, 4] = 256
    assert softened(point)[0, 0, 4, 2:7].tolist() == [6, 24, 36, 24, 6]
    assert softened(point)[0, 0, 2:7, 2].tolist() == [1, 4, 6, 4, 1]
    assert torch.equal(softened(torch.full((1, 3, 6, 6), 0.5)), torch.full((1, 3, 6, 6), 0.5))


def test_images_are_varied_in_turn():
    batches = list(torch.rand(6, 1, 3, 16, 16, generator=torch.Generator().manual_seed(5)))
    grey = batches[0].mean(1, keepdim=True).expand(-1, 3, -1, -1)
    found = varied(batches)
    assert torch.equal(found[0], grey)
    assert torch.equal(found[1], framed(batches[1]))
    assert torch.equal(found[2], softened(batches[2]))
    assert torch.equal(found[3][:, 0], found[3][:, 2])
    assert not found[3][:, :, 12:].any()
    assert torch.equal(found[4], batches[4])
    assert torch.equal(found[5], framed(batches[5]))
