import pytest
import torch

from dfqsam.errors import InputError
from dfqsam.quant.sensitivity import SiteError, chart, markdown, sensitivity
from tests.small import tiny_encoder


def test_every_site_is_judged_and_the_encoder_is_left_alone():
    torch.manual_seed(0)
    encoder, images = tiny_encoder(), torch.rand(2, 3, 64, 64)
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    before = encoder(images)
    steps = []
    coarse = sensitivity(encoder, encoder.sites(), images, 4, lambda: steps.append(1))
    fine = sensitivity(encoder, encoder.sites(), images, 8)

    assert [site.name for site in coarse] == [site.name for site in encoder.sites()]
    assert len(steps) == len(coarse)
    assert {site.kind for site in coarse} == {"linear", "conv", "depthwise", "product"}
    assert all(site.error > 0 for site in coarse)
    assert all(low.error < high.error for low, high in zip(fine, coarse, strict=True))
    assert torch.equal(encoder(images), before)
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())
    assert not any(module._forward_pre_hooks for module in encoder.modules())
    parameters = {site.name: site.parameters for site in coarse}
    assert parameters["patch_embed.seq.0"] == 3 * 8 + 8
    assert parameters["layers.1.blocks.0.attn.matmul_qk"] == 0
    with pytest.raises(InputError, match="2 to 8"):
        sensitivity(encoder, encoder.sites(), images, 9)


def test_the_last_site_by_hand():
    torch.manual_seed(0)
    encoder, images = tiny_encoder(), torch.rand(1, 3, 64, 64)
    site = encoder.sites()[-1]
    conv = encoder.get_submodule(site.name)
    (found,) = sensitivity(encoder, [site], images, 3)

    seen = []
    handle = conv.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    true = encoder(images)
    handle.remove()
    from dfqsam.quant.grid import fake_quantize, weight_codes, weight_scales
    from dfqsam.quant.ranges import search_range

    scale = weight_scales(conv.weight, 3)
    conv.weight.copy_(weight_codes(conv.weight, scale, 3) * scale[:, None, None, None])
    rounded = fake_quantize(seen[0], search_range(seen[0], 3))
    wrong = encoder.neck[3](conv(rounded)).permute(0, 3, 1, 2)
    assert found.error == pytest.approx(float((wrong - true).norm() / true.norm()), rel=1e-3)


def test_the_table_and_the_chart(tmp_path):
    found = [SiteError("a", "linear", "gelu", 0.1, 12), SiteError("b", "product", "attention", 0.5, 0)]
    assert markdown(found).splitlines()[2:] == [
        "| 2 | a | linear | gelu | 12 | 0.1000 |",
        "| 1 | b | product | attention | 0 | 0.5000 |",
    ]
    chart(found, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes()[:4] == b"\x89PNG"
    chart([], tmp_path / "empty.png")
