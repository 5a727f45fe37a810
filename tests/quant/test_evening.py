"""Products whose channels are made alike: the same products, and rounding that does not mind uneven channels."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.config import QuantConfig
from dfqsam.quant.build import build_product
from dfqsam.quant.evening import QueriesAndKeys, Values
from dfqsam.quant.observe import factors
from dfqsam.quant.product import QuantizedProduct
from dfqsam.sam.sites import Product, Site, site_of

HEADS, KEYS, CHANNELS = 2, 24, 8


def site(name: str) -> Site:
    return site_of(f"blocks.0.attn.{name}", Product(), "attention")


def tensors(seed: int, spread: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values (B x heads x rows x channels), channels uneven by lognormal factors."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    query, key, value = (draw(3, HEADS, KEYS, CHANNELS) + draw(HEADS, 1, CHANNELS) for _ in range(3))
    by, own = ((spread * draw(HEADS, 1, CHANNELS)).exp() for _ in range(2))
    return query * by, key / by, value * own


def product(name: str, a: torch.Tensor, b: torch.Tensor, bits: int = 8, **settings: object) -> QuantizedProduct:
    flat = [x.flatten(0, -2) for x in factors(name, a, b)]
    seen = [torch.cat([x, x.amin(0, keepdim=True), x.amax(0, keepdim=True)]) for x in flat]
    return build_product(site(name), seen[0], seen[1], bits, replace(QuantConfig.of("W8A8"), **settings))


def test_factors_are_those_of_all_heads():
    query, key, value = tensors(0)
    first, second = factors("attn.matmul_qk", query, key.transpose(-2, -1))
    assert torch.equal(first[1, 5, CHANNELS + 2], query[1, 1, 5, 2])
    assert torch.equal(second[2, 7, CHANNELS + 3], key[2, 1, 7, 3])
    soft = (query @ key.transpose(-2, -1)).softmax(-1)
    first, second = factors("attn.matmul_av", soft, value)
    assert first is soft
    assert torch.equal(second[0, 9, CHANNELS + 1], value[0, 1, 9, 1])


def test_by_hand():
    both = QueriesAndKeys.of(torch.tensor([[4.0, -1.0], [-2.0, 0.5]]), torch.tensor([[3.0, 8.0], [1.0, -8.0]]))
    torch.testing.assert_close(both.ratio, torch.tensor([2.0, 8**-0.5]))
    torch.testing.assert_close(both.center, torch.tensor([2.0, 0.0]))
    values = Values.of(torch.tensor([[3.0, 8.0], [1.0, -8.0]]))
    torch.testing.assert_close(values.ratio, torch.tensor([1.0, 8.0]))
    torch.testing.assert_close(values.center, torch.tensor([2.0, 0.0]))
    dead = QueriesAndKeys.of(torch.zeros(2, 2), torch.zeros(2, 2))
    assert bool(dead.ratio.isfinite().all())


@given(st.integers(0, 2**31), st.floats(0, 2))
def test_evened_or_not_attention_is_the_same(seed, spread):
    query, key, value = tensors(seed, spread)
    keys = key.transpose(-2, -1)
    scores = query @ keys
    even = QueriesAndKeys.of(*(x.flatten(0, -2) for x in factors("matmul_qk", query, keys)))
    a, b = even.enter(query, keys)
    torch.testing.assert_close(even.leave(a @ b).softmax(-1), scores.softmax(-1), rtol=1e-3, atol=1e-5)
    reach = [x.abs().amax((0, 2)) for x in (a, b.transpose(-2, -1))]
    torch.testing.assert_close(reach[0], reach[1], rtol=1e-3, atol=1e-5)

    soft = scores.softmax(-1)
    even = Values.of(factors("matmul_av", soft, value)[1].flatten(0, -2))
    a, b = even.enter(soft, value)
    mixed = soft @ value
    torch.testing.assert_close(even.leave(a @ b), mixed, rtol=1e-3, atol=1e-4 * float(mixed.abs().max()))
    torch.testing.assert_close(b.abs().amax((0, 2)), torch.ones(HEADS, CHANNELS), rtol=1e-3, atol=0)


@pytest.mark.parametrize("bits", [4, 8])
def test_uneven_channels_cost_nothing_where_they_are_evened(bits):
    def errors(spread: float, evened: bool) -> tuple[float, float]:
        query, key, value = tensors(3, spread)
        keys = key.transpose(-2, -1)
        soft = (query @ keys).softmax(-1)
        rounded = product("matmul_qk", query, keys, bits, evened=evened)(query, keys).softmax(-1)
        true = soft @ value
        mixed = product("matmul_av", soft, value, bits, evened=evened)(soft, value)
        # Channel by channel: a wide one must not hide what happens to the others.
        apart = (mixed - true).square().sum((0, 2)) / true.square().sum((0, 2))
        return float((rounded - soft).norm() / soft.norm()), float(apart.mean().sqrt())

    plain, even = errors(1.0, False), errors(1.0, True)
    alike = errors(0.0, True)
    assert even[0] == pytest.approx(alike[0], rel=0.2)
    assert even[1] == pytest.approx(alike[1], rel=0.05)
    assert even[0] < 0.7 * plain[0]
    assert even[1] < 0.5 * plain[1]


def test_a_softmax_that_loses_its_small_shares_keeps_the_mean_of_the_values():
    """On a coarse grid shares of one in 24 become 0; values that have a mean of 5 must not fall with them."""
    soft = torch.full((1, HEADS, 1, KEYS), 0.5 / (KEYS - 1))
    soft[..., 0] = 0.5
    value = 5 + 0.1 * torch.randn(1, HEADS, KEYS, CHANNELS, generator=torch.Generator().manual_seed(0))
    found = [product("matmul_av", soft, value, 2, evened=evened)(soft, value).mean() for evened in (False, True)]
    assert abs(float(found[0]) - 5) > 1
    assert abs(float(found[1]) - 5) < 0.2
