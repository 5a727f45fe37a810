"""Who may ask, how often, from where; what is logged and counted, and what is not."""

import json
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.errors import InputError
from dfqsam.serve.clients import Clients, fingerprint
from dfqsam.serve.rate import MOST, Rate
from dfqsam.serve.settings import Settings
from tests.serve.test_images import FINGERPRINTS
from tests.serve.world import BOX, TOKENS, asked, bearer, form

HEADERS = ("cache-control", "x-content-type-options", "content-security-policy", "x-request-id")


def test_without_a_token_nothing_is_answered_but_probes_and_the_description(tmp_path):
    with asked(tmp_path, clients=FINGERPRINTS) as ask:
        for method, path in (
            ("GET", "/v1/bundle"),
            ("POST", "/v1/segment"),
            ("GET", "/metrics"),
            ("DELETE", f"/v1/images/{'0' * 64}"),
            ("GET", "/nothing"),
        ):
            for headers in ({}, bearer("c" * 40), bearer(TOKENS[0][:-1]), {"Authorization": f"Basic {TOKENS[0]}"}):
                answer = ask(method, path, headers=headers)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
        for path in ("/health", "/ready", "/docs", "/openapi.json"):
            assert ask("GET", path).status_code == 200
        for token in TOKENS:
            assert ask("GET", "/v1/bundle", headers=bearer(token)).status_code == 200
        assert ask("GET", "/v1/bundle", headers={"Authorization": f"bearer  {TOKENS[1]} "}).status_code == 200
        assert ask("GET", "/openapi.json").json()["components"]["securitySchemes"]


@given(st.binary(max_size=80))
def test_only_whole_tokens_are_known(text):
    assert (FINGERPRINTS.known(b"Bearer " + text) is not None) == (text.strip() in [t.encode() for t in TOKENS])


def test_every_token_is_compared_to_its_end(monkeypatch):
    """Neither the place in the file nor a common beginning shows in the time."""
    compared = []
    import hmac

    plain = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(a) or plain(a, b))
    for token in (*TOKENS, "c" * 40, ""):
        FINGERPRINTS.known(f"Bearer {token}".encode())
        assert compared == list(FINGERPRINTS.fingerprints)
        compared.clear()


def test_a_token_file(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"# the viewer\n{TOKENS[0]}\n\n  {TOKENS[1]}  \n{TOKENS[0]}\n")
    path.chmod(0o644)
    with pytest.raises(InputError, match="Others may read"):
        Clients.of(path)
    path.chmod(0o600)
    assert Clients.of(path) == FINGERPRINTS
    spaced = f"# a\n{'x y' * 20}\n"
    for text, words in (("", "holds no token"), ("secret\n", "Line 1"), (spaced, "Line 2"), ("é" * 40, "Line 1")):
        path.write_text(text)
        with pytest.raises(InputError, match=words) as error:
            Clients.of(path)
        assert text.strip() not in str(error.value) or not text
    with pytest.raises(InputError, match="cannot be read"):
        Clients.of(tmp_path / "none")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8000", "Origin": "http://evil.example:8000"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "[::1"},
        {"Host": "127.0.0.1.evil.example"},
    ],
)
def test_pages_of_other_sites_are_refused(tmp_path, headers):
    with asked(tmp_path) as ask:
        answer = ask("POST", "/v1/segment", **form(), headers=headers)
        assert answer.status_code == 403
        assert ask.service.metrics.registry.get_sample_value("dfqsam_step_seconds_count", {"step": "encode"}) is None


@pytest.mark.parametrize(
    "headers",
    [{"Host": "localhost:9"}, {"Host": "[::1]:8000"}, {"Origin": "http://127.0.0.1:8000"}, {"Host": "127.9.9.9"}],
)
def test_this_machine_may_be_called_by_its_names(tmp_path, headers):
    with asked(tmp_path) as ask:
        assert ask("GET", "/v1/bundle", headers=headers).status_code == 200


def test_with_tokens_any_name_will_do(tmp_path):
    with asked(tmp_path, clients=FINGERPRINTS) as ask:
        headers = {"Host": "segment.hospital.example", **bearer(TOKENS[0])}
        assert ask("GET", "/v1/bundle", headers=headers).status_code == 200


