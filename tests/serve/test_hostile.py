"""Any bytes at all as a request: answered, or refused in one sentence; no crash, no 500, and its place is free."""

import asyncio
import gc
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.imaging.made import placed, written
from tests.imaging.test_hostile import SOUND, mutations
from tests.serve.world import BOX, Asked, asked, png

SECONDS = 20.0  # a request takes hundredths; a machine may be busy
MAX_BODY = 1 << 20  # more than what is sent here


def part(name: str, data: bytes, more: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"


def whole(image: bytes, prompts=({"box": BOX},), **texts: str) -> bytes:
    """A form that is sound."""
    fields = {"prompts": json.dumps(list(prompts)), **texts}
    told = b"".join(part(name, text.encode()) for name, text in fields.items())
    return told + part("image", image, '; filename="p"') + b"--b--\r\n"


DICOM = written(placed(np.full((1, 64, 64), 900, np.uint16), WindowCenter=500, WindowWidth=400)[0])
FORMS = {
    "PNG": whole(png()),
    "DICOM": whole(DICOM, format="seg"),
    "NIfTI": whole(SOUND["nifti"], [{"box": [0, 0, 2, 2]}], format="nifti", slice="1", plane="axial", window="lung"),
}
QUESTION = json.dumps(
    {"prompts": [{"box": BOX, "name": "liver", "label": 3}, {"point_coords": [[1, 2]], "point_labels": [1]}]}
).encode()
HEADERS = st.sampled_from(
    [
        (b"content-type", b"multipart/form-data; boundary=b"),
        (b"content-type", b'multipart/form-data; boundary="b"; charset=utf-16'),
        (b"content-type", b"multipart/form-data; boundary=" + b"b" * 300),
        (b"content-type", b"multipart/form-data"),
        (b"content-type", b"application/json"),
        (b"content-length", b"-5"),
        (b"content-length", b"9" * 30),
        (b"content-length", b"\xb2"),
        (b"content-encoding", b"deflate"),
        (b"accept", b"image/png;q=2,*;q=nan,,;"),
        (b"accept", b"\xff\xfe"),
        (b"authorization", b"Bearer \xff\0"),
        (b"host", b"["),
        (b"host", b"localhost:99999"),
        (b"origin", b"http://[::1"),
        (b"origin", b"null"),
        (b"expect", b"100-continue"),
        (b"transfer-encoding", b"chunked"),
    ]
) | st.tuples(
    st.sampled_from([b"host", b"origin", b"accept", b"content-type", b"content-length"]), st.binary(max_size=40)
)


async def send(ask: Asked, path: str, body: bytes, headers: list[tuple[bytes, bytes]], cuts: int, gone: bool) -> dict:
    """One request through ASGI itself, where no client library mends it: status, headers and body of the answer."""
    size = max(1, len(body) // (cuts + 1))
    pieces = [body[at : at + size] for at in range(0, max(1, len(body)), size)]
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages[-1]["more_body"] = gone
    messages.append({"type": "http.disconnect"})
    answer: dict = {"body": b""}

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def sending(message):
        if message["type"] == "http.response.start":
            assert "status" not in answer
            answer.update(status=message["status"], headers=dict(message["headers"]))
        else:
            answer["body"] += message.get("body", b"")

    known = {b"host": b"127.0.0.1", b"content-type": b"multipart/form-data; boundary=b"}
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000), "headers": [*({**known, **dict(headers)}).items()],
    }  # fmt: skip
    async with asyncio.timeout(SECONDS):
        await ask.app(scope, receive, sending)
    return answer


def survive(ask: Asked, path: str, body: bytes, headers=(), cuts: int = 0, gone: bool = False) -> None:
    answer = asyncio.run(send(ask, path, body, list(headers), cuts, gone))
    assert answer["status"] in (200, 201, 400, 403, 404, 406, 413, 415, 422), answer
    assert answer["headers"][b"x-request-id"]
    if answer["status"] >= 400:
        said = json.loads(answer["body"])
        assert said.keys() == {"error", "advice"}
        assert "\n" not in said["error"] + said["advice"]
        assert len(answer["body"]) < 1500
    assert ask.service.engine.taken == 0


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    with asked(tmp_path_factory.mktemp("serve"), rate=0, max_body=MAX_BODY, cache=1 << 20, timeout=SECONDS) as one:
        yield one


@pytest.fixture(scope="module")
def kept(ask):
    answer = asyncio.run(send(ask, "/v1/images", part("image", png(), '; filename="p"') + b"--b--\r\n", [], 0, False))
    return f"/v1/images/{json.loads(answer['body'])['id']}/segment"


def test_what_is_mutated_is_sound(ask, kept):
    for body in FORMS.values():
        assert asyncio.run(send(ask, "/v1/segment", body, [], 3, False))["status"] == 200
    json_kind = [(b"content-type", b"application/json")]
    answer = asyncio.run(send(ask, kept, QUESTION, json_kind, 0, False))
    assert b"prompts[1] has a point" in answer["body"]


REQUESTS = st.tuples(st.lists(HEADERS, max_size=2), st.integers(0, 4), st.sampled_from([False, False, True]))


def fuzz(kind: str, ask: Asked, kept: str, data: st.DataObject) -> None:
    headers, cuts, gone = data.draw(REQUESTS)
    if kind == "JSON":
        body = data.draw(mutations(QUESTION) | st.binary(max_size=200) | st.text(max_size=50).map(str.encode))
        survive(ask, kept, body, [(b"content-type", b"application/json"), *headers], cuts, gone)
        return
    path = data.draw(st.sampled_from(["/v1/segment", "/v1/images"]))
    survive(ask, path, data.draw(mutations(FORMS[kind])), headers, cuts, gone)


@pytest.mark.parametrize("kind", [*FORMS, "JSON"])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutated_requests_never_crash(ask, kept, kind, data):
    fuzz(kind, ask, kept, data)


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.parametrize("kind", [*FORMS, "JSON"])
@settings(max_examples=10_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_ten_thousand_mutated_requests_never_crash(ask, kept, kind, data):
    fuzz(kind, ask, kept, data)


@pytest.mark.parametrize(("image", "status"), [(b"nothing" * 140_000, 422), (png() + bytes(900_000), 200)])
def test_an_upload_is_out_of_memory_once_it_is_answered(ask, image, status):
    """Even if nobody looks for circles of references."""
    body = whole(image)
    assert asyncio.run(send(ask, "/v1/segment", body, [], 0, False))["status"] == status
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10):
            asyncio.run(send(ask, "/v1/segment", body, [], 0, False))
        # An answer may be sent a moment before the thread that made it lets go of its work; not later than the next.
        ask.service.engine._thread.submit(int).result()
        assert tracemalloc.get_traced_memory()[0] - before < len(body)
    finally:
        tracemalloc.stop()
        gc.enable()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.text(st.characters(codec="utf-8"), max_size=30), body=st.binary(max_size=100))
def test_any_path_is_answered(ask, path, body):
    survive_path = "/" + path
    answer = asyncio.run(send(ask, survive_path, body, [], 0, False))
    assert answer["status"] < 500


def test_headers_of_zip_and_gzip_in_every_place_are_refused(ask):
    for start in (b"PK\x03\x04", b"\x1f\x8b\x08", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0"):
        survive(ask, "/v1/images", part("image", start + bytes(400), '; filename="p"') + b"--b--\r\n")
