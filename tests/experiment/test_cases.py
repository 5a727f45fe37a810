from collections import Counter

import pytest

from dfqsam.errors import InputError
from dfqsam.experiment.cases import by_picture, search_subset, training_pictures
from tests.experiment.world import write_folder


@pytest.fixture
def folder(tmp_path):
    counts = {("a", "validation"): [1, 5, 2], ("b", "validation"): [1], ("c", "validation"): [4, 12, 4]}
    return write_folder(tmp_path, counts | {("a", "train"): [1, 1, 1], ("c", "train"): [2]})


def test_every_data_set_is_there_and_the_fullest_pictures_come_first(folder):
    chosen = search_subset(folder, masks=15)
    assert {case.dataset for case in chosen} == {"a", "b", "c"}
    counts = Counter(case.image.relative_to(folder).as_posix() for case in chosen)
    # One of each data set has 5 + 1 + 8 masks, so one more picture is needed: of those left the fullest.
    assert counts == {"a/validation1.png": 5, "b/validation0.png": 1, "c/validation1.png": 8, "c/validation0.png": 4}
    assert chosen == search_subset(folder, masks=15)


def test_few_masks_still_cover_every_data_set_and_many_take_what_there_is(folder):
    assert len(by_picture(search_subset(folder, masks=1))) == 3
    assert len(search_subset(folder, masks=1000)) == 5 + 2 + 1 + 1 + 8 + 4 + 4
    assert len(search_subset(folder, masks=None)) == 8 + 1 + 20
    with pytest.raises(InputError, match="at least 1"):
        search_subset(folder, masks=0)


def test_training_pictures_are_spread_over_data_sets_and_drawn_by_the_seed(folder):
    pictures = training_pictures(folder, 4, seed=0, size=48)
    assert [tuple(picture.shape) for picture in pictures] == [(3, 32, 48)] * 4
    assert all(float(picture.min()) >= 0 and float(picture.max()) <= 1 for picture in pictures)
    again = training_pictures(folder, 4, seed=0, size=48)
    assert all(bool((one == other).all()) for one, other in zip(pictures, again, strict=True))
    with pytest.raises(InputError, match="4 training pictures"):
        training_pictures(folder, 5, seed=0, size=48)
