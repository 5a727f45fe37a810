import torch

from dfqsam.sam.tinyvit import TinyViTConfig, bias_table, fold_batch_norm
from dfqsam.sam.windows import partition, unpartition
from tests.small import tiny_encoder


def test_partition_comes_back_and_pads_with_the_vector():
    x = torch.randn(2, 10, 9, 3)
    pad = torch.tensor([1.0, 2.0, 3.0])
    windows = partition(x, 7, pad)
    assert windows.shape == (2 * 2 * 2, 49, 3)
    assert torch.equal(unpartition(windows, 7, 10, 9), x)
    assert torch.equal(windows[-1, -1], pad)


def test_biases_are_numbered_by_first_appearance():
    seen: dict[tuple[int, int], int] = {}
    tokens = [(y, x) for y in range(3) for x in range(3)]
    numbers = [[seen.setdefault((abs(a - c), abs(b - d)), len(seen)) for c, d in tokens] for a, b in tokens]
    biases = torch.randn(2, 9)
    assert torch.equal(bias_table(biases, 3), biases[:, torch.tensor(numbers)])


def test_folded_batch_norm_equals_convolution_then_norm():
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(4, 5, 3, bias=False), torch.nn.BatchNorm2d(5).eval()
    torch.nn.init.uniform_(norm.weight, 0.5, 2)
    torch.nn.init.uniform_(norm.bias)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.1, 2)
    state = {"a.c.weight": conv.weight.detach()} | {f"a.bn.{k}": v for k, v in norm.state_dict().items()}
    folded = fold_batch_norm(state)
    assert set(folded) == {"a.weight", "a.bias"}
    x = torch.randn(1, 4, 8, 8)
    got = torch.nn.functional.conv2d(x, folded["a.weight"], folded["a.bias"])
    torch.testing.assert_close(got, norm(conv(x)), rtol=1e-5, atol=1e-5)


def test_defaults_are_litemedsam():
    assert TinyViTConfig().image_size == 256


def test_what_a_site_writes_to_a_stream_is_added_to_what_the_site_names():
    encoder, seen = tiny_encoder(), {}
    sites = [site for site in encoder.sites() if site.stream is not None]
    assert [site.name for site in sites if "conv3" in site.name] == ["layers.0.blocks.0.conv3"]

    def keep(name, pick):
        def hook(_module, inputs, output):
            seen[name] = pick(inputs, output)

        return hook

    hooks = []
    for site in sites:
        hooks.append(encoder.get_submodule(site.name).register_forward_hook(keep(site.name, lambda _i, o: o)))
        hooks.append(encoder.get_submodule(site.stream).register_forward_hook(keep(site.stream, lambda i, _o: i[0])))
    blocks = [name for name in encoder.units() if ".blocks." in name]
    hooks += [encoder.get_submodule(name).register_forward_hook(keep(f"{name}!", lambda _i, o: o)) for name in blocks]
    encoder(torch.randn(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    for name in blocks:
        block = encoder.get_submodule(name)
        last = next(site for site in reversed(sites) if site.name.startswith(name))
        total = seen[last.stream] + seen[last.name]
        expected = torch.nn.functional.gelu(total) if hasattr(block, "conv3") else total
        torch.testing.assert_close(expected, seen[f"{name}!"])
