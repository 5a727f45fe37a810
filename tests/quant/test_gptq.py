import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dfqsam.quant.gptq import damped, gptq, gptq_with_scales, weighted_error
from dfqsam.quant.grid import code_limits, pair_safe, weight_codes, widest_scales
from dfqsam.quant.ridge import ridge


def moments(groups: int, size: int, seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    rows = torch.randn(groups, 4 * size, size, dtype=torch.float64) @ torch.randn(
        groups, size, size, dtype=torch.float64
    )
    return rows.mT @ rows / rows.shape[1]


def by_solving_anew(weight: torch.Tensor, moment: torch.Tensor, scale: float, bits: int) -> torch.Tensor:
    """The definition: round one input, then let those left take the values that are best given all that is rounded."""
    size = len(weight)
    order = moment.diagonal().argsort(descending=True).tolist()
    codes, now = torch.zeros(size, dtype=weight.dtype), weight.clone()
    for position, place in enumerate(order):
        codes[place] = (now[place] / scale).round().clamp(*code_limits(bits))
        done, rest = order[: position + 1], order[position + 1 :]
        if rest:
            lost = weight[done] - codes[done] * scale
            now[rest] = weight[rest] + torch.linalg.solve(moment[rest][:, rest], moment[rest][:, done] @ lost)
    return codes


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 2), st.integers(1, 2), st.integers(1, 80), st.sampled_from([2, 4, 8]), st.integers(0, 10**6))
def test_it_is_what_solving_for_the_rest_after_every_rounding_gives(groups, outputs, size, bits, seed):
    moment = damped(moments(groups, size, seed), 0.01)
    weight = torch.randn(groups, outputs, size, dtype=torch.float64)
    scale = widest_scales(weight, bits)
    found = gptq(weight, moment, scale, bits, damping=0.0)
    for g in range(groups):
        for n in range(outputs):
            expected = by_solving_anew(weight[g, n], moment[g], float(scale[g, n]), bits)
            assert torch.equal(found[g, n], expected)


def test_an_input_makes_up_for_its_twin():
    weight = torch.tensor([[[0.4, 0.4]]], dtype=torch.float64)
    twins = torch.ones(1, 2, 2, dtype=torch.float64)
    codes = gptq(weight, twins, torch.ones(1, 1, dtype=torch.float64), 4, damping=1e-6)
    assert sorted(codes.flatten().tolist()) == [0.0, 1.0]  # 0.8 in sum, where rounding each alone gives 0
    assert abs(weighted_error(codes - weight, twins).item() - 0.2**2) < 1e-12


@given(st.integers(2, 8), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_inputs_that_know_nothing_of_each_other_are_rounded_to_nearest(bits, seed):
    torch.manual_seed(seed)
    weight = torch.randn(1, 3, 9, dtype=torch.float64)
    scale = widest_scales(weight, bits)
    codes = gptq(weight, torch.eye(9, dtype=torch.float64)[None], scale, bits)
    assert torch.equal(codes[0], weight_codes(weight[0], scale[0], bits).double())


@given(st.integers(1, 20), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_codes_are_safe_in_pairs_where_they_must_be(size, seed):
    weight = torch.randn(1, 4, size, dtype=torch.float64)
    codes, scales = gptq_with_scales(weight, moments(1, size, seed), 8, pairs=True)
    assert torch.equal(pair_safe(codes[0]), codes[0])
    assert float(codes.abs().max()) <= 127
    assert (scales > 0).all()  # at eight bits grids are symmetric


def test_the_scale_is_the_best_of_those_tried():
    moment = moments(2, 12, 0)
    weight = torch.randn(2, 5, 12, dtype=torch.float64)
    codes, scales = gptq_with_scales(weight, moment, 4)
    least = weighted_error(codes * scales[..., None] - weight, moment)
    whole = widest_scales(weight, 4)
    for share in (1.0, 0.9, 0.7, 0.5):
        scale = (whole * share).float().double()
        other = gptq(weight, moment, scale, 4) * scale[..., None]
        assert (least <= weighted_error(other - weight, moment) + 1e-12).all()


def test_ridge_is_the_least_squares_solution_with_the_penalty_as_further_rows():
    torch.manual_seed(0)
    inputs, missing = torch.randn(1, 50, 6, dtype=torch.float64), torch.randn(1, 50, 3, dtype=torch.float64)
    moment, cross = inputs.mT @ inputs / 50, missing.mT @ inputs / 50
    weight = 0.1 * moment.diagonal(dim1=-2, dim2=-1).mean()
    rows = torch.cat([inputs[0], (50 * weight).sqrt() * torch.eye(6, dtype=torch.float64)])
    wanted = torch.cat([missing[0], torch.zeros(6, 3, dtype=torch.float64)])
    assert torch.allclose(ridge(cross, moment, 0.1)[0].T, torch.linalg.lstsq(rows, wanted).solution)