def test_a_client_is_held_to_its_rate_and_others_are_not(tmp_path):
    with asked(tmp_path, rate=18, clients=FINGERPRINTS) as ask:  # three at once
        mine, other = (bearer(token) for token in TOKENS)
        statuses = [ask("GET", "/v1/bundle", headers=mine).status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        held = ask("GET", "/v1/bundle", headers=mine)
        assert 1 <= int(held.headers["retry-after"]) <= 4
        assert ask("GET", "/v1/bundle", headers=other).status_code == 200
        assert [ask("GET", "/v1/bundle").status_code for _ in range(5)] == [401, 401, 401, 429, 429]  # guessing is slow
        assert [ask("GET", "/health").status_code for _ in range(9)] == [200] * 9


@given(st.integers(1, 600), st.lists(st.floats(0, 5), max_size=60))
def test_no_client_gets_more_than_its_rate_and_burst(per_minute, pauses):
    now = 0.0
    rate = Rate(per_minute, burst=3, now=lambda: now)
    taken = 0
    for pause in pauses:
        now += pause
        wait = rate.wait("a")
        taken += not wait
        assert taken <= 3 + now * per_minute / 60 + 1e-6
        if wait:
            now += wait
            assert rate.wait("a") == 0  # what was said holds
            taken += 1


def test_clients_that_are_remembered_are_bounded():
    rate = Rate(60, now=lambda: 0.0)
    for number in range(3 * MOST):
        assert rate.wait(str(number)) == 0
    assert len(rate._left) == MOST


def test_answers_carry_what_keeps_browsers_from_guessing(tmp_path):
    with asked(tmp_path, clients=FINGERPRINTS) as ask:
        for path in ("/health", "/v1/bundle", "/nothing", "/docs"):
            answer = ask("GET", path)
            assert all(answer.headers[name] for name in HEADERS)
            assert "server" not in answer.headers


def test_the_log_and_the_figures_name_nobody(tmp_path, caplog):
    secret = "Mrs-Example"
    with asked(tmp_path, clients=FINGERPRINTS) as ask, caplog.at_level(logging.INFO):
        logging.getLogger("dfqsam.serve.access").propagate = True
        mine = bearer(TOKENS[0])
        sent = form(prompts=[{"box": BOX, "name": secret}], name=f"{secret}.png")
        answer = ask("POST", f"/v1/segment?patient={secret}", **sent, headers={**mine, "User-Agent": secret})
        assert answer.status_code == 200
        key = answer.json()["image"]
        ask("POST", f"/v1/images/{key}/segment", json={"prompts": [{"box": BOX}]}, headers=mine)
        ask("GET", f"/{secret}", headers=mine)
        ask(secret, "/v1/bundle", headers=mine)
        figures = ask("GET", "/metrics", headers=mine).text
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "dfqsam.serve.access"]
    assert [line["route"] for line in lines] == [
        "/v1/segment", "/v1/images/{image}/segment", "none", "/v1/bundle", "/metrics",
    ]  # fmt: skip
    assert lines[0].keys() == {"time", "request", "method", "route", "status", "ms", "client"}
    assert lines[0]["request"] == answer.headers["x-request-id"]
    assert lines[0]["client"] == fingerprint(TOKENS[0].encode())[:12]
    said = "\n".join(record.getMessage() for record in caplog.records if record.name != "httpx")  # the client's own
    for text in (said, figures):
        for word in (secret, secret.upper(), key, TOKENS[0], "127.0.0.1"):
            assert word not in text
    assert fingerprint(TOKENS[0].encode())[:12] not in figures
    assert re.search(r'dfqsam_requests_total\{method="POST",route="/v1/segment",status="200"\} 1', figures)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "0.0.0.0"}, "needs --token-file and --tls-cert and --tls-key"),
        ({"host": "hospital.example", "clients": FINGERPRINTS}, "needs --tls-cert and --tls-key; give them"),
        ({"host": "::", "certificate": "c", "key": "k"}, "needs --token-file; give them"),
        ({"certificate": "c"}, "give both --tls-cert and --tls-key"),
        ({"port": 70_000}, "There is no port 70000"),
        ({"queue": -1}, "--queue -1 is too small"),
        ({"timeout": float("nan")}, "--timeout nan is too small"),
    ],
)
def test_settings_that_would_be_a_risk_are_refused(settings, words):
    with pytest.raises(InputError, match=re.escape(words)):
        Settings(**settings)


def test_settings_that_are_none():
    Settings(host="0.0.0.0", insecure=True)
    Settings(host="0.0.0.0", clients=FINGERPRINTS, certificate="c", key="k")
    Settings(host="::1")
    Settings(host="localhost")
