"""One thread computes; who may wait is bounded, and no answer leaves before its record is on the disk."""

import asyncio
import hashlib
import json
import sqlite3
import threading

import httpx
import pytest

from dfqsam.audit import AuditLog
from dfqsam.errors import InputError
from dfqsam.serve.clients import fingerprint
from tests.serve.test_images import FINGERPRINTS
from tests.serve.world import TOKENS, asked, bearer, form, png


def requests_in(path) -> list[dict]:
    log = AuditLog(path, write=False)
    log.verify()
    found = [entry.document for entry in log.entries() if entry.kind == "request"]
    log.close()
    return found


@pytest.fixture
def held(monkeypatch):
    """The encoder waits until it is let go."""
    gate = threading.Event()
    from dfqsam.runtime import Predictor

    plain = Predictor.set_image

    def slow(self, image):
        assert gate.wait(30)
        plain(self, image)

    monkeypatch.setattr(Predictor, "set_image", slow)
    yield gate
    gate.set()


async def until(condition) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError


def test_who_finds_the_queue_full_is_told_when_to_come_again(tmp_path, held):
    with asked(tmp_path, queue=2, rate=0) as ask:

        async def together() -> list[httpx.Response]:
            async with ask.client() as client:
                first = [asyncio.create_task(client.post("/v1/segment", **form(png(i)))) for i in range(3)]
                await until(lambda: ask.service.engine.taken == 3)
                more = [await client.post("/v1/segment", **form(png(i))) for i in range(3, 6)]
                assert (await client.get("/health")).status_code == 200  # the loop is free
                held.set()
                answers = [*more, *await asyncio.gather(*first)]
                assert ask.service.engine.taken == 0
                return [*answers, await client.post("/v1/segment", **form())]

        answers = asyncio.run(together())
        assert [answer.status_code for answer in answers] == [429, 429, 429, 200, 200, 200, 200]
        assert int(answers[0].headers["retry-after"]) >= 1
        assert answers[0].json()["error"] == "Too many requests wait already."


def test_a_body_is_not_read_where_there_is_no_place(tmp_path, held):
    with asked(tmp_path, queue=0, rate=0) as ask:

        async def together() -> int:
            read = 0

            async def body():
                nonlocal read
                read += 1
                yield b""

            async with ask.client() as client:
                first = asyncio.create_task(client.post("/v1/segment", **form()))
                await until(lambda: ask.service.engine.taken == 1)
                kind = {"Content-Type": "multipart/form-data; boundary=b"}
                refused = await client.post("/v1/segment", content=body(), headers=kind)
                assert refused.status_code == 429
                held.set()
                await first
            return read

        assert asyncio.run(together()) == 0


def test_an_answer_that_takes_too_long_is_given_up_and_its_place_freed_when_it_is_done(tmp_path, held):
    audit = tmp_path / "audit.sqlite"
    with asked(tmp_path, timeout=0.2, rate=0, audit=audit) as ask:

        async def together() -> list[httpx.Response]:
            async with ask.client() as client:
                late = await asyncio.gather(*(client.post("/v1/segment", **form(png(i))) for i in range(2)))
                assert ask.service.engine.taken == 2
                held.set()
                await until(lambda: ask.service.engine.taken == 0)
                return [*late, await client.post("/v1/segment", **form(png(9)))]

        answers = asyncio.run(together())
        assert [answer.status_code for answer in answers] == [503, 503, 200]
        assert answers[0].json()["error"] == "It took longer than 0.2 s."
    assert [one["outcome"] for one in requests_in(audit)] == ["late", "late", "answered"]


def test_a_body_that_never_ends_is_given_up(tmp_path):
    with asked(tmp_path, timeout=0.1) as ask:

        async def slow():
            yield b"--b\r\n"
            await asyncio.sleep(60)
            yield b""

        answer = ask("POST", "/v1/segment", content=slow(), headers={"Content-Type": "multipart/form-data; boundary=b"})
        assert (answer.status_code, answer.json()["error"]) == (408, "The body did not come within 0.1 s.")
        assert ask.service.engine.taken == 0


