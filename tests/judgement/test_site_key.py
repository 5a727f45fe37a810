import hashlib
import hmac
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfqsam.errors import InputError
from dfqsam.judgement import SiteKey, open_key, session_rater
from dfqsam.judgement.record import PSEUDONYM, RATER
from tests.judgement.world import KEY


def test_pseudonyms_by_hand():
    secret = bytes(range(32))
    rater = hmac.new(secret, b"dfqsam rater\0anna@site.org", hashlib.sha256).hexdigest()[:32]
    study = hmac.new(secret, b"dfqsam study\x001.2.840.1", hashlib.sha256).hexdigest()[:32]
    assert KEY.rater(" Anna@Site.org") == f"login-{rater}"
    assert KEY.study("1.2.840.1") == study


@given(st.text(min_size=1), st.text(min_size=1))
def test_one_name_one_pseudonym_and_only_one(one, two):
    if one.strip() and two.strip():
        assert KEY.study(one) == KEY.study(f" {one} ")
        assert (KEY.study(one) == KEY.study(two)) == (one.strip() == two.strip())
        assert PSEUDONYM.fullmatch(KEY.study(one))
        assert KEY.rater("anna") != SiteKey(bytes(32)).rater("anna")
        assert KEY.rater(one).removeprefix("login-") != KEY.study(one)


def test_the_forms_of_a_login_name_are_one():
    assert KEY.rater("MÜLLER") == KEY.rater("müller") == KEY.rater("mu\u0308ller")


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_nobody(name):
    with pytest.raises(InputError, match="login name is empty"):
        KEY.rater(name)
    with pytest.raises(InputError, match="id is empty"):
        KEY.study(name)


def test_sessions_have_ids_of_their_own():
    assert len({session_rater() for _ in range(100)}) == 100
    assert RATER.fullmatch(session_rater())


def test_the_key_shows_itself_nowhere(tmp_path):
    key = open_key(tmp_path / "site.key")
    secret = (tmp_path / "site.key").read_text().strip()
    assert len(bytes.fromhex(secret)) == 32
    assert secret not in repr(key) + str(key) + key.rater("anna") + key.fingerprint
    assert bytes.fromhex(secret) == key._secret


def test_the_key_is_made_once_for_its_owner_only(tmp_path):
    old = os.umask(0)
    try:
        key = open_key(tmp_path / "deep" / "site.key")
    finally:
        os.umask(old)
    path = tmp_path / "deep" / "site.key"
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["site.key"]
    assert open_key(path).fingerprint == key.fingerprint
    assert open_key(tmp_path / "other.key").fingerprint != key.fingerprint


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_that_others_may_read_is_refused(tmp_path, mode):
    open_key(tmp_path / "site.key")
    (tmp_path / "site.key").chmod(mode)
    with pytest.raises(InputError, match=r"may be read by others; say: chmod 600"):
        open_key(tmp_path / "site.key")


@pytest.mark.parametrize("content", [b"", b"abc\n", b"0" * 62, b"0" * 66, b"\xff" * 64, b"0" * 5000])
def test_a_file_that_is_no_key_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "site.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InputError, match="holds no site key"):
        open_key(path)
    assert path.read_bytes() == content


def test_a_folder_or_a_dangling_link_is_no_key(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        open_key(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="cannot be read"):
        open_key(tmp_path / "link")
