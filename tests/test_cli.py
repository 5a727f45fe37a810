import json
import shutil

import cv2
import numpy as np
import pytest
import skimage.data
from typer.testing import CliRunner

from dfqsam.assets import shipped_bundle
from dfqsam.cli import app
from dfqsam.config import SynthesisConfig
from dfqsam.errors import InputError
from dfqsam.imaging.raster import read_picture
from tests.commands import in_a_process


@pytest.fixture(scope="module")
def eye(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "eye.png"
    cv2.imwrite(str(path), skimage.data.retina()[..., ::-1])
    return path


def test_segment_with_the_shipped_bundle(eye, tmp_path):
    mask, overlay = tmp_path / "mask.png", tmp_path / "look.png"
    box = ("--box", "125,530,335,780")
    done = in_a_process("segment", eye, *box, "-o", mask, "--overlay", overlay, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report = json.loads(done.stdout)
    pixels = read_picture(mask)[..., 0]
    assert set(np.unique(pixels)) == {0, 255}
    assert report["pixels"] == int((pixels > 0).sum()) > 10_000
    assert read_picture(overlay).shape == (1411, 1411, 3)
    named = in_a_process("segment", shipped_bundle(), eye, *box, "-o", tmp_path / "again.png", "--json")
    assert json.loads(named.stdout)["pixels"] == report["pixels"]


def test_models_lists_what_is_known(dfqsam):
    known = json.loads(dfqsam("models", "--json").stdout)
    assert [model["name"] for model in known][:2] == ["lite-medsam", "mobile-sam"]
    assert known[0]["sha256"].startswith("79d8c9dc")
    assert "lite-medsam" in dfqsam("models").stdout


def test_a_users_mistakes_get_one_sentence_and_exit_code_2(dfqsam, eye, tmp_path):
    text = tmp_path / "text.png"
    text.write_text("no picture")
    blank = tmp_path / "blank.png"
    blank.write_bytes(b"")
    other = tmp_path / "other.pth"
    other.write_bytes(b"not a checkpoint at all")
    box, out = ("--box", "1,1,9,9"), ("-o", tmp_path / "m.png")
    broken = tmp_path / "broken"
    shutil.copytree(shipped_bundle(), broken)
    (broken / "decoder.onnx").unlink()
    cases = {
        ("segment", tmp_path / "none.png", *box, *out): "There is no file",
        ("segment", text, *box, *out): "no PNG, JPEG or TIFF picture",
        ("segment", blank, *box, *out): "is empty",
        ("segment", eye, "--box", "9,9,1,1", *out): "is empty",
        ("segment", eye, "--box", "1,1,9", *out): "give 4 numbers",
        ("segment", eye, "--box", "0,0,9999,9", *out): "reaches outside the picture",
        ("segment", eye, "--point", "5,5", *out): "was trained on boxes only",
        ("segment", eye, *out): "no prompt",
        ("segment", broken, eye, *box, *out): "decoder.onnx",
        ("quantize", other, "-o", tmp_path / "b"): "other.pth",
        ("quantize", tmp_path / "none.pth", "-o", tmp_path / "b"): "There is no checkpoint",
        ("quantize", "-o", tmp_path): "holds other files",
        ("quantize", "-o", tmp_path / "b", "--profile", "w2a2"): "choose one of w8a8",
        ("quantize", "-o", tmp_path / "b", "--method", "magic"): "choose one of auto, noise",
        ("quantize", "-o", tmp_path / "b", "--profile", "W4A4"): "which no device computes",
        ("quantize", "-o", tmp_path / "b", "--calibration", tmp_path): "holds no synthetic set",
        ("synthesize", "-o", tmp_path / "s", "--start", "cats"): "choose one of shapes, noise",
        ("synthesize", "-o", tmp_path / "s", "--images", "1", "--prior", text, "--prior-classes", "a,b"): "text.png",
        ("experiment", tmp_path, "-o", tmp_path / "e", "--rows", "cats"): "no calibration source",
        ("experiment", tmp_path, "-o", tmp_path / "e", "--seeds", "x"): "whole numbers",
        ("inspect", tmp_path / "nothing", "--sensitivity", tmp_path / "r"): "is no checkpoint file",
        ("inspect", tmp_path / "nothing"): "does not exist",
        ("models", "get", "sam-vit-h"): "cannot be fetched",
    }
    for number, (arguments, words) in enumerate(cases.items()):
        done = (dfqsam if number else in_a_process)(*arguments)  # once as a person starts it, then in this process
        assert done.returncode == 2, arguments
        assert words in done.stderr, done.stderr
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "b").exists()


def test_help_shows_an_example_for_every_command(dfqsam):
    for command in (
        ("synthesize",),
        ("quantize",),
        ("experiment",),
        ("segment",),
        ("inspect",),
        ("models",),
        ("models", "get"),
    ):
        done = dfqsam(*command, "--help")
        assert done.returncode == 0
        assert "Example:" in done.stdout
    assert dfqsam("--version").stdout.startswith("dfqsam ")
    assert dfqsam("fly").returncode == 2


def test_synthesize_without_options_makes_the_set_that_ships(tmp_path, monkeypatch):
    asked = []

    def make_images(_checkpoint, _output, config, *_):
        asked.append(config)
        raise InputError("enough seen")

    monkeypatch.setattr("dfqsam.pipeline.make_images", make_images)
    assert CliRunner().invoke(app, ["synthesize", "-o", str(tmp_path / "set")]).exit_code != 0
    assert asked == [SynthesisConfig("dfqsam")]