def test_every_accepted_request_is_recorded_with_what_was_sent(tmp_path):
    audit = tmp_path / "audit.sqlite"
    with asked(tmp_path, clients=FINGERPRINTS, audit=audit) as ask:
        mine = bearer(TOKENS[1])
        answers = [
            ask("POST", "/v1/segment", **form(), headers=mine),
            ask("POST", "/v1/images", **form(prompts=None), headers=mine),
            ask("POST", "/v1/segment", **form(b"nothing"), headers=mine),
        ]
        ask("POST", "/v1/segment", **form())  # no token: not accepted
        ask("POST", "/v1/segment", json={}, headers=mine)  # no form: not accepted
        bundle = ask.service.bundle.sha256
    found = requests_in(audit)
    assert [one["request"] for one in found] == [answer.headers["x-request-id"] for answer in answers]
    assert [(one["task"], one["outcome"]) for one in found] == [
        ("segment", "answered"), ("image", "answered"), ("segment", "refused"),
    ]  # fmt: skip
    wanted = [hashlib.sha256(answer.content).hexdigest() for answer in answers[:2]]
    assert [one["answer"] for one in found] == [*wanted, None]
    assert {one["client"] for one in found} == {fingerprint(TOKENS[1].encode())}
    assert {one["bundle"] for one in found} == {bundle}


def test_what_cannot_be_recorded_is_not_answered(tmp_path, caplog):
    audit = tmp_path / "audit.sqlite"
    with asked(tmp_path, audit=audit, rate=0) as ask:
        assert ask("POST", "/v1/segment", **form()).status_code == 200
        moved = audit.with_name("moved.sqlite")
        audit.rename(moved)  # entries would go where nobody looks
        answer = ask("POST", "/v1/segment", **form())
        assert (answer.status_code, answer.json()["error"]) == (503, "The audit log cannot be written.")
        assert "segmentation" not in answer.text
        assert ask("GET", "/ready").json() == {"status": "cannot record"}
        assert ask("GET", "/health").status_code == 200
        assert answer.headers["x-request-id"] in caplog.text
        moved.rename(audit)
        assert ask("POST", "/v1/segment", **form()).status_code == 200
        assert ask("GET", "/ready").status_code == 200
    assert len(requests_in(audit)) == 2


def test_the_record_is_on_the_disk_before_the_answer(tmp_path, monkeypatch):
    """At the moment of the first byte of the answer, another connection finds the entry."""
    audit = tmp_path / "audit.sqlite"
    with asked(tmp_path, audit=audit) as ask:
        seen = []
        plain = ask.app

        async def watching(scope, receive, send):
            async def sending(message):
                if message["type"] == "http.response.start":
                    with sqlite3.connect(audit) as connection:
                        (body,) = connection.execute("SELECT body FROM entries ORDER BY sequence DESC").fetchone()
                    connection.close()
                    headers = dict(message["headers"])
                    seen.append(json.loads(body)["request"] == headers[b"x-request-id"].decode())
                await send(message)

            await plain(scope, receive, sending)

        ask.app = watching
        for number in range(3):
            assert ask("POST", "/v1/segment", **form(png(number))).status_code == 200
        assert seen == [True] * 3


def test_out_of_memory_is_an_answer(tmp_path, monkeypatch):
    from dfqsam.serve import work

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(work, "open_picture", full)
    with asked(tmp_path) as ask:
        answer = ask("POST", "/v1/segment", **form())
        assert (answer.status_code, answer.json()["advice"]) == (503, "Send a smaller image.")


def test_advice_is_taken_from_the_readers_sentence():
    from dfqsam.serve.problems import RequestError

    one = RequestError.of(InputError("The image is cut; or worse; export it again."))
    assert (one.status, one.error, one.advice) == (422, "The image is cut; or worse.", "Export it again.")
