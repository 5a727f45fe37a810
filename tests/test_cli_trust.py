"""keygen, sign, verify, audit and the options that other verbs share, on the command line."""

import io
import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from dfqsam.audit import AuditLog
from dfqsam.bundle import open_bundle, read_bundle
from dfqsam.cli_policy import CHECKPOINTS, SKIP_SELF_TEST
from dfqsam.runtime import selftest
from dfqsam.sam import allowed
from tests.bundle.world import operator, signed
from tests.evaluate.world import SIDE, square, toy_bundle, write_manifest


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder with a signed ``bundle``, an unsigned ``plain`` and a picture; the key is trusted, everything logged."""
    signed(tmp_path)
    toy_bundle(tmp_path / "plain", 2, full=False)
    cv2.imwrite(str(tmp_path / "p.png"), np.full((SIDE, SIDE), 90, np.uint8))
    monkeypatch.setenv("DFQSAM_TRUST", str(tmp_path / "hospital.pub"))
    monkeypatch.setenv("DFQSAM_AUDIT", str(tmp_path / "audit.sqlite"))
    return tmp_path


def entries(site) -> list[tuple[str, dict]]:
    log = AuditLog(site / "audit.sqlite", write=False)
    log.verify()
    found = [(entry.kind, entry.document) for entry in log.entries()]
    log.close()
    return found


def test_names_of_variables_are_the_same_where_they_are_read():
    assert (SKIP_SELF_TEST, CHECKPOINTS) == (selftest.SKIP, allowed.VARIABLE)


def test_from_keys_to_a_verified_bundle(tmp_path, dfqsam, monkeypatch):
    key, bundle, log = tmp_path / "key", toy_bundle(tmp_path / "bundle", 0, full=False), tmp_path / "audit.sqlite"
    made = dfqsam("keygen", "-o", key)
    assert made.returncode == 0, made.stderr
    fingerprint = made.stdout.split()[-1]
    refused = dfqsam("verify", bundle.path, "--trust", f"{key}.pub", "--audit", log)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"Error: {bundle.path} is not signed (nothing shows who made it).\n"
    done = dfqsam("sign", bundle.path, "--key", key, "--audit", log, "--json")
    assert json.loads(done.stdout) == {
        "bundle": str(bundle.path),
        "sha256": bundle.sha256,
        "fingerprint": fingerprint,
    }
    done = dfqsam("verify", bundle.path, "--trust", f"{key}.pub", "--audit", log)
    assert done.returncode == 0, done.stderr
    assert "is whole, and signed by the trusted key key" in done.stdout
    (tmp_path / "store").mkdir()
    shutil.copy(f"{key}.pub", tmp_path / "store")
    done = dfqsam("verify", bundle.path, "--trust", tmp_path / "store", "--audit", log, "--json")
    wanted = {"bundle": bundle.sha256, "result": "verified", "key": fingerprint, "acceptance": None}
    assert json.loads(done.stdout) == wanted
    found = entries(tmp_path)
    assert [kind for kind, _ in found] == ["verify", "sign", "verify", "verify"]
    assert [about.get("result") for _, about in found] == ["unsigned", None, "verified", "verified"]
    shown = dfqsam("audit", "show", log)
    assert shown.stdout.splitlines()[1].split(" ", 2)[2].startswith(f"sign: bundle {bundle.sha256[:12]}")
    head = shown.stdout.split()[-1]
    assert json.loads(dfqsam("audit", "show", log, "--json").stdout)["head"] == head
    done = dfqsam("audit", "verify", log, "--head", head)
    assert done.stdout.startswith("The chain is whole, and goes on from the head that was noted.")
    assert dfqsam("audit", "verify", log, "--head", f"{head.partition(':')[0]}:{'0' * 64}").returncode == 1
    assert dfqsam("audit", "verify", log, "--head", "9").returncode == 2


def test_what_is_refused_says_why_by_its_exit_code(site, dfqsam):
    assert dfqsam("verify", site / "bundle").returncode == 0  # by the store of the site
    path = site / "bundle" / "decoder.onnx"
    path.write_bytes(path.read_bytes()[::-1])
    done = dfqsam("verify", site / "bundle", "--json")
    assert done.returncode == 1
    assert "does not match its hash" in json.loads(done.stdout)["error"]
    foreign = signed(site, "foreign", "stranger")
    assert dfqsam("verify", foreign.path).returncode == 1
    assert dfqsam("verify", site / "none").returncode == 1
    results = [about["result"] for kind, about in entries(site) if kind == "verify"]
    assert results == ["verified", "refused", "foreign", "refused"]


def test_a_malicious_graph_is_refused_by_verify_though_its_maker_has_signed_it(site, dfqsam):
    from tests.bundle.test_bundle import FIELDS, write_bundle

    evil = write_bundle(
        site / "evil", {"encoder.onnx": operator("Exec"), "decoder.onnx": operator("Add")}, **FIELDS
    ).path
    from dfqsam.bundle.sign import Signer

    (evil / "manifest.sig").write_bytes(Signer(site / "hospital").sign((evil / "manifest.json").read_bytes()))
    assert open_bundle(evil).trust.state == "verified"
    done = dfqsam("verify", evil)
    assert done.returncode == 1
    assert "encoder.onnx is refused" in done.stderr


def test_mistakes_get_one_sentence_and_exit_code_2(site, dfqsam, monkeypatch):
    monkeypatch.delenv("DFQSAM_TRUST")
    (site / "text").write_text("no key")
    os.chmod(site / "text", 0o600)
    cases = {
        ("verify", site / "bundle"): "There is nothing to verify by",
        ("verify", site / "bundle", "--trust", site / "none.pub"): "cannot be read",
        ("verify", site / "bundle", "--trust", site / "hospital"): "is a private key",
        ("sign", site / "bundle", "--key", site / "text"): "no Ed25519 private key",
        ("sign", site / "none", "--key", site / "hospital"): "does not exist",
        ("keygen", "-o", site / "hospital"): "is there already",
        ("audit", "show", site / "none"): "cannot be read",
        ("sign", site / "bundle", "--key", site / "hospital", "--audit", site / "p.png"): "is no SQLite file",
        ("segment", site / "none", site / "p.png", "--box", "1,1,9,9", "-o", site / "m.png"): "does not exist",
    }
    for arguments, words in cases.items():
        done = dfqsam(*arguments)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert words in done.stderr
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1


def test_a_passphrase_comes_from_the_variable_or_is_asked_for(tmp_path, dfqsam, monkeypatch):
    bundle = toy_bundle(tmp_path / "bundle", 0, full=False)
    monkeypatch.setenv("DFQSAM_KEY_PASSPHRASE", "correct horse")
    assert dfqsam("keygen", "-o", tmp_path / "k", "--passphrase").returncode == 0
    assert "ENCRYPTED" in (tmp_path / "k").read_text()
    assert dfqsam("sign", bundle.path, "--key", tmp_path / "k").returncode == 0
    monkeypatch.setenv("DFQSAM_KEY_PASSPHRASE", "battery staple")
    assert "is wrong" in dfqsam("sign", bundle.path, "--key", tmp_path / "k").stderr
    monkeypatch.delenv("DFQSAM_KEY_PASSPHRASE")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert "there is no terminal to ask for it" in dfqsam("sign", bundle.path, "--key", tmp_path / "k").stderr


def test_segment_runs_signed_bundles_only_unless_it_is_told_to(site, dfqsam):
    box, mine = ("--box", "10,10,40,40", "-o", site / "m.png"), open_bundle(site / "bundle").sha256
    done = dfqsam("segment", site / "bundle", site / "p.png", *box)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].startswith(f"Bundle bundle ({mine[:12]}): signed by the trusted key hospital (")
    (site / "m.png").unlink()
    done = dfqsam("segment", site / "plain", site / "p.png", *box)
    assert done.returncode == 2
    assert "this site runs bundles signed by its own keys only" in done.stderr
    assert not (site / "m.png").exists()
    done = dfqsam("segment", site / "plain", site / "p.png", *box, "--allow-unsigned", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["pixels"] > 0
    assert done.stderr.startswith(f"Warning: {site / 'plain'} is not signed")
    assert "DFQSAM_ALLOW_UNSIGNED" not in os.environ
    ((kind, found),) = entries(site)
    assert (kind, found["state"]) == ("override", "unsigned")
    assert found["bundle"] == read_bundle(site / "plain").manifest.sha256


def test_workers_of_a_folder_hold_to_the_same_rule(site, dfqsam):
    (site / "studies").mkdir()
    shutil.copy(site / "p.png", site / "studies" / "p.png")
    (site / "boxes.csv").write_text("study,slice,x0,y0,x1,y1\np.png,0,10,10,40,40\n")
    run = ("segment", site / "plain", site / "studies", "--prompts", site / "boxes.csv", "-o", site / "masks")
    assert dfqsam(*run).returncode == 2
    done = dfqsam(*run, "--allow-unsigned")
    assert done.returncode == 0, done.stderr
    assert list((site / "masks").glob("p_mask*"))


def test_without_a_trust_store_verbs_say_that_nothing_was_verified(tmp_path, dfqsam):
    made = toy_bundle(tmp_path / "full", 0)
    write_manifest(tmp_path / "few", {"p1": [100], "p2": [90]})
    cv2.imwrite(str(tmp_path / "p.png"), square())
    said = f"Bundle full ({made.sha256[:12]}): not signed (nothing shows who made it)"
    done = dfqsam("segment", tmp_path / "full", tmp_path / "p.png", "--box", "1,1,40,40", "-o", tmp_path / "m.png")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == [said]
    done = dfqsam("evaluate", tmp_path / "full", tmp_path / "few", "-o", tmp_path / "e", "--prompts", "exact")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == said
    done = dfqsam("inspect", tmp_path / "full", "--json")
    assert json.loads(done.stdout)["trust"] == "unsigned"
    assert "not signed" in dfqsam("inspect", tmp_path / "full").stdout


def test_an_acceptance_is_signed_and_holds_for_its_own_bundle_only(tmp_path, dfqsam, monkeypatch):
    monkeypatch.setenv("DFQSAM_AUDIT", str(tmp_path / "audit.sqlite"))
    dfqsam("keygen", "-o", tmp_path / "k")
    trust, out = ("--trust", tmp_path / "k.pub"), tmp_path / "out"
    write_manifest(tmp_path / "data", {f"p{i:02d}": [100] for i in range(60)})
    write_manifest(tmp_path / "few", {"p1": [100], "p2": [90]})
    for name, shrink in (("good", 0), ("other", 1)):
        toy_bundle(tmp_path / name, shrink)
        dfqsam("sign", tmp_path / name, "--key", tmp_path / "k")
    done = dfqsam("accept", tmp_path / "good", tmp_path / "data", "-o", out, "--key", tmp_path / "k")
    assert done.returncode == 0, done.stderr
    record = ("--acceptance", out / "acceptance.json")
    verified = dfqsam("verify", tmp_path / "good", *trust, *record)
    assert verified.returncode == 0, verified.stderr
    assert "PASS for this bundle, signed by the trusted key k" in verified.stdout
    assert "is of another bundle" in dfqsam("verify", tmp_path / "other", *trust, *record).stderr
    change = (out / "CHANGE.md").read_text()
    assert "| Verdict | PASS |" in change
    assert open_bundle(tmp_path / "good").sha256 in change
    whole = (out / "acceptance.json").read_bytes()
    (out / "acceptance.json").write_bytes(whole.replace(b'"margin": 0.02', b'"margin": 0.20'))
    assert "No trusted key has signed" in dfqsam("verify", tmp_path / "good", *trust, *record).stderr
    (out / "acceptance.json").write_bytes(whole)
    dfqsam("keygen", "-o", tmp_path / "stranger")
    dfqsam("sign", tmp_path / "good", "--key", tmp_path / "stranger")
    foreign = dfqsam("verify", tmp_path / "good", "--trust", tmp_path / "stranger.pub", *record)
    assert "No trusted key has signed" in foreign.stderr
    dfqsam("sign", tmp_path / "good", "--key", tmp_path / "k")

    unsure = tmp_path / "unsure"
    assert dfqsam("accept", tmp_path / "good", tmp_path / "few", "-o", unsure, "--key", tmp_path / "k").returncode == 3
    done = dfqsam("verify", tmp_path / "good", *trust, "--acceptance", unsure / "acceptance.json")
    assert done.returncode == 1
    assert "says INCONCLUSIVE" in done.stderr
    # A verdict that was not signed takes the signature of the one before away.
    assert dfqsam("accept", tmp_path / "good", tmp_path / "data", "-o", out, "--margin", 0.03).returncode == 0
    assert not (out / "acceptance.json.sig").exists()
    assert "acceptance.json.sig cannot be read" in dfqsam("verify", tmp_path / "good", *trust, *record).stderr
    kinds = [(kind, about.get("verdict"), about.get("acceptance")) for kind, about in entries(tmp_path)]
    assert ("accept", "PASS", None) in kinds
    assert ("accept", "INCONCLUSIVE", None) in kinds
    assert ("verify", None, "PASS") in kinds
    assert ("verify", None, "INCONCLUSIVE") in kinds


def test_a_manifest_is_no_acceptance(site, dfqsam):
    """A signature over one kind of file is none over the other."""
    shutil.copy(site / "bundle" / "manifest.json", site / "acceptance.json")
    shutil.copy(site / "bundle" / "manifest.sig", site / "acceptance.json.sig")
    done = dfqsam("verify", site / "bundle", "--acceptance", site / "acceptance.json")
    assert done.returncode == 1
    assert "is no record of an acceptance" in done.stderr


def test_help_shows_an_example_and_verifying_loads_nothing_heavy(site, dfqsam):
    for command in (
        ("keygen",),
        ("sign",),
        ("verify",),
        ("audit", "verify"),
        ("audit", "show"),
        ("sbom",),
        ("convert",),
    ):
        assert "Example:" in dfqsam(*command, "--help").stdout
    for command in ("segment", "evaluate", "accept", "app", "serve"):
        shown = dfqsam(command, "--help").stdout
        assert all(option in shown for option in ("--allow-unsigned", "--skip-self-test", "--audit"))
    code = """
import sys
from dfqsam.cli import main
try:
    main()
finally:
    print({"torch", "numpy", "onnx", "onnxruntime", "cv2"} & {*sys.modules})
"""
    command = [sys.executable, "-W", "error", "-c", code, "verify", str(site / "bundle")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"
