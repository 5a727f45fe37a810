import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.errors import InputError
from dfqsam.sam import geometry

sides = st.integers(1, 3000)


def test_resized_shape_by_hand():
    assert geometry.resized_shape(300, 600, 256) == (128, 256)
    assert geometry.resized_shape(683, 1024, 1024) == (683, 1024)
    assert geometry.resized_shape(1, 4000, 256) == (1, 256)


@given(sides, sides, st.sampled_from([256, 1024]), st.floats(0, 1), st.floats(0, 1))
def test_points_come_back(height, width, size, fx, fy):
    point = np.array([[fx * width, fy * height]])
    there = geometry.to_input_frame(point, (height, width), size)
    assert (there <= np.array(geometry.resized_shape(height, width, size)[::-1]) + 1e-3).all()
    back = geometry.to_original_frame(there, (height, width), size)
    np.testing.assert_allclose(back, point, atol=1e-3 * max(height, width) / 100 + 1e-3)


@given(st.integers(40, 400), st.integers(40, 400))
def test_mask_round_trip(height, width):
    """A box drawn in the input frame comes back, on the mask, as the same box in the original frame."""
    size = 256
    rows, columns = geometry.resized_shape(height, width, size)
    logits = np.full((1, size, size), -5, np.float32)
    logits[0, rows // 4 : rows // 2, columns // 4 : columns // 2] = 5
    mask = geometry.undo_on_logits(logits, (height, width), size)[0] > 0
    ys, xs = np.nonzero(mask)
    corners = np.array([[columns // 4, rows // 4], [columns // 2, rows // 2]])
    low, high = geometry.to_original_frame(corners, (height, width), size)
    tolerance = 1 + max(height, width) / size
    np.testing.assert_allclose([xs.min(), ys.min()], low, atol=tolerance)
    np.testing.assert_allclose([xs.max() + 1, ys.max() + 1], high, atol=tolerance)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((0, 5), np.uint8), "empty"),
        (np.zeros((4, 5), np.float32), "uint8"),
        (np.zeros((4, 5, 4), np.uint8), "shape"),
    ],
)
def test_bad_pictures_say_what_is_wrong(image, words):
    with pytest.raises(InputError, match=words):
        geometry.as_rgb(image)
