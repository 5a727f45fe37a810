import numpy as np
import pytest

from dfqsam.errors import InputError
from dfqsam.runtime import overlay


def test_the_difference_shows_both_only_first_and_only_second_in_three_colours():
    picture = np.zeros((40, 60, 3), np.uint8)
    a, b = np.zeros((40, 60), bool), np.zeros((40, 60), bool)
    a[5:30, 5:30], b[5:30, 20:50] = True, True
    out = overlay.difference(picture, a, b)
    seen = {tuple(out[15, x]) for x in (10, 25, 45, 55)}
    assert len(seen) == 4
    assert tuple(out[15, 55]) == (0, 0, 0)
    assert not picture.any()


def test_the_panel_is_three_pictures_wide_with_captions():
    picture = np.full((40, 60, 3), 90, np.uint8)
    mask = np.zeros((40, 60), bool)
    out = overlay.panel(picture, mask, mask, box=(5, 5, 20, 20))
    assert out.shape == (40 + overlay.CAPTION_HEIGHT, 180, 3)


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(InputError, match="the picture has"):
        overlay.draw_mask(np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4), bool))
