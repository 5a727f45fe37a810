"""An image that was sent once costs only the decoder afterwards; nobody sees another's; memory is bounded."""

import numpy as np
import pytest

from dfqsam.imaging import Volume
from dfqsam.serve.cache import Cache, Encoded
from dfqsam.serve.clients import Clients, fingerprint
from tests.serve.world import BOX, TOKENS, Asked, asked, bearer, form, png

FINGERPRINTS = Clients(tuple(fingerprint(token.encode()) for token in TOKENS))


@pytest.fixture
def ask(tmp_path):
    with asked(tmp_path, rate=0) as one:
        yield one


def encoded(ask: Asked) -> int:
    """How often the encoder ran."""
    return ask.service.metrics.registry.get_sample_value("dfqsam_step_seconds_count", {"step": "encode"}) or 0


def question(box=BOX, **more):
    return {"json": {"prompts": [{"box": box}], **more}}


def test_prompts_on_a_kept_image_cost_only_the_decoder(ask: Asked):
    kept = ask("POST", "/v1/images", **form(prompts=None))
    assert kept.status_code == 201
    found = kept.json()
    assert {k: found[k] for k in found if k != "id"} == {
        "height": 64, "width": 64, "slice": 0, "slices": 1, "plane": "stored",
    }  # fmt: skip
    path = f"/v1/images/{found['id']}/segment"
    answers = [ask("POST", path, **question(box)).json()["masks"][0] for box in (BOX, (0, 0, 60, 60))]
    assert [one["bbox"] for one in answers] == [[14, 16, 13, 21], [4, 4, 53, 53]]
    assert ask("POST", path, **question(format="png")).headers["content-type"] == "image/png"
    assert ask("POST", "/v1/segment", **form()).json()["image"] == found["id"]  # the same content, the same id
    assert ask("POST", "/v1/images", **form(prompts=None, name="else.png")).json() == found
    assert encoded(ask) == 1
    ask("POST", "/v1/images", **form(png(7), None))
    ask("POST", "/v1/images", **form(png(7), None, window="lung"))  # looked at otherwise, so another picture
    assert encoded(ask) == 3


def test_an_id_is_of_no_use_to_anybody_else(tmp_path):
    with asked(tmp_path, clients=FINGERPRINTS) as ask:
        mine, other = (bearer(token) for token in TOKENS)
        key = ask("POST", "/v1/images", **form(prompts=None), headers=mine).json()["id"]
        never = ask("POST", f"/v1/images/{'0' * 64}/segment", **question(), headers=other)
        theirs = ask("POST", f"/v1/images/{key}/segment", **question(), headers=other)
        assert (theirs.status_code, theirs.content) == (404, never.content)
        assert ask("DELETE", f"/v1/images/{key}", headers=other).status_code == 404
        # Nor does sending the same image tell whether somebody else has: it is encoded again, under another id.
        again = ask("POST", "/v1/images", **form(prompts=None), headers=other).json()["id"]
        assert again != key
        assert encoded(ask) == 2
        assert ask("POST", f"/v1/images/{key}/segment", **question(), headers=mine).status_code == 200


def test_ids_do_not_tell_the_content_and_end_with_the_process(tmp_path):
    import hashlib

    keys = []
    for _ in range(2):
        with asked(tmp_path) as ask:
            keys.append(ask("POST", "/v1/images", **form(prompts=None)).json()["id"])
    assert keys[0] != keys[1]
    assert hashlib.sha256(png()).hexdigest() not in keys


def test_a_forgotten_image_is_gone(ask: Asked):
    key = ask("POST", "/v1/images", **form(prompts=None)).json()["id"]
    assert ask("DELETE", f"/v1/images/{key}").status_code == 204
    assert ask("DELETE", f"/v1/images/{key}").status_code == 404
    gone = ask("POST", f"/v1/images/{key}/segment", **question())
    assert gone.status_code == 404
    assert gone.json()["advice"] == "Send it to /v1/images again."


def test_the_one_used_longest_ago_makes_room(tmp_path):
    with asked(tmp_path, cache=2 * (16 * 16 * 4 + (1 << 14)), rate=0) as ask:
        first, second = (ask("POST", "/v1/images", **form(png(i), None)).json()["id"] for i in (1, 2))
        assert ask("POST", f"/v1/images/{first}/segment", **question()).status_code == 200
        ask("POST", "/v1/images", **form(png(3), None))
        assert ask("POST", f"/v1/images/{first}/segment", **question()).status_code == 200
        assert ask("POST", f"/v1/images/{second}/segment", **question()).status_code == 404
        assert ask.service.cache.bytes <= ask.service.cache.limit


def test_without_a_cache_an_image_is_not_promised(tmp_path):
    with asked(tmp_path, cache=0) as ask:
        answer = ask("POST", "/v1/images", **form(prompts=None))
        assert (answer.status_code, answer.json()["advice"]) == (503, "Send it to /v1/segment.")
        assert ask("POST", "/v1/segment", **form()).status_code == 200


def test_what_is_kept_holds_no_pixels(ask: Asked):
    ask("POST", "/v1/images", **form(prompts=None))
    (kept,) = ask.service.cache._kept.values()
    assert kept.volume.array.strides == (0, 0, 0, 0)
    assert not kept.volume.array.any()
    assert kept.bytes >= kept.embedding.nbytes


def test_a_cache_never_holds_more_than_its_limit():
    volume = Volume(np.zeros((1, 2, 2), np.uint8))
    rng = np.random.default_rng(0)
    cache, kept = Cache(100), {}
    for step in range(2000):
        key = (None, str(rng.integers(12)))
        size = int(rng.integers(1, 130))
        one = Encoded(np.zeros((1, 1, 1, 1), np.float32), volume, volume.view(), step, size)
        if rng.random() < 0.1:
            assert cache.forget(key) == (kept.pop(key, None) is not None)
        elif rng.random() < 0.3:
            found = cache.get(key)
            assert (found is not None) == (key in kept)
            if found is not None:
                kept[key] = kept.pop(key)
        else:
            kept.pop(key, None)
            assert cache.put(key, one) == (size <= 100)
            if size <= 100:
                while sum(kept.values()) + size > 100:
                    kept.pop(next(iter(kept)))
                kept[key] = size
        assert cache.bytes == sum(kept.values()) <= 100
        assert len(cache) == len(kept)
