import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfqsam.errors import InputError
from dfqsam.imaging.raster import read_picture, write_mask, write_picture


def encoded(kind: str, array: np.ndarray) -> bytes:
    done, data = cv2.imencode(kind, array)
    assert done
    return data.tobytes()


@pytest.mark.parametrize("kind", [".png", ".tiff", ".jpg"])
def test_colours_come_back_as_rgb(tmp_path, kind):
    rgb = np.zeros((20, 30, 3), np.uint8)
    rgb[..., 0], rgb[..., 2] = 200, 40
    (tmp_path / f"a{kind}").write_bytes(encoded(kind, rgb[..., ::-1]))
    assert np.abs(read_picture(tmp_path / f"a{kind}").astype(int) - rgb).max() <= 4


def test_grey_alpha_and_16_bits(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    (tmp_path / "g.png").write_bytes(encoded(".png", grey))
    assert np.array_equal(read_picture(tmp_path / "g.png"), np.repeat(grey[..., None], 3, 2))
    (tmp_path / "a.png").write_bytes(encoded(".png", np.dstack([grey] * 4)))
    assert read_picture(tmp_path / "a.png").shape == (3, 4, 3)
    deep = np.array([[1000, 2000], [3000, 5000]], np.uint16)
    for kind in (".png", ".tiff"):
        (tmp_path / f"d{kind}").write_bytes(encoded(kind, deep))
        assert read_picture(tmp_path / f"d{kind}")[..., 0].tolist() == [[0, 64], [128, 255]]


def test_masks_are_written_as_0_and_255_and_read_back(tmp_path):
    mask = np.eye(5, dtype=bool)
    write_mask(tmp_path / "m.png", mask)
    assert np.array_equal(read_picture(tmp_path / "m.png")[..., 0], np.where(mask, 255, 0))
    with pytest.raises(InputError, match=r"\.png"):
        write_mask(tmp_path / "m.jpg", mask)
    with pytest.raises(InputError, match="cannot be written"):
        write_picture(tmp_path / "none" / "m.png", np.zeros((2, 2, 3), np.uint8))


def bomb() -> bytes:
    """A PNG of 60000 x 60000 pixels in a few bytes."""
    header = struct.pack(">2I5B", 60000, 60000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + chunk


def test_hostile_files_get_one_sentence(tmp_path, capfd):
    whole = encoded(".png", np.random.default_rng(0).integers(0, 255, (50, 50), np.uint8))
    files = {
        "text.png": (b"hello, world", "no PNG, JPEG or TIFF"),
        "empty.png": (b"", "is empty"),
        "cut.png": (whole[: len(whole) // 3], "damaged or cut short"),
        "bomb.png": (bomb(), "60000 x 60000 pixels"),
        "head.jpg": (b"\xff\xd8\xff\xe0", "damaged"),
    }
    for name, (data, words) in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=words) as error:
            read_picture(tmp_path / name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="There is no file"):
        read_picture(tmp_path / "none.png")
    with pytest.raises(InputError, match="is a directory"):
        read_picture(tmp_path)
    assert capfd.readouterr().err == ""


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_files_never_crash(tmp_path_factory, data):
    kind = data.draw(st.sampled_from([".png", ".jpg", ".tiff"]))
    whole = bytearray(encoded(kind, np.arange(300, dtype=np.uint8).reshape(15, 20)))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"mutated{kind}"
    path.write_bytes(bytes(whole))
    message = ""
    try:
        assert read_picture(path).dtype == np.uint8
    except InputError as error:
        message = str(error)
    assert "\n" not in message
