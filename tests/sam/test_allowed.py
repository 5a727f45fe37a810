"""Checkpoints: what would run code is refused without effect, and what a site has not listed; safetensors are made."""

import builtins
import contextlib
import hashlib
import os
import pickle

import pytest
import torch
from safetensors import safe_open

from dfqsam.errors import CheckpointError, InputError
from dfqsam.sam import allowed
from dfqsam.sam.checkpoint import read_state
from dfqsam.sam.convert import convert


class Gadget:
    """Calls ``function`` with ``arguments`` when it is unpickled by a reader that lets it."""

    def __init__(self, function, *arguments) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def zipped(marker, path):
    """A shell command in PyTorch's zip."""
    torch.save({"model": {"image_encoder.a": torch.ones(2), "b": Gadget(os.system, f"touch {marker}")}}, path)


def bare(marker, path):
    """Code for eval in a bare pickle, as before PyTorch 1.6."""
    path.write_bytes(pickle.dumps({"a": Gadget(builtins.eval, f"__import__('os').mkdir({str(marker)!r})")}, protocol=2))


def layered(marker, path):
    """A tensor's own way of being rebuilt, asked to call something else."""

    class Tensor:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Gadget(os.mkdir, str(marker)), 0, (1,), (1,), False, {})

    torch.save({"image_encoder.a": Tensor()}, path)


@pytest.mark.parametrize("make", [zipped, bare, layered])
@pytest.mark.parametrize("verb", ["convert", "inspect", "quantize"])
def test_malicious_checkpoints_are_refused_without_effect(make, verb, tmp_path, dfqsam):
    path, marker = tmp_path / "evil.pth", tmp_path / "ran"
    make(marker, path)
    output = {
        "convert": ["-o", tmp_path / "o.safetensors"],
        "inspect": [],
        "quantize": ["-o", tmp_path / "b"],
    }
    done = dfqsam(verb, path, *output[verb])
    assert done.returncode == 2
    assert "could run code when it is read; nothing was run" in done.stderr
    assert done.stderr.count("\n") == 1
    assert {one.name for one in tmp_path.iterdir()} == {"evil.pth"}


def test_the_gadgets_would_run_where_nobody_stops_them(tmp_path):
    for number, make in enumerate((zipped, bare, layered)):
        path, marker = tmp_path / f"{number}.pth", tmp_path / f"ran{number}"
        make(marker, path)
        assert not marker.exists()
        with contextlib.suppress(RuntimeError, AttributeError):  # of what comes after
            torch.load(path, weights_only=False)
        assert marker.exists()


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "c.pth"
    shared = torch.arange(6.0).reshape(2, 3)
    torch.save({"state_dict": {"module.a": shared, "module.b": shared[:1], "module.c": shared.T}}, path)
    return path


def test_a_checkpoint_becomes_safetensors_once(checkpoint, tmp_path):
    output = tmp_path / "new" / "c.safetensors"
    made = convert(checkpoint, output)
    assert made.source == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert made.target == hashlib.sha256(output.read_bytes()).hexdigest()
    first, second = read_state(checkpoint), read_state(output)
    assert first.keys() == second.keys() == {"a", "b", "c"}
    assert all(torch.equal(first[key], second[key]) for key in first)
    with safe_open(output, "pt") as file:
        assert file.get_slice("c").get_shape() == [3, 2]
    with pytest.raises(InputError, match="is there already"):
        convert(checkpoint, output)
    with pytest.raises(InputError, match=r"ends in \.safetensors"):
        convert(checkpoint, tmp_path / "c.pth2")
    assert os.listdir(output.parent) == ["c.safetensors"]


def test_only_what_is_listed_is_read(checkpoint, tmp_path, monkeypatch):
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    known = tmp_path / "known.sha256"
    monkeypatch.setenv("DFQSAM_CHECKPOINTS", str(known))
    known.write_text(f"# approved\n\n{'0' * 64}  other.pth\n")
    with pytest.raises(CheckpointError, match=f"not on this site's list .* {digest}"):
        read_state(checkpoint)
    known.write_text(f"{digest.upper()} *{checkpoint.name}\n")
    assert read_state(checkpoint).keys() == {"a", "b", "c"}
    checkpoint.write_bytes(checkpoint.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match="not on this site's list"):
        read_state(checkpoint)
    for text, words in ((f"{digest[:63]} c.pth", "Line 1"), ("\xff", "is no SHA-256")):
        known.write_text(text)
        with pytest.raises(InputError, match=words):
            read_state(checkpoint)
    known.unlink()
    with pytest.raises(InputError, match="cannot be read"):  # a list that is named is never passed over
        read_state(checkpoint)


def test_the_list_of_the_site_counts_and_one_more_narrows_it(checkpoint, tmp_path, monkeypatch, dfqsam):
    site, mine, output = tmp_path / "checkpoints.sha256", tmp_path / "mine", tmp_path / "c.safetensors"
    monkeypatch.setattr(allowed, "site_file", lambda: site)
    line = f"{hashlib.sha256(checkpoint.read_bytes()).hexdigest()}  {checkpoint}\n"
    mine.write_text(line)
    command = ("convert", checkpoint, "-o", output, "--allowed-checkpoints", mine)
    site.write_text(f"{'0' * 64}\n")
    done = dfqsam(*command)
    assert done.returncode == 2  # what the site forbids, nobody allows
    assert str(site) in done.stderr
    site.write_text(line)
    mine.write_text("")
    done = dfqsam(*command)
    assert done.returncode == 2
    assert str(mine) in done.stderr
    mine.write_text(line)
    done = dfqsam(*command)
    assert done.returncode == 0
    # The lines of convert are such a list: of the checkpoint and of what it has become.
    site.write_text(done.stdout)
    assert read_state(output).keys() == {"a", "b", "c"}
    assert "DFQSAM_CHECKPOINTS" not in os.environ
