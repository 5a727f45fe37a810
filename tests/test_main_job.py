"""The main job as people do it: images are formed, the encoder is quantized, the bundle is looked at and segments."""

import json

import cv2
import pytest
import skimage.data

from dfqsam.bundle import open_bundle
from tests.audited import audited_run, strange_files
from tests.commands import in_a_process

JOB = """
import contextlib, io
from dfqsam.cli import app
folder, profile, preset = sys.argv[1:]
def run(*arguments):
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        app([*arguments, "--json"], standalone_mode=False)
    return json.loads(told.getvalue())
images, bundle = folder + "/images", folder + "/bundle"
made = run("synthesize", "-o", images, "--images", "2", "--steps", "1")
watch()
options = ("--profile", profile, "--preset", preset, "--calibration", images, "--with-full-precision")
done = run("quantize", "-o", bundle, *options)
tell(made=made, done=done)
"""


@pytest.fixture(scope="module", params=[("w4a4", "plain"), pytest.param(("w4a8", "fast"), marks=pytest.mark.slow)])
def job(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    return audited_run(JOB, folder, *request.param), folder, *request.param


def test_images_are_formed_and_the_encoder_quantized_on_them(job):
    report, folder, profile, _ = job
    assert report["made"]["statement"].endswith("no image was read.")
    assert {path.name for path in (folder / "images").iterdir()} == {
        *("synthetic.safetensors", "provenance.json", "sheet.png")
    }
    assert report["done"]["profile"] == profile
    manifest = open_bundle(folder / "bundle").manifest
    sizes = {name: record.bytes for name, record in manifest.files.items()}
    assert sizes["encoder.onnx"] < sizes["encoder_fp32.onnx"] / 6
    assert manifest.quantization["parity"]["lockstep"] < 1e-3
    assert manifest.calibration["origin"] == "a synthetic set that was made before"
    assert manifest.calibration["sha256"] == report["made"]["sha256"]
    assert manifest.calibration["images"] == 2
    # The few that matter most are a matter of w4a8.
    assert bool(manifest.quantization["layer_bits"]) == (profile == "w4a8")


def test_quantize_opens_nothing_but_checkpoint_libraries_images_and_output(job):
    report, folder, *_ = job
    assert strange_files(report, folder) == []
    assert report["sockets"] == []
    # The hook was awake: it saw the bundle being written.
    assert [path for path in report["seen"] if path.startswith(str(folder)) and path.endswith("manifest.json")]


def test_the_bundle_is_looked_at_and_segments(job, tmp_path):
    bundle = job[1] / "bundle"
    described = json.loads(in_a_process("inspect", bundle, "--json").stdout)
    assert described["model"]["title"] == "LiteMedSAM"
    operators = json.loads(in_a_process("inspect", bundle, "--kernels", "--json").stdout)
    assert len(operators) == open_bundle(bundle).manifest.quantization["quantized_layers"]
    assert set(operators.values()) == {"MatMulIntegerToFloat"}
    eye = tmp_path / "eye.png"
    cv2.imwrite(str(eye), skimage.data.retina()[..., ::-1])
    again = in_a_process("segment", bundle, eye, "--box", "125,530,335,780", "-o", tmp_path / "m.png")
    assert again.returncode == 0, again.stderr
