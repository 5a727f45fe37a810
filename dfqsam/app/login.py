"""Login with the hospital's own identity provider (OpenID Connect), where Streamlit's secrets have an [auth] part.

Streamlit does the protocol. What is here fails closed: a file of secrets that cannot be read stops the viewer at its
start, since without it everybody would be let in.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import streamlit as st

from dfqsam.app.settings import current
from dfqsam.errors import InputError

NEEDED = ("client_id", "client_secret", "server_metadata_url")
LONGEST = 12 * 3600  # seconds that a login lasts; Streamlit's cookie would do for a month
SECRET = 32  # letters of the secret that signs cookies, at least
DEFAULT = "default"


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} cannot be read, and with it the login; mend or remove it ({error}).") from error


def _text(section: Mapping[str, Any], name: str, place: str) -> str:
    value = section.get(name)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{place} has no {name}; see docs/viewer.md for what a login needs.")
    return value


def _secure(url: str, name: str, place: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("localhost", "127.0.0.1"):
        raise InputError(f"{name} in {place} is no https address; what a login sends must not be read on the way.")


def providers(files: list[Path]) -> tuple[str, ...]:
    """The identity providers that these files of secrets name; none where there is no [auth] in any of them.

    Raises:
        InputError: for a file that cannot be read, an [auth] that is not whole or not safe, or where a package is.
    """
    found: dict[str, Any] = {}
    place = ""
    for path in files:
        if path.is_file() and "auth" in (document := _read(path)):
            found, place = document["auth"], f"[auth] of {path}"
    if not place:
        return ()
    if not isinstance(found, dict):
        raise InputError(f"{place} is no table; see docs/viewer.md for what a login needs.")
    _secure(_text(found, "redirect_uri", place), "redirect_uri", place)
    if len(_text(found, "cookie_secret", place)) < SECRET:
        raise InputError(f"The cookie_secret in {place} is shorter than {SECRET} letters; take random ones.")
    sections = {name: part for name, part in found.items() if isinstance(part, dict) and name != "client_kwargs"}
    named = sections if not any(name in found for name in NEEDED) else {DEFAULT: found}
    if not named:
        raise InputError(f"{place} names no provider; see docs/viewer.md for what a login needs.")
    for name, part in named.items():
        for key in NEEDED:
            _text(part, key, place if name == DEFAULT else f"{name} in {place}")
        _secure(part["server_metadata_url"], "server_metadata_url", place)
    if find_spec("authlib") is None or find_spec("httpx") is None:
        raise InputError("A login needs Authlib and httpx; install them with: pip install 'dfqsam[login]'.")
    return tuple(named)


def secret_files() -> list[Path]:
    """Where Streamlit looks for secrets."""
    from streamlit import config

    return [Path(one) for one in config.get_option("secrets.files")]


def fresh(claims: Mapping[str, Any], now: float) -> bool:
    """Whether somebody with these claims is logged in, and has been for no longer than a working day.

    >>> fresh({"is_logged_in": True, "sub": "7", "iat": 1000}, 1000 + 13 * 3600)
    False
    """
    issued = claims.get("iat")
    if not claims.get("is_logged_in") or not claims.get("sub") or not isinstance(issued, (int, float)):
        return False
    return now - issued <= LONGEST


def person() -> tuple[str, str] | None:
    """Who is logged in: what the provider knows the person by, and a name for the screen; None without a login.

    The first is issuer and subject, which a provider never gives to anybody else, as it may a mail address.
    """
    if not current().login or not fresh(st.user, time.time()):
        return None
    subject = str(st.user.get("sub") or "")
    shown = next((st.user[name] for name in ("name", "preferred_username", "email") if st.user.get(name)), subject)
    return f"{st.user.get('iss') or ''} {subject}", str(shown)


def gate() -> bool:
    """Whether this visitor may see more; else the page to log in on is drawn."""
    names = current().login
    if not names:
        return True
    if fresh(st.user, time.time()):
        return True
    with st.columns([1, 1.2, 1])[1]:
        st.header("Compare two models on your own pictures", anchor=False)
        st.markdown("This viewer is for people of this site. Log in to go on.")
        for name in names:
            label = "Log in" if len(names) == 1 else f"Log in with {name}"
            st.button(
                label,
                key=f"login {name}",
                type="primary",
                icon=":material/login:",
                on_click=st.login,
                args=() if name == DEFAULT else (name,),
                width="stretch",
            )
        st.caption("For research use, not for diagnosis.")
    return False
