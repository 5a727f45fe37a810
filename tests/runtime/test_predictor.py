import numpy as np
import pytest
import skimage.data

from dfqsam.assets import shipped_bundle
from dfqsam.errors import BundleError, InputError
from dfqsam.runtime import Predictor

BOX = [125, 530, 335, 780]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    predictor = Predictor(shipped_bundle())
    predictor.set_image(skimage.data.retina())
    return predictor


def test_the_shipped_bundle_finds_the_optic_disc(predictor):
    masks, quality, logits = predictor.predict(box=BOX)
    assert masks.shape == (1, 1411, 1411)
    assert masks.dtype == np.bool_
    assert quality.shape == (1,)
    assert logits.shape == (1, 256, 256)
    rows, columns = np.nonzero(masks[0])
    assert BOX[0] - 10 <= columns.min() < columns.max() <= BOX[2] + 10
    assert BOX[1] - 10 <= rows.min() < rows.max() <= BOX[3] + 10
    assert 0.4 < masks.sum() / ((BOX[2] - BOX[0]) * (BOX[3] - BOX[1])) < 0.95


def test_the_shipped_bundle_is_small_and_calibrated_on_nothing_but_the_model(predictor):
    manifest = predictor.bundle.manifest
    assert sum(record.bytes for record in manifest.files.values()) <= 14_000_000
    assert manifest.provenance["images_read"] == 0
    assert manifest.prompts == ("box",)


def test_logits_multimask_and_mask_input(predictor):
    masks, _, low = predictor.predict(box=BOX, return_logits=True)
    assert masks.dtype == np.float32
    assert np.array_equal(masks > 0, predictor.predict(box=BOX)[0])
    assert predictor.predict(box=BOX, multimask_output=True)[0].shape == (3, 1411, 1411)
    forced = Predictor(predictor.bundle, force_prompts=True)
    forced.set_image(skimage.data.retina())
    assert forced.predict(box=BOX, mask_input=low)[0].any()
    assert forced.predict([[230, 650]], [1])[0].shape == (1, 1411, 1411)
    with pytest.raises(InputError, match="1 x 256 x 256"):
        forced.predict(box=BOX, mask_input=low[0])


def test_points_are_refused_with_a_reason(predictor):
    with pytest.raises(InputError, match="LiteMedSAM was trained on boxes only; a point gives worthless masks"):
        predictor.predict([[10, 10]], [1])
    with pytest.raises(InputError, match="boxes only"):
        predictor.predict([[10, 10]], [1], box=BOX)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([5, 5, 5, 9], "is empty"),
        ([9, 9, 2, 2], "is empty"),
        ([-1, 0, 5, 5], "outside the picture"),
        ([0, 0, 9999, 5], "outside the picture, which is 1411 wide"),
        ([0, 0, float("nan"), 5], "NaN"),
        ([1, 2, 3], "give 4 numbers"),
        ("abcd", "plain numbers"),
    ],
)
def test_bad_boxes_get_one_sentence(predictor, box, words):
    with pytest.raises(InputError, match=words) as error:
        predictor.predict(box=box)
    assert "\n" not in str(error.value)


def test_order_of_calls_and_prompts_are_checked(predictor):
    fresh = Predictor(predictor.bundle, threads=1)
    with pytest.raises(InputError, match="set_image first"):
        fresh.predict(box=BOX)
    with pytest.raises(InputError, match="no prompt"):
        predictor.predict()
    with pytest.raises(InputError, match="uint8"):
        fresh.set_image(np.zeros((4, 4)))
    with pytest.raises(InputError, match="empty"):
        fresh.set_image(np.zeros((0, 4), np.uint8))
    assert not fresh.is_image_set


def test_every_shape_of_picture_works(predictor):
    fresh = Predictor(predictor.bundle)
    for shape in ((1, 1), (1, 900), (700, 3), (40, 60, 1), (40, 60, 3)):
        fresh.set_image(np.full(shape, 9, np.uint8))
        assert fresh.predict(box=[0, 0, shape[1], shape[0]])[0].shape == (1, *shape[:2])


def test_a_bundle_without_full_precision_graphs_says_so(predictor):
    with pytest.raises(BundleError, match=r"encoder_fp32\.onnx"):
        Predictor(predictor.bundle, full_precision=True)


def test_a_picture_is_set_again_by_its_embedding(predictor):
    picture = np.random.default_rng(1).integers(0, 256, (50, 70, 3), np.uint8)
    predictor.set_image(picture)
    box = [10, 5, 60, 40]
    kept, (first, _, _) = predictor.embedding, predictor.predict(box=box)
    predictor.set_image(np.zeros((33, 44), np.uint8))
    predictor.predict(box=[1, 1, 20, 20])
    predictor.set_embedding(kept, (50, 70))
    again, _, _ = predictor.predict(box=box)
    np.testing.assert_array_equal(first, again)
