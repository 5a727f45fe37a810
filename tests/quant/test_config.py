from dataclasses import replace

import pytest

from dfqsam.config import BLOCKS, INTEGER, PAPER, PRESETS, PROFILES, QuantConfig
from dfqsam.errors import InputError


def test_deployable_profiles_and_the_papers_settings_differ_in_what_they_quantize():
    for name in INTEGER:
        config = QuantConfig.of(name)
        assert config.deployable
        assert (config.weight_bits, config.activation_bits, config.gelu_bits) == (*PROFILES[name], 8)
        assert config.block is None
        assert config.keep == ("patch_embed", "layers.0")
    for name in PAPER:
        config = QuantConfig.of(name)
        assert not config.deployable
        assert config.gelu_bits == config.activation_bits
        assert (config.keep, config.edge_bits, config.depthwise, config.products) == ((), 8, "integer", True)
    assert not replace(QuantConfig.of("w8a8"), edge_bits=8).deployable
    assert not set(PROFILES) & set(PAPER)


def test_the_size_only_profile_rounds_weights_in_blocks_and_no_activations():
    both = ("weights", "biases")
    wanted = {"plain": ("biases",), "fast": both, "best": both, "taught": (*both, "decoder"), "distilled": both}
    assert wanted.keys() == PRESETS.keys()
    for preset, passes in wanted.items():
        config = QuantConfig.of("w4-only", preset)
        assert config.deployable
        assert (config.weight_bits, config.activation_bits, config.block) == (4, None, 32)
        assert config.passes == passes
    assert [replace(config, block=block).block for block in BLOCKS] == [32, 64, 128]


def test_an_unknown_profile_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="w8a8, w6a6, w4a8, w4a4, w4-only"):
        QuantConfig.of("w3a3")


def test_presets_say_what_mends_and_an_unknown_one_is_named():
    assert QuantConfig.of("w4a8").passes == PRESETS["fast"]
    assert QuantConfig.of("W4A4", "plain").passes == PRESETS["plain"]
    with pytest.raises(InputError, match="no preset 'slow'; choose one of plain, fast, best"):
        QuantConfig.of("w8a8", "slow")


@pytest.mark.parametrize(
    "field",
    [
        {"reparameterize": "mode"},
        {"upstream": "both"},
        {"depthwise": "half"},
        {"weight_bits": 1},
        {"activation_bits": 9},
        {"gelu_bits": 16},
        {"edge_bits": 0},
        {"rows": 0},
        {"passes": ("magic",)},
        {"passes": ("weights", "distillation", "biases")},
        {"layer_bits": (("neck.0", 9),)},
        {"activation_bits": None},
        {"block": 32},
        {"block": 512, "activation_bits": None, "weight_bits": 4},
        {"block": 32, "activation_bits": None},
        {"block": 32, "activation_bits": None, "weight_bits": 4, "passes": ("blocks",)},
    ],
    ids=lambda field: "-".join(field),
)
def test_settings_that_make_no_sense_are_refused(field):
    with pytest.raises(InputError):
        replace(QuantConfig(), **field)
