"""What a login needs, what is refused before the viewer starts, and a login in a real browser at a real provider."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dfqsam.app import login
from dfqsam.app.login import providers
from dfqsam.errors import InputError
from tests.app.browser import CHROMIUM, MISSING, free_port, viewer
from tests.evaluate.world import toy_bundle

WHOLE = {
    "redirect_uri": "https://viewer.hospital.example/oauth2callback",
    "cookie_secret": "0123456789abcdef0123456789abcdef",
    "client_id": "viewer",
    "client_secret": "s",
    "server_metadata_url": "https://id.hospital.example/.well-known/openid-configuration",
}


def written(folder: Path, section: dict, name: str = "secrets.toml") -> Path:
    lines, tables = ["[auth]"], []
    for key, value in section.items():
        if isinstance(value, dict):
            tables += [f"[auth.{key}]", *(f"{one} = {json.dumps(two)}" for one, two in value.items())]
        else:
            lines.append(f"{key} = {json.dumps(value)}")
    (folder / name).write_text("\n".join([*lines, *tables]) + "\n")
    return folder / name


def test_without_auth_nobody_has_to_log_in(tmp_path):
    assert providers([]) == ()
    assert providers([tmp_path / "nowhere.toml"]) == ()
    (tmp_path / "secrets.toml").write_text('[other]\nkey = "value"\n')
    assert providers([tmp_path / "secrets.toml"]) == ()


def test_one_provider_or_several_with_names(tmp_path):
    assert providers([written(tmp_path, WHOLE)]) == ("default",)
    shared = {name: WHOLE[name] for name in ("redirect_uri", "cookie_secret")}
    part = {name: WHOLE[name] for name in login.NEEDED}
    assert providers([written(tmp_path, {**shared, "clinic": part, "university": part})]) == ("clinic", "university")
    assert providers([written(tmp_path, {**WHOLE, "client_kwargs": {"prompt": "login"}})]) == ("default",)


@pytest.mark.parametrize("missing", WHOLE)
def test_what_is_missing_is_said(tmp_path, missing):
    section = {name: value for name, value in WHOLE.items() if name != missing}
    with pytest.raises(InputError, match=missing):
        providers([written(tmp_path, section)])
    with pytest.raises(InputError, match=missing):
        providers([written(tmp_path, {**WHOLE, missing: " "})])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cookie_secret": "short"}, "shorter than 32 letters"),
        ({"server_metadata_url": "http://id.hospital.example/x"}, "server_metadata_url .* is no https address"),
        ({"redirect_uri": "http://viewer.hospital.example/oauth2callback"}, "redirect_uri .* is no https address"),
    ],
)
def test_what_is_not_safe_is_refused(tmp_path, change, words):
    with pytest.raises(InputError, match=words):
        providers([written(tmp_path, {**WHOLE, **change})])


def test_secrets_that_cannot_be_read_stop_the_viewer(tmp_path):
    """Streamlit would go on without them, and let everybody in."""
    path = tmp_path / "secrets.toml"
    for data in (b"[auth\n", b"\xff\xfe", b'auth = "x"\n'):
        path.write_bytes(data)
        with pytest.raises(InputError):
            providers([path])


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(login, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'dfqsam\[login\]'"):
        providers([written(tmp_path, WHOLE)])


@pytest.mark.parametrize(
    ("claims", "late", "right"),
    [
        ({}, 0, True),
        ({}, 12 * 3600, True),
        ({}, 12 * 3600 + 1, False),
        ({"is_logged_in": False}, 0, False),
        ({"sub": ""}, 0, False),
        ({"sub": None}, 0, False),
        ({"iat": None}, 0, False),
        ({"iat": "1000"}, 0, False),
    ],
)
def test_a_login_is_a_person_and_lasts_a_working_day(claims, late, right):
    assert login.fresh({"is_logged_in": True, "sub": "7", "iat": 1000, **claims}, 1000 + late) is right


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
def test_who_is_not_logged_in_sees_nothing_and_who_is_judges_by_that_name(browser, tmp_path):
    from tests.app.oidc import CLIENT, SECRET, provider

    bundle = toy_bundle(tmp_path / "bundle", 3)
    port = free_port()
    (tmp_path / "run" / ".streamlit").mkdir(parents=True)
    with provider(sub="248289761001", name="Anna *Weiss*", email="anna@hospital.example") as issuer:
        section = {
            **WHOLE,
            "redirect_uri": f"http://localhost:{port}/oauth2callback",
            "client_id": CLIENT,
            "client_secret": SECRET,
            "server_metadata_url": f"{issuer}/.well-known/openid-configuration",
        }
        written(tmp_path / "run" / ".streamlit", section)
        with viewer(tmp_path / "run", "--bundle", bundle.path, "--judgements", tmp_path / "kept", port=port):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            page = context.new_page()
            page.set_default_timeout(20_000)
            page.goto(f"http://localhost:{port}")
            page.get_by_text("Log in to go on").wait_for()
            assert page.get_by_text("Toy").count() == page.locator("input[type=file]").count() == 0
            page.get_by_role("button", name="Log in").click()
            page.get_by_role("button", name="Open the skin lesion").wait_for()
            page.get_by_text("Logged in as Anna *Weiss*").wait_for()
            page.get_by_role("button", name="Open the skin lesion").click()
            page.locator(".dq canvas").first.wait_for()
            assert page.get_by_role("textbox", name="Your name or initials").count() == 0
            frame = page.locator(".dq canvas").first.bounding_box()
            page.mouse.move(frame["x"] + 60, frame["y"] + 60)
            page.mouse.down()
            page.mouse.move(frame["x"] + 180, frame["y"] + 170)
            page.mouse.up()
            page.get_by_role("button", name="Accept").wait_for()
            page.locator("[data-test-script-state=notRunning]").wait_for()
            page.get_by_role("button", name="Accept").click()
            page.get_by_text("Accepted. Stored as entry 2").first.wait_for()
            page.get_by_role("button", name="Log out").click()
            page.get_by_text("Log in to go on").wait_for()
            context.close()
    with closing(sqlite3.connect(tmp_path / "kept" / "judgements.sqlite")) as connection:
        (body,) = connection.execute("SELECT body FROM entries WHERE sequence = 2").fetchone()
    from dfqsam.judgement import open_key

    assert json.loads(body)["rater"] == open_key(tmp_path / "kept" / "site.key").rater(f"{issuer} 248289761001")
    assert "Traceback" not in (tmp_path / "run" / "viewer.log").read_text()
