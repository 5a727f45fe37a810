"""The single file for devices computes what the package computes, bit for bit, and knows nothing of the package."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dfqsam.assets import shipped_bundle
from dfqsam.imaging import read_picture
from dfqsam.runtime import Predictor
from dfqsam.sam import geometry
from tests.deploy.world import EDGE, edge_module
from tests.evaluate.world import toy_bundle
from tests.imaging.test_raster import bomb, encoded

edge_infer = edge_module()
X86 = platform.machine().lower() in ("x86_64", "amd64")
SAME = 1.0 if X86 else 0.9999  # elsewhere OpenCV rounds sums of floats otherwise: share of pixels that agree
BOX = ["--box", "100", "100", "400", "400"]


@pytest.fixture(scope="module")
def both():
    """The package's predictor and the device's, of the bundle that ships."""
    return Predictor(shipped_bundle()), edge_infer.Edge(shipped_bundle(), allow_unsigned=True)


def boxes(chance, height, width, count):
    for _ in range(count):
        (x0, x1), (y0, y1) = (np.sort(chance.choice(side + 1, 2, replace=False)) for side in (width, height))
        yield [float(value) for value in (x0, y0, x1, y1)]


def compare(both, picture, chance, count) -> None:
    package, edge = both
    package.set_image(picture)
    edge.set_image(picture)
    assert np.array_equal(package.embedding, edge._embedding)
    for box in boxes(chance, *picture.shape[:2], count):
        (mask,), (quality,), _ = package.predict(box=box)
        found, predicted = edge.predict(box)
        assert found.dtype == np.bool_
        assert found.shape == picture.shape[:2]
        assert predicted == quality
        assert (found == mask).mean() >= SAME, (picture.shape, box)


@pytest.mark.parametrize("shape", [(512, 512), (300, 451), (131, 97), (700, 1)])
def test_masks_are_those_of_the_package_bit_for_bit(both, shape):
    chance = np.random.default_rng(shape[0])
    smooth = cv2.resize(chance.integers(0, 256, (6, 6, 3), np.uint8), shape[::-1], interpolation=cv2.INTER_CUBIC)
    picture = np.asarray(smooth).reshape(*shape, 3)
    compare(both, np.ascontiguousarray(picture[..., 0]) if shape[0] % 2 else picture, chance, 2)


@pytest.mark.slow
def test_masks_of_real_pictures_are_those_of_the_package(both):
    """Retina, microscopy and what of the medical pictures beside the repository is there."""
    chance = np.random.default_rng(0)
    folder = Path(__file__).parents[2].parent / "shared" / "data" / "medseg"
    files = sorted(folder.rglob("*.png"))
    chosen = [read_picture(path) for path in files[:: max(1, len(files) // 12)]]
    for picture in (skimage.data.retina(), skimage.data.immunohistochemistry(), skimage.data.cell(), *chosen):
        compare(both, picture, chance, 3)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([64, 256, 1024]), st.integers(0, 1 << 32))
def test_pictures_are_resized_as_opencv_does(height, width, size, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    wanted = geometry.resize_longest_side(picture, size)
    shape = edge_infer._shape(height, width, size)
    assert shape == wanted.shape[:2]
    if shape == (height, width):
        return
    resize = edge_infer._shrink if shape[0] * shape[1] < height * width else edge_infer._grow
    difference = np.abs(resize(picture, *shape).astype(int) - wanted)
    assert difference.max() <= (0 if X86 else 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300), st.integers(1, 300), st.integers(0, 1 << 32))
def test_logits_are_resized_as_opencv_does(height, width, tall, wide, seed):
    plane = np.random.default_rng(seed).normal(0, 9, (height, width)).astype(np.float32)
    wanted, found = cv2.resize(plane, (wide, tall)), edge_infer._interpolate(plane, tall, wide)
    assert np.array_equal(wanted, found) if X86 else np.allclose(wanted, found, atol=1e-3)
    if X86:  # as it is on processors without Intel's library
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(edge_infer, "X86", False)
            cv2.ipp.setUseIPP(False)
            try:
                assert np.array_equal(cv2.resize(plane, (wide, tall)), edge_infer._interpolate(plane, tall, wide))
            finally:
                cv2.ipp.setUseIPP(True)


def test_points_reach_the_decoder_as_the_package_sends_them(tmp_path):
    bundle = toy_bundle(tmp_path / "toy", 1, prompts=("box", "point"))
    package, edge = Predictor(bundle), edge_infer.Edge(tmp_path / "toy", allow_unsigned=True)
    picture = np.full((100, 90, 3), 70, np.uint8)
    package.set_image(picture)
    edge.set_image(picture)
    for prompt in (
        {"point_coords": [[30, 40]], "point_labels": [1]},
        {"point_coords": [[30, 40], [60, 60]], "point_labels": [1, 0], "box": [10, 20, 80, 90]},
        {"box": [[10, 20, 80, 90]]},
    ):
        (mask,), _, _low = package.predict(**prompt)
        names = {"point_coords": "points", "point_labels": "labels"}
        found, _ = edge.predict(**{names.get(key, key): value for key, value in prompt.items()})
        assert mask.any()
        assert np.array_equal(found, mask)


WRONG = {
    "no prompt": ({}, "There is no prompt"),
    "outside": ({"box": [0, 0, 41, 10]}, "outside the picture, which is 40 wide and 30 high"),
    "below zero": ({"box": [-1, 0, 4, 10]}, "outside"),
    "empty": ({"box": [4, 4, 4, 10]}, "The box is empty"),
    "three numbers": ({"box": [4, 4, 4]}, "A box has four numbers"),
    "eight numbers": ({"box": [1, 1, 2, 2, 3, 3, 4, 4]}, "The box is empty"),
    "words": ({"box": ["a", 1, 2, 3]}, "A box has four numbers"),
    "not finite": ({"box": [0, 0, float("nan"), 9]}, "outside"),
    "no label": ({"points": [[1, 1]]}, "Each point needs a label"),
    "label 2": ({"points": [[1, 1]], "labels": [2]}, "Each point needs a label"),
    "no points": ({"points": [], "labels": []}, "Each point needs a label"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_prompts_get_one_sentence(tmp_path, name):
    toy_bundle(tmp_path / "toy", 1, prompts=("box", "point"))
    edge = edge_infer.Edge(tmp_path / "toy", allow_unsigned=True)
    prompt, words = WRONG[name]
    with pytest.raises(edge_infer.EdgeError, match="No picture is set"):
        edge.predict([1, 1, 2, 2])
    edge.set_image(np.zeros((30, 40), np.uint8))
    with pytest.raises(edge_infer.EdgeError, match=words) as error:
        edge.predict(**prompt)
    assert "\n" not in str(error.value)


def test_a_prompt_that_the_model_does_not_know_is_refused(tmp_path):
    toy_bundle(tmp_path / "toy", 1)
    edge = edge_infer.Edge(tmp_path / "toy", allow_unsigned=True)
    edge.set_image(np.zeros((30, 40), np.uint8))
    with pytest.raises(edge_infer.EdgeError, match="trained on box only; a point is no use"):
        edge.predict(points=[[1, 1]], labels=[1])


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1"])
def test_png_pictures_are_read_as_the_package_reads_them(tmp_path, mode):
    rgb = np.random.default_rng(0).integers(0, 256, (19, 23, 3), np.uint8)
    image = Image.fromarray(rgb).convert("RGBA" if "A" in mode else "RGB").convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(rgb[..., 1]))
    image.save(tmp_path / "a.png", **({"transparency": 3} if mode == "P" else {}))
    found = edge_infer.read_picture(tmp_path / "a.png")
    assert found.shape == (19, 23, 3)
    assert np.array_equal(found, read_picture(tmp_path / "a.png"))


@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("turn", [None, 3, 6])
def test_jpeg_pictures_are_read_as_the_package_reads_them(tmp_path, sampling, turn):
    rgb = cv2.resize(np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8), (61, 47))
    exif = Image.Exif()
    if turn:
        exif[0x0112] = turn
    Image.fromarray(np.asarray(rgb)).save(tmp_path / "a.jpg", quality=88, subsampling=sampling, exif=exif)
    found, wanted = edge_infer.read_picture(tmp_path / "a.jpg"), read_picture(tmp_path / "a.jpg")
    assert found.shape == wanted.shape == ((61, 47, 3) if turn == 6 else (47, 61, 3))
    assert np.array_equal(found, wanted)


def test_hostile_pictures_get_one_sentence(tmp_path):
    deep = encoded(".png", np.zeros((4, 4, 3), np.uint16))
    whole = encoded(".png", np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8))
    cases = {
        "deep.png": (deep, "16 bits a value"),
        "bomb.png": (bomb() + whole[33:], "60000 x 60000 pixels"),
        "cut.png": (whole[:-4000], "no sound PNG or JPEG"),
        "cut.jpg": (encoded(".jpg", np.zeros((50, 50, 3), np.uint8))[:300], "no sound PNG or JPEG"),
        "text.png": (b"hello", "no sound PNG or JPEG"),
        "empty.png": (b"", "no sound PNG or JPEG"),
        "tiff.png": (encoded(".tiff", np.zeros((4, 4, 3), np.uint8)), "no sound PNG or JPEG"),
    }
    Image.new("CMYK", (4, 4)).save(tmp_path / "cmyk.jpg")
    cases["cmyk.jpg"] = ((tmp_path / "cmyk.jpg").read_bytes(), "CMYK")
    for name, (data, words) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(edge_infer.EdgeError, match=words) as error:
            edge_infer.read_picture(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(edge_infer.EdgeError, match="cannot be read"):
        edge_infer.read_picture(tmp_path / "none.png")


def alone(*arguments: object, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """The file run by an interpreter that has nothing of ours on its path."""
    keep = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CI", "GITHUB_ACTIONS", "TF_BUILD")}
    keep.pop("ORT_DISABLE_TELEMETRY", None)
    command = [sys.executable, *(("-c", code) if code else (EDGE,)), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=keep | environment, cwd="/", check=False)


def test_the_command_line_writes_the_mask_of_the_package(both, tmp_path):
    picture = skimage.data.retina()[::2, ::2]
    cv2.imwrite(str(tmp_path / "p.png"), np.ascontiguousarray(picture[..., ::-1]))
    home = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home" / "cache")}
    (tmp_path / "home").mkdir()
    done = alone(shipped_bundle(), tmp_path / "p.png", *BOX, "-o", tmp_path / "m.png", "--allow-unsigned", **home)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("Warning: ")
    assert done.stderr.count("\n") == 1
    both[0].set_image(picture)
    (mask,), (quality,), _ = both[0].predict(box=[100, 100, 400, 400])
    written = cv2.imread(str(tmp_path / "m.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(np.unique(written), [0, 255])
    assert ((written > 0) == mask).mean() >= SAME
    said = json.loads(done.stdout)
    assert said["predicted_iou"] == pytest.approx(float(quality), abs=0)
    assert said["bundle"] == both[0].bundle.sha256
    assert list((tmp_path / "home").rglob("*")) == []  # no telemetry, no caches


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "There is no picture"),
        (["none.png", *BOX], "none.png cannot be read"),
        (["none.png"], "cannot be read"),
    ],
)
def test_mistakes_get_one_sentence(words, said):
    done = alone(shipped_bundle(), *words, "--allow-unsigned", "--skip-self-test")
    assert done.returncode == 2
    assert done.stdout == ""
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_it_imports_numpy_onnxruntime_and_pillow_only(tmp_path):
    """Whatever those import themselves aside: the same interpreter is asked what they bring."""
    cv2.imwrite(str(tmp_path / "p.png"), np.full((40, 40, 3), 90, np.uint8))
    roots = "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    toy_bundle(tmp_path / "toy", 1)
    words = [str(tmp_path / "toy"), str(tmp_path / "p.png"), "--box", "5", "5", "30", "30", "--allow-unsigned"]
    run = f"import json, runpy, sys; sys.argv = ['edge', *{words}]\n"
    run += f"try: runpy.run_path({str(EDGE)!r}, run_name='__main__')\nexcept SystemExit as end: assert not end.code\n"
    brought = "import json, sys, numpy, onnxruntime, PIL.Image, PIL.ImageOps, PIL.PngImagePlugin, PIL.JpegImagePlugin\n"
    found, given_ = (set(json.loads(alone(code=code + roots).stdout.splitlines()[-1])) for code in (run, brought))
    assert {"numpy", "onnxruntime", "PIL"} <= found
    assert found - given_ - set(sys.stdlib_module_names) <= {"__main__", "edge_infer"}
    assert not found & {"dfqsam", "cv2", "torch", "cryptography", "streamlit"}


def test_it_measures_the_device(tmp_path):
    toy_bundle(tmp_path / "toy", 1)
    done = alone(tmp_path / "toy", "--bench", "2", "--allow-unsigned", "--threads", "1")
    said = json.loads(done.stdout)
    assert said["runs"] == 2
    assert 0 < said["image_p50_ms"] <= said["image_p95_ms"]
    assert 0 < said["prompt_p50_ms"] <= said["prompt_p95_ms"]
    assert 50 < said["peak_mb"] < 2000
