import torch
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.quant.grid import Affine, fake_quantize
from dfqsam.quant.learn.steps import dropped, hard_codes, interval, leaning, log_straight, round_straight, round_to_step
from dfqsam.quant.logarithmic import Logarithmic, fake_quantize_log


@given(st.integers(2, 8), st.integers(0, 2**31), st.floats(1e-3, 10))
def test_rounding_is_that_of_the_grid(bits, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    x = 4 * torch.randn(50, generator=generator)
    scale = float(torch.tensor(scale))
    grid = Affine(scale, int(torch.randint(2**bits, (), generator=generator)), bits)
    assert torch.equal(round_to_step(x, torch.tensor(scale), grid), fake_quantize(x, grid))


def test_gradients_by_hand():
    # Step 0.5, codes -1 to 2: -3 is cut off at -1, 0.2 rounds to 0, 0.7 to 1, 9 is cut off at 2.
    x = torch.tensor([-3.0, 0.2, 0.7, 9.0], requires_grad=True)
    step = torch.tensor(0.5, requires_grad=True)
    weights = torch.tensor([1.0, 10.0, 100.0, 1000.0])
    (weights * round_to_step(x, step, Affine(0.5, 1, 2))).sum().backward()
    assert x.grad is not None
    assert step.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([0.0, 10.0, 100.0, 0.0]))
    # -1 and 2 where cut off; inside, code - x / step: 0 - 0.4 and 1 - 1.4.
    torch.testing.assert_close(step.grad, torch.tensor(-1.0 - 0.4 * 10 - 0.4 * 100 + 2 * 1000))


def test_gradients_pass_straight_through_rounding():
    x = torch.tensor([0.4, 0.6], requires_grad=True)
    y = round_straight(x)
    assert y.tolist() == [0.0, 1.0]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 1.0]
    grid = Logarithmic(1.0, 4)
    assert torch.equal(log_straight(x.detach(), grid), fake_quantize_log(x.detach(), grid))


def test_a_code_may_become_its_neighbour_towards_its_weight():
    codes, origin = torch.tensor([[3.0, 3.0, -8.0, 7.0]]), torch.tensor([[1.7, 1.2, -4.5, 9.0]])
    assert interval(codes, origin, torch.tensor([[0.5]]), 4).tolist() == [[3.0, 2.0, -8.0, 6.0]]
    # A grid that is turned round: 1.7 is the code -3.4.
    assert interval(-codes[:, :2], origin[:, :2], torch.tensor([[-0.5]]), 4).tolist() == [[-4.0, -3.0]]


@given(st.integers(2, 8), st.integers(0, 2**31))
def test_codes_that_lean_towards_their_weights_stay_the_codes_that_they_are(bits, seed):
    generator = torch.Generator().manual_seed(seed)
    origin = torch.randn(3, 4, 5, generator=generator)
    limit = 2 ** (bits - 1) - 1
    scale = origin.abs().amax(-1, keepdim=True) / limit
    codes = torch.randint(-limit, limit + 1, origin.shape, generator=generator).float()
    leant = leaning(codes, origin, scale)
    assert torch.equal(hard_codes(leant, bits), codes)
    assert bool(((leant - codes) * (origin / scale - codes) >= 0).all())
    near = (origin / scale).round()
    assert float((leaning(near, origin, scale) * scale - origin).abs().max()) <= 0.051 * float(scale.max())


def test_a_share_of_the_values_is_dropped():
    torch.manual_seed(0)
    x, rounded = torch.zeros(10_000), torch.ones(10_000)
    assert abs(float(dropped(rounded, x, 0.25).mean()) - 0.75) < 0.02
    assert dropped(rounded, x, 0.0) is rounded


@given(st.integers(0, 2**31), st.sampled_from([torch.float32, torch.bfloat16]))
def test_every_value_is_exactly_rounded_or_exactly_as_it_was_and_so_is_its_gradient(seed, kind):
    torch.manual_seed(seed)
    x, rounded = ((sign * (1 + 1000 * torch.rand(64))).to(kind).requires_grad_() for sign in (1, -1))  # never the same
    found = dropped(rounded, x, 0.5)
    as_it_was = found == x
    assert torch.equal(found, torch.where(as_it_was, x, rounded))
    found.sum().backward()
    assert torch.equal(x.grad, as_it_was.to(kind))
    assert torch.equal(rounded.grad, (~as_it_was).to(kind))
