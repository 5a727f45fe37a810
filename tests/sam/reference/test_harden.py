import pytest
import torch

from dfqsam.errors import InputError
from dfqsam.sam.model import load_sam
from dfqsam.sam.reference.harden import harden
from dfqsam.sam.reference.model import Learner, Sizes, published_form


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    learner = Learner(Sizes(128, 3), seed=1)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, value in learner.image_encoder.named_parameters():
            if value.dim() == 1 or "rel_pos" in name:
                value.add_(0.3 * torch.randn_like(value))
    return published_form(learner, learner.state_dict())


def norms(state, image) -> dict[str, torch.Tensor]:
    """The largest magnitude of each channel behind every LayerNorm of a block, and of values."""
    encoder, found = load_sam(state).encoder, {}

    def look(name):
        return lambda _m, _i, output: found.__setitem__(name, output.abs().flatten(0, -2).amax(0))

    for i, block in enumerate(encoder.blocks):
        for name in ("norm1", "norm2", "attn.qkv"):
            block.get_submodule(name).register_forward_hook(look(f"{i}.{name}"))
    with torch.no_grad():
        encoder(image)
    return found


def test_the_function_stays_and_ranges_become_uneven(state):
    image = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    hard = harden(state, 1.0, seed=3)
    with torch.no_grad():
        plain, same = (load_sam(one).encoder(image) for one in (state, hard))
    assert float((same - plain).norm() / plain.norm()) < 1e-4
    before, after = norms(state, image), norms(hard, image)
    for name in before:
        factors = (after[name] / before[name]).log()
        thirds = factors.chunk(3) if name.endswith("qkv") else [factors]
        for part in thirds:
            assert 0.75 < float(part.std()) < 1.25  # the spread that was asked for
        assert float(after[name].max() / after[name].min()) > 30
    norm = torch.cat([(after[n] / before[n]).log() for n in before if "norm" in n])
    assert float((norm.max() - norm.min()).exp()) > 100


def test_queries_and_keys_trade_factors(state):
    hard, name = harden(state, 1.0), "image_encoder.blocks.0.attn.qkv.bias"
    query, key, _ = (hard[name] / state[name]).chunk(3)
    torch.testing.assert_close(query * key, torch.ones_like(query))
    torch.testing.assert_close(query[:64], query[64:])  # the tables of positions are shared by the heads


def test_no_spread_changes_nothing_and_the_seed_decides(state):
    assert all(torch.equal(value, state[name]) for name, value in harden(state, 0.0).items())
    one, same, other = (harden(state, 1.0, seed)["image_encoder.blocks.0.norm1.weight"] for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_what_cannot_be_hardened_is_refused(state):
    with pytest.raises(InputError, match="adapters"):
        harden({**state, "image_encoder.blocks.0.Adapter.norm.weight": torch.ones(128)})
    with pytest.raises(InputError, match="spread"):
        harden(state, -1.0)
