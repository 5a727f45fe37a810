"""Bundles, embeddings and masks as sessions share them; the toy model's masks are known by hand."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dfqsam.app.compare import figures, segment
from dfqsam.app.embeddings import Embedding, EmbeddingCache, content_key
from dfqsam.app.models import Ahead, Library, bundle_folders, shared
from dfqsam.app.prompts import Target
from dfqsam.app.settings import Settings
from dfqsam.assets import shipped_bundle
from dfqsam.errors import BundleError, InputError
from dfqsam.imaging import Volume
from tests.evaluate.world import SIDE, toy_bundle

WHITE = np.full((SIDE, SIDE, 3), 255, np.uint8)
TARGET = Target((10, 12, 40, 32))


def library(path, shrink=2.0, **kinds) -> Library:
    return Library(Settings((toy_bundle(path, shrink, **kinds).path,)))


def embedding(size: int, seconds: float = 0.0) -> Embedding:
    return Embedding(np.zeros(size, np.float32), seconds)


def test_both_masks_and_the_figures_are_those_worked_out_by_hand(tmp_path):
    choice = library(tmp_path / "b").choices["Toy w8a8"]
    pair = segment(choice, WHITE, TARGET)
    full, quantized = np.zeros((SIDE, SIDE), bool), np.zeros((SIDE, SIDE), bool)
    full[12:33, 10:41] = True  # the box, both edges
    quantized[14:31, 12:39] = True  # two pixels less on each side, the picture being white
    assert np.array_equal(pair.full.mask, full)
    assert np.array_equal(pair.quantized.mask, quantized)
    volume = Volume(WHITE[None], (None, 0.5, 0.25))
    found = figures(volume, volume.view(), pair)
    assert found.unit == "mm"
    assert found.full_area == 21 * 31 * 0.125
    assert found.area == 17 * 27 * 0.125
    assert found.dice == 2 * 17 * 27 / (17 * 27 + 21 * 31)
    # 2 rows are 1 mm. Of 100 edge pixels the 4 corners are farther away (1.12 mm), then the 4 beside them.
    assert found.hd95 == pytest.approx(np.hypot(1, 0.25))
    plain = Volume(WHITE[None])
    assert figures(plain, plain.view(), pair).unit == "px"
    assert figures(plain, plain.view(), pair).full_area == 21 * 31


def test_without_full_precision_the_quantized_model_stands_alone_and_says_why(tmp_path):
    choice = library(tmp_path / "b", full=False).choices["Toy w8a8"]
    assert choice.full is None
    assert "--reference" in choice.why
    pair = segment(choice, WHITE, TARGET)
    assert pair.full is None
    found = figures(Volume(WHITE[None]), Volume(WHITE[None]).view(), pair)
    assert (found.dice, found.hd95, found.full_area) == (None, None, None)


def test_a_reference_serves_bundles_of_its_checkpoint_only(tmp_path):
    small, full = toy_bundle(tmp_path / "small", 1, full=False), toy_bundle(tmp_path / "full", 1)
    other = toy_bundle(tmp_path / "other", 2, full=False, checkpoint="1" * 64)
    made = Library(Settings((small.path, other.path), full.path))
    first, second = made.choices.values()
    assert first.full is not None
    assert second.full is None
    assert "another checkpoint" in second.why
    assert second.name.startswith("Toy w8a8 (")  # two of one name are told apart


def test_a_folder_of_bundles_is_a_choice_and_nothing_is_the_shipped_one(tmp_path):
    one, two = toy_bundle(tmp_path / "all" / "one", 1), toy_bundle(tmp_path / "all" / "two", 2)
    assert bundle_folders((tmp_path / "all",)) == [one.path, two.path]
    assert bundle_folders(()) == [shipped_bundle()]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no bundle and holds none"):
        bundle_folders((tmp_path / "empty",))


def test_an_altered_bundle_is_refused(tmp_path):
    bundle = toy_bundle(tmp_path / "b", 1)
    (bundle.path / "decoder.onnx").write_bytes(b"x")
    with pytest.raises(BundleError, match="does not match its hash"):
        Library(Settings((bundle.path,)))


def test_full_precision_graphs_that_are_the_same_are_loaded_once(tmp_path):
    one, two = toy_bundle(tmp_path / "one", 1), toy_bundle(tmp_path / "two", 2)
    first, second = Library(Settings((one.path, two.path))).choices.values()
    assert first.full is second.full
    other = toy_bundle(tmp_path / "other", 2, prompts=("box", "point"))
    first, second = Library(Settings((one.path, other.path))).choices.values()
    assert first.full is not second.full  # the same graphs, but what they understand is told by their bundle


def test_a_click_is_refused_by_a_model_of_boxes_and_taken_by_one_of_clicks(tmp_path):
    click = Target(None, ((30.0, 30.0, 1),))
    with pytest.raises(InputError, match="trained on boxes only"):
        segment(library(tmp_path / "boxes").choices["Toy w8a8"], WHITE, click)
    pair = segment(library(tmp_path / "both", prompts=("box", "point")).choices["Toy w8a8"], WHITE, click)
    assert pair.full.mask.sum() == 17 * 17


def test_masks_of_many_threads_are_their_own(tmp_path):
    choice = library(tmp_path / "b").choices["Toy w8a8"]
    pictures = [np.full((SIDE, SIDE, 3), 51 * level, np.uint8) for level in range(6)]  # shrinks by 0.4 a level
    boxes = [(5 + k, 6 + k, 40 + k, 50 + k) for k in range(6)]

    def work(k: int) -> bool:
        pair = segment(choice, pictures[k % 6], Target(boxes[k % 6]))
        x0, y0, x1, y1 = boxes[k % 6]
        rows, columns = np.mgrid[:SIDE, :SIDE]
        depth = np.minimum.reduce([columns - x0, x1 - columns, rows - y0, y1 - rows])
        return np.array_equal(pair.quantized.mask, depth + 0.5 - 0.4 * (k % 6) > 1e-5)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(120)))


def test_the_process_has_one_library(tmp_path):
    settings = Settings((toy_bundle(tmp_path / "b", 1).path,))
    with ThreadPoolExecutor(4) as pool:
        assert len({id(made) for made, _ in pool.map(lambda _: shared(settings), range(8))}) == 1


def test_the_cache_forgets_what_was_used_longest_ago_and_stays_below_its_limit():
    cache = EmbeddingCache(limit=4 * 250)
    for name in "abc":
        cache.get(name, lambda: embedding(100))
    assert ("a" in cache, "b" in cache, "c" in cache) == (False, True, True)
    cache.get("b", lambda: pytest.fail("it is there"))
    cache.get("d", lambda: embedding(100))
    assert ("b" in cache, "c" in cache) == (True, False)
    assert cache.bytes == 800
    assert cache.get("large", lambda: embedding(251)).values.size == 251  # given, not kept
    assert "large" not in cache
    assert len(cache) == 2


def test_an_embedding_is_computed_once_however_many_ask():
    cache, calls, begun, go_on = EmbeddingCache(), [], threading.Event(), threading.Event()

    def compute() -> Embedding:
        calls.append(1)
        begun.set()
        go_on.wait(5)
        return embedding(3, 0.5)

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(cache.get, "k", compute) for _ in range(4)]
        assert begun.wait(5)
        go_on.set()
        assert len({id(one.result(5)) for one in waiting}) == 1
    assert calls == [1]


def test_what_fails_is_told_to_all_and_tried_again():
    cache = EmbeddingCache()

    def fails() -> Embedding:
        raise InputError("no")

    with pytest.raises(InputError):
        cache.get("k", fails)
    assert cache.get("k", lambda: embedding(2)).values.size == 2


def test_keys_differ_by_model_pixels_and_shape():
    one = np.zeros((2, 8, 3), np.uint8)
    other = one.copy()
    other[0, 0, 0] = 1
    keys = {
        content_key("m", one),
        content_key("n", one),
        content_key("m", other),
        content_key("m", one.reshape(4, 4, 3)),
    }
    assert len(keys) == 4
    assert content_key("m", one.copy()) in keys


def test_of_what_a_session_asks_for_ahead_only_the_last_is_done():
    ahead, done, busy, go_on, end = Ahead(), [], threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        busy.set()
        go_on.wait(5)

    ahead.ask("a", first)
    assert busy.wait(5)
    for k in range(5):
        ahead.ask("a", lambda k=k: done.append(k))
    ahead.ask("b", lambda: 1 / 0)  # what fails is met again by the session that needs it
    ahead.ask("c", end.set)
    go_on.set()
    assert end.wait(5)
    assert done == [4]


def test_what_is_not_wanted_any_more_is_left_after_the_step_that_has_begun():
    ahead, done, busy, go_on, end = Ahead(), [], threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        busy.set()
        go_on.wait(5)

    ahead.ask("a", first, lambda: done.append("the other model, of the slice before"))
    assert busy.wait(5)
    ahead.ask("a", lambda: done.append("quantized"), lambda: done.append("full"), end.set)
    go_on.set()
    assert end.wait(5)
    assert done == ["quantized", "full"]
