"""Keys, signatures and trust stores: what a site opens, and what it refuses."""

import logging
import os
import random
import re
import shutil
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from dfqsam.bundle import TrustStore, open_bundle, read_bundle, trust
from dfqsam.bundle.keys import make_keys, open_private, open_public
from dfqsam.bundle.sign import Signer, sign_bundle
from dfqsam.errors import BundleError, InputError
from dfqsam.runtime import Predictor
from tests.bundle.world import operator, signed
from tests.evaluate.world import toy_bundle

FLIPS = 200


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder with a signed ``bundle``, whose key is the only one that is trusted."""
    signed(tmp_path)
    monkeypatch.setenv("DFQSAM_TRUST", str(tmp_path / "hospital.pub"))
    return tmp_path


def test_keys_are_made_once_for_their_owner_only(tmp_path):
    made = make_keys(tmp_path / "keys" / "k")
    private, public = tmp_path / "keys" / "k", tmp_path / "keys" / "k.pub"
    if os.name == "posix":
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert open_public(public).fingerprint == made.fingerprint == Signer(private).public.fingerprint
    before = private.read_bytes(), public.read_bytes()
    for lost in (public, private):
        with pytest.raises(InputError, match="is there already"):
            make_keys(private)
        assert (private.read_bytes(), public.read_bytes()) == before
        lost.rename(tmp_path / lost.name)
        with pytest.raises(InputError, match="is there already"):
            make_keys(private)
        (tmp_path / lost.name).rename(lost)


def test_a_key_with_a_passphrase_asks_for_it(tmp_path):
    make_keys(tmp_path / "k", b"correct horse")
    with pytest.raises(InputError, match="has a passphrase"):
        open_private(tmp_path / "k")
    with pytest.raises(InputError, match="passphrase of"):
        open_private(tmp_path / "k", lambda: b"battery staple")
    signer = Signer(tmp_path / "k", lambda: b"correct horse")
    assert open_public(tmp_path / "k.pub").verifies(signer.sign(b"data"), b"data")


def test_what_is_no_key_is_refused_in_one_sentence(tmp_path):
    make_keys(tmp_path / "k")
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = rsa_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "rsa.pub").write_bytes(pem)
    (tmp_path / "text.pub").write_text("no key")
    (tmp_path / "large.pub").write_bytes(bytes(1 << 20))
    shutil.copy(tmp_path / "k", tmp_path / "secret.pub")
    cases = {"rsa": "no Ed25519 public key", "text": "no Ed25519", "large": "no key", "secret": "is a private key"}
    for name, words in cases.items():
        with pytest.raises(InputError, match=words) as error:
            open_public(tmp_path / f"{name}.pub")
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="cannot be read"):
        open_public(tmp_path / "none.pub")
    os.chmod(tmp_path / "k.pub", 0o600)
    with pytest.raises(InputError, match="no Ed25519 private key"):
        open_private(tmp_path / "k.pub")


@pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")
def test_a_private_key_that_others_may_read_is_not_used(tmp_path):
    make_keys(tmp_path / "k")
    os.chmod(tmp_path / "k", 0o640)
    with pytest.raises(InputError, match="chmod 600"):
        open_private(tmp_path / "k")


def test_a_signed_bundle_opens_and_says_by_whom_it_was_signed(site, caplog):
    caplog.set_level(logging.INFO, trust.__name__)
    opened = open_bundle(site / "bundle")
    assert (opened.trust.state, opened.trust.key) == ("verified", "hospital")
    assert opened.trust.fingerprint == open_public(site / "hospital.pub").fingerprint
    assert f"signed by the trusted key hospital ({opened.trust.fingerprint[:16]})" in caplog.text
    assert Predictor(site / "bundle").bundle == opened


def test_200_of_200_flipped_bits_are_refused(site):
    """In every file of the bundle, the signature and the manifest among them."""
    files = sorted(path for path in (site / "bundle").iterdir())
    assert {path.name for path in files} == {"decoder.onnx", "encoder.onnx", "manifest.json", "manifest.sig"}
    chance = random.Random(0)
    refused = 0
    for number in range(FLIPS):
        path = files[number % len(files)]
        original = path.read_bytes()
        at = chance.randrange(8 * len(original))
        flipped = bytearray(original)
        flipped[at // 8] ^= 1 << (at % 8)
        path.write_bytes(flipped)
        try:
            open_bundle(site / "bundle")
        except BundleError:
            refused += 1
        path.write_bytes(original)
    assert refused == FLIPS
    assert open_bundle(site / "bundle").trust.state == "verified"


def test_every_bit_of_a_signature_counts(site):
    read, store = read_bundle(site / "bundle"), TrustStore.configured()
    assert read.signature is not None
    assert trust.examine(read.data, read.signature, store).state == "verified"
    for at in range(8 * 64):
        flipped = bytearray(read.signature)
        flipped[at // 8] ^= 1 << (at % 8)
        assert trust.examine(read.data, bytes(flipped), store).state == "foreign"


def test_every_change_of_the_set_of_files_is_refused(site):
    folder = site / "bundle"
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        elsewhere = site / name
        (folder / name).rename(elsewhere)  # missing
        with pytest.raises(BundleError):
            open_bundle(folder)
        for other in (f"{name}.bak", name.upper(), f".{name}", "selftest.npz"):  # renamed
            shutil.copy(elsewhere, folder / other)
            with pytest.raises(BundleError):
                open_bundle(folder)
            (folder / other).unlink()
        (folder / name).symlink_to(elsewhere)  # linked
        with pytest.raises(BundleError):
            open_bundle(folder)
        (folder / name).unlink()
        elsewhere.rename(folder / name)
    for name in ("notes.txt", "MODEL_CARD.md", "encoder_fp32.onnx", ".hidden", "manifest.sig.bak", "manifest.json~"):
        (folder / name).write_bytes(b"added")
        with pytest.raises(BundleError, match="not named in the manifest"):
            open_bundle(folder)
        (folder / name).unlink()
    (folder / "sub").mkdir()
    with pytest.raises(BundleError, match="is a link or a directory"):
        open_bundle(folder)
    (folder / "sub").rmdir()
    (folder / "encoder.onnx").rename(site / "e")  # swapped
    (folder / "decoder.onnx").rename(folder / "encoder.onnx")
    (site / "e").rename(folder / "decoder.onnx")
    with pytest.raises(BundleError, match="does not match its hash"):
        open_bundle(folder)


def test_a_bundle_made_anew_around_other_weights_needs_another_signature(site):
    """Whoever can compute hashes can write a manifest, and cannot sign it."""
    kept = (site / "bundle" / "manifest.sig").read_bytes()
    made = toy_bundle(site / "bundle", 3, full=False)
    assert not (made.path / "manifest.sig").exists()
    with pytest.raises(BundleError, match="this site runs bundles signed by its own keys only"):
        open_bundle(site / "bundle")
    (made.path / "manifest.sig").write_bytes(kept)
    with pytest.raises(BundleError, match="signed by a key that is not trusted here"):
        open_bundle(site / "bundle")
    with pytest.raises(BundleError, match="not trusted here"):
        Predictor(site / "bundle")


@pytest.mark.parametrize("state", ["unsigned", "foreign"])
def test_what_nobody_trusted_has_signed_opens_only_where_that_is_allowed(site, monkeypatch, caplog, state):
    if state == "unsigned":
        toy_bundle(site / "other", 0, full=False)
    else:
        signed(site, "other", "stranger")
    with pytest.raises(BundleError, match="--allow-unsigned"):
        open_bundle(site / "other")
    assert caplog.text == ""
    monkeypatch.setenv("DFQSAM_ALLOW_UNSIGNED", "1")
    assert open_bundle(site / "other").trust.state == state
    assert "it is opened because unsigned bundles were allowed" in caplog.text


@pytest.mark.parametrize("size", [0, 63, 65, 5000])
def test_a_signature_of_another_size_is_damage(tmp_path, size):
    signed(tmp_path)
    (tmp_path / "bundle" / "manifest.sig").write_bytes(bytes(size))
    with pytest.raises(BundleError):
        open_bundle(tmp_path / "bundle")


def test_without_a_trust_store_everything_whole_opens_and_says_what_it_is(tmp_path):
    signed(tmp_path)
    toy_bundle(tmp_path / "plain", 0, full=False)
    assert open_bundle(tmp_path / "bundle").trust.state == "unchecked"
    assert "no trust store is set up" in open_bundle(tmp_path / "bundle").trust.sentence
    assert open_bundle(tmp_path / "plain").trust.state == "unsigned"


def test_the_folder_of_the_site_counts_before_the_variable(tmp_path, monkeypatch):
    monkeypatch.setattr(trust, "site_folder", lambda: tmp_path / "etc")
    assert TrustStore.configured() is None
    (tmp_path / "etc").mkdir()
    with pytest.raises(InputError, match="holds no public key"):  # a store that is empty trusts nobody
        TrustStore.configured()
    for name in ("a", "b"):
        make_keys(tmp_path / "etc" / name)
    (tmp_path / "etc" / "README").write_text("keys of the two vendors")
    store = TrustStore.configured()
    assert store is not None
    assert [key.name for key in store.keys] == ["a", "b"]
    monkeypatch.setattr(trust, "site_folder", lambda: tmp_path / "link")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="cannot be read"):
        TrustStore.configured()
    monkeypatch.setattr(trust, "site_folder", lambda: tmp_path / ("x" * 300))  # the system will not say
    with pytest.raises(InputError, match="cannot be read"):
        TrustStore.configured()
    monkeypatch.setattr(trust, "site_folder", lambda: tmp_path / "etc")
    make_keys(tmp_path / "c")
    monkeypatch.setenv("DFQSAM_TRUST", str(tmp_path / "c.pub"))  # somebody's own rule, beside the site's
    assert TrustStore.configured() == store
    (tmp_path / "etc" / "broken.pub").write_text("")
    with pytest.raises(InputError, match=r"broken\.pub is no Ed25519 public key"):
        TrustStore.configured()
    shutil.rmtree(tmp_path / "etc")
    store = TrustStore.configured()
    assert store is not None
    assert [key.name for key in store.keys] == ["c"]
    for place, words in ((tmp_path / "none", "cannot be read"), (tmp_path / "c", "is a private key")):
        monkeypatch.setenv("DFQSAM_TRUST", str(place))
        with pytest.raises(InputError, match=words):  # never passed over
            open_bundle(tmp_path)


def test_any_key_of_the_store_may_have_signed(tmp_path):
    bundle = signed(tmp_path)
    make_keys(tmp_path / "other")
    store = TrustStore.of([tmp_path / "other.pub", tmp_path / "hospital.pub"])
    assert open_bundle(bundle.path, store).trust.key == "hospital"
    with pytest.raises(BundleError, match="not trusted"):
        open_bundle(bundle.path, TrustStore.of([tmp_path / "other.pub"]))
    with pytest.raises(InputError, match="No public key"):
        TrustStore.of([])


def test_signing_again_replaces_the_signature_and_nothing_else(site):
    make_keys(site / "second")
    before = {path.name: path.read_bytes() for path in (site / "bundle").iterdir()}
    again = sign_bundle(site / "bundle", Signer(site / "second"))
    after = {path.name: path.read_bytes() for path in (site / "bundle").iterdir()}
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {"manifest.sig"}
    assert again.sha256 == read_bundle(site / "bundle").manifest.sha256
    assert sorted(path.name for path in site.iterdir()) == [
        *("bundle", "hospital", "hospital.pub", "second", "second.pub")
    ]


def test_what_is_damaged_or_malicious_is_not_signed(site):
    (site / "bundle" / "encoder.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match="does not match its hash"):
        sign_bundle(site / "bundle", Signer(site / "hospital"))
    from tests.bundle.test_bundle import FIELDS, FILES, write_bundle

    write_bundle(site / "evil", {**FILES, "encoder.onnx": operator("Exec"), "decoder.onnx": operator("Add")}, **FIELDS)
    with pytest.raises(BundleError, match=r"encoder\.onnx is refused"):
        sign_bundle(site / "evil", Signer(site / "hospital"))
    assert not (site / "evil" / "manifest.sig").exists()


def test_the_format_is_plain_ed25519_over_the_manifest(site):
    """By the primitives alone, as docs/trust.md says: no code of ours."""
    key = open_public(site / "hospital.pub").key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    folder = site / "bundle"
    public = ed25519.Ed25519PublicKey.from_public_bytes(key)
    public.verify((folder / "manifest.sig").read_bytes(), (folder / "manifest.json").read_bytes())


def openssl(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.skipif(
    shutil.which("openssl") is None or not re.match(r"OpenSSL [3-9]", openssl("version").stdout),
    reason="openssl 3 is not installed",
)
def test_openssl_verifies_what_dfqsam_signs_and_the_other_way_round(site):
    folder = site / "bundle"
    check = ("-verify", "-pubin", "-inkey", site / "hospital.pub", "-rawin", "-in", folder / "manifest.json")
    done = openssl("pkeyutl", *check, "-sigfile", folder / "manifest.sig")
    assert "Signature Verified Successfully" in done.stdout, done.stderr
    altered = bytearray((folder / "manifest.sig").read_bytes())
    altered[3] ^= 1
    (site / "altered").write_bytes(altered)
    assert openssl("pkeyutl", *check, "-sigfile", site / "altered").returncode != 0
    # Keys of openssl's, a signature of openssl's.
    assert openssl("genpkey", "-algorithm", "ed25519", "-out", site / "o").returncode == 0
    os.chmod(site / "o", 0o600)
    assert openssl("pkey", "-in", site / "o", "-pubout", "-out", site / "o.pub").returncode == 0
    made = ("-sign", "-inkey", site / "o", "-rawin", "-in", folder / "manifest.json", "-out", folder / "manifest.sig")
    assert openssl("pkeyutl", *made).returncode == 0
    assert open_bundle(folder, TrustStore.of([site / "o.pub"])).trust.key == "o"
    assert Signer(site / "o").sign((folder / "manifest.json").read_bytes()) == (folder / "manifest.sig").read_bytes()
    shown = subprocess.run(
        f"openssl pkey -pubin -in {site}/o.pub -outform DER | openssl dgst -sha256 -r",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split()[0] == open_public(site / "o.pub").fingerprint


def test_a_raw_private_key_is_written_as_openssl_expects_it(tmp_path):
    make_keys(tmp_path / "k")
    assert (tmp_path / "k").read_text().startswith("-----BEGIN PRIVATE KEY-----\n")
    key = open_private(tmp_path / "k")
    assert key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) == (tmp_path / "k").read_bytes()
