import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.pixels import apply_voi_lut

from dfqsam.errors import InputError
from dfqsam.imaging import PRESETS, Volume, Window

FINITE = {"allow_nan": False, "allow_infinity": False, "width": 32}


def test_levels_computed_by_hand():
    # Centre 40, width 400: ((x - 39.5) / 399 + 0.5) * 255, so that -160 is black and 239 is white.
    soft = PRESETS["soft tissue"]
    assert soft.apply([-161, -160, 0, 39.5, 239, 1000]).tolist() == [0, 0, 102, 128, 255, 255]
    assert Window(0, 10, "LINEAR_EXACT").apply([-5, 0, 2.5, 5]).tolist() == [0, 128, 191, 255]
    assert Window(0, 4, "SIGMOID").apply([-100, 0, 1, 100]).tolist() == [0, 128, 186, 255]
    assert Window(3, 1).apply([2, 3]).tolist() == [0, 255]
    assert Window(0, 2).apply([np.nan, -np.inf, np.inf]).tolist() == [0, 0, 255]
    assert set(PRESETS) == {"soft tissue", "lung", "bone", "brain"}


@settings(max_examples=150, deadline=None)
@given(
    st.floats(-2000, 2000, **FINITE),
    st.floats(1.5, 4000, **FINITE),
    st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    st.lists(st.integers(-4000, 4000), min_size=1, max_size=40),
)
def test_windows_agree_with_pydicom(centre, width, function, values):
    made = pydicom.Dataset()
    made.WindowCenter, made.WindowWidth, made.VOILUTFunction = f"{centre:.6f}"[:16], f"{width:.6f}"[:16], function
    made.BitsStored, made.PixelRepresentation, made.PhotometricInterpretation = 16, 1, "MONOCHROME2"
    array = np.array(values, np.int16)
    with np.errstate(over="ignore"):
        theirs = apply_voi_lut(array, made).astype(float)
    # pydicom's levels span -32768 to 32767, ours 0 to 255.
    expected = (theirs + 32768) / 65535 * 255
    ours = Window(float(made.WindowCenter), float(made.WindowWidth), function).apply(array)
    assert np.abs(ours - expected).max() <= 0.52


@pytest.mark.parametrize("window", [(0, 0), (0, 0.5), (np.nan, 5), (0, np.inf), (0, -3)])
def test_windows_that_are_none_are_refused(window):
    with pytest.raises(InputError, match="cannot be used"):
        Window(*window)


def test_the_window_of_a_volume():
    values = np.zeros((2, 10, 10), np.int16)
    values[1] = np.arange(100).reshape(10, 10) + 1
    plain = Volume(values)
    assert plain.window().name == "percentiles"
    low, high = np.percentile(np.arange(1, 101), [0.5, 99.5])
    assert plain.window().apply([low, high, (low + high) / 2]).tolist() == [0, 255, 128]
    own = Window(50, 20, name="own")
    assert Volume(values, windows=(own,), modality="CT").window() is own
    assert Volume(values, modality="CT").window() is PRESETS["soft tissue"]
    air = values.copy()
    air[0] = -1000
    assert Volume(air).window() is PRESETS["soft tissue"]
    assert Volume(air, modality="MR").window().name == "percentiles"
    assert plain.window("lung") is PRESETS["lung"]
    with pytest.raises(InputError, match="none of percentiles, soft tissue"):
        plain.window("liver")
    for odd in (np.zeros((1, 3, 3)), np.full((1, 3, 3), np.nan), np.full((1, 3, 3), -7.0)):
        assert Volume(odd).picture(0).shape == (3, 3, 3)


def test_pictures_are_rgb_of_one_slice():
    volume = Volume(np.arange(24).reshape(2, 3, 4), windows=(Window(12, 24, "LINEAR_EXACT"),))
    picture = volume.picture(1)
    assert picture.dtype == np.uint8
    assert picture[..., 0].tolist() == picture[..., 2].tolist()
    assert picture[0, 0, 0] == round(12 / 24 * 255)
    for k in (-1, 2):
        with pytest.raises(InputError, match=f"no slice {k}"):
            volume.picture(k)
    mask = volume.empty_mask()
    volume.put(mask, 1, volume.view(), np.eye(3, 4), 2)
    volume.put(mask, 1, volume.view(), np.ones((3, 4)) - np.eye(3, 4), 1)
    assert (mask[1] == np.where(np.eye(3, 4), 2, 1)).all()
    volume.put(mask, 1, volume.view(), np.zeros((3, 4)), 2)
    assert (mask[1] == np.where(np.eye(3, 4), 0, 1)).all()
    with pytest.raises(InputError, match="does not fit"):
        volume.put(mask, 1, volume.view(), np.eye(3, 4), 256)
    with pytest.raises(InputError, match="has shape"):
        volume.put(mask, 1, volume.view(), np.eye(4, 3))
    with pytest.raises(InputError, match="none of stored"):
        volume.view("transverse")
