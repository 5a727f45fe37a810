"""The real process: it verifies before it listens, speaks TLS, finishes what it accepted, and loses no record."""

import contextlib
import datetime
import http.client
import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dfqsam.audit import AuditLog
from tests.bundle.world import signed
from tests.evaluate.world import toy_bundle
from tests.serve.world import BOX, ROOT, TOKENS, Process, bearer, form, png

SLOW_ENCODER = """
import time
from dfqsam.runtime import Predictor
plain = Predictor.set_image
def slow(self, image):
    time.sleep({seconds})
    plain(self, image)
Predictor.set_image = slow
from dfqsam.cli import main
main()
"""


@pytest.fixture
def bundle(tmp_path):
    return toy_bundle(tmp_path / "bundle", 4, full=False).path


def certificate(folder):
    """A certificate for 127.0.0.1 that it signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "device")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "key.pem").write_bytes(pem)
    return folder / "cert.pem", folder / "key.pem"


def kinds(path):
    log = AuditLog(path, write=False)
    log.verify()
    found = [(entry.kind, entry.document.get("event") or entry.document.get("outcome")) for entry in log.entries()]
    log.close()
    return found


def test_it_speaks_tls_to_who_has_a_token_and_stops_when_told(tmp_path, bundle):
    cert, key = certificate(tmp_path)
    tokens, audit = tmp_path / "tokens", tmp_path / "audit.sqlite"
    tokens.write_text("\n".join(TOKENS))
    tokens.chmod(0o600)
    options = ("--token-file", tokens, "--tls-cert", cert, "--tls-key", key, "--audit", audit, "--host", "0.0.0.0")
    with Process(bundle, *options) as server:
        port = server.address.rsplit(":", 1)[1]
        assert server.address == f"https://0.0.0.0:{port}"
        address = f"https://127.0.0.1:{port}"
        with httpx.Client(verify=ssl.create_default_context(cafile=cert), base_url=address) as client:
            assert client.get("/v1/bundle").status_code == 401
            answer = client.post("/v1/segment", **form(), headers=bearer(TOKENS[0]))
            assert answer.json()["masks"][0]["bbox"] == [14, 16, 13, 21]
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning, match="deprecated"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection(("127.0.0.1", int(port))) as plain, pytest.raises((ssl.SSLError, OSError)):
            old.wrap_socket(plain)
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"http://127.0.0.1:{port}/health")
        assert server.end(signal.SIGTERM) == 0
    assert kinds(audit) == [("serve", "start"), ("request", "answered"), ("serve", "stop")]
    assert [json.loads(line)["status"] for line in server.out] == [401, 200]  # nothing else is on standard output
    text = "".join(server.out + server.err)
    assert "Traceback" not in text
    assert not [token for token in TOKENS if token in text]


@pytest.mark.slow
def test_sigterm_finishes_what_was_accepted_and_refuses_what_comes_then(tmp_path, bundle):
    audit = tmp_path / "audit.sqlite"
    answers: list[httpx.Response] = []
    with Process(bundle, "--audit", audit, wrapped=SLOW_ENCODER.format(seconds=0.7)) as server:

        def post(number: int) -> None:
            answers.append(httpx.post(f"{server.address}/v1/segment", **form(png(number)), timeout=30))

        asking = [threading.Thread(target=post, args=(i,)) for i in range(3)]
        for one in asking:
            one.start()
        while "dfqsam_places_taken 3.0" not in httpx.get(f"{server.address}/metrics").text:
            time.sleep(0.05)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.address}/health")
        for one in asking:
            one.join()
        assert server.process.wait(30) == 0
    assert [answer.status_code for answer in answers] == [200] * 3
    assert kinds(audit) == [("serve", "start"), *[("request", "answered")] * 3, ("serve", "stop")]


def test_kill_9_loses_no_record_of_what_was_answered(tmp_path, bundle):
    audit = tmp_path / "audit.sqlite"
    known: list[str] = []

    def keep_asking(address: str, number: int) -> None:
        with httpx.Client(base_url=address) as client, contextlib.suppress(httpx.HTTPError):
            while True:
                answer = client.post("/v1/segment", **form(png(number)))
                if answer.status_code == 200:
                    known.append(answer.headers["x-request-id"])

    for least in (20, 40):  # a second time on the same log
        with Process(bundle, "--audit", audit, "--rate", 0) as server:
            asking = [threading.Thread(target=keep_asking, args=(server.address, i)) for i in range(3)]
            for one in asking:
                one.start()
            while len(known) < least:
                time.sleep(0.01)
            assert server.end(signal.SIGKILL) == -9
            for one in asking:
                one.join()
        log = AuditLog(audit)
        log.verify()
        found = {entry.document["request"] for entry in log.entries() if entry.kind == "request"}
        log.close()
        assert set(known) <= found


def test_mistakes_are_one_sentence_before_anything_listens(tmp_path, bundle, dfqsam):
    cert, key = certificate(tmp_path)
    (tmp_path / "none.pem").write_text("no certificate")
    (tmp_path / "altered").mkdir()
    for path in bundle.iterdir():
        (tmp_path / "altered" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "altered" / "decoder.onnx").write_bytes(b"x")
    with socket.create_server(("127.0.0.1", 0)) as busy:
        cases = {
            (tmp_path / "nothing",): "does not exist",
            (tmp_path / "altered",): "was altered or damaged",
            (bundle, "--host", "0.0.0.0"): "beyond this machine, needs --token-file",
            (bundle, "--host", "host.invalid", "--insecure"): "cannot be listened on",
            (bundle, "--port", busy.getsockname()[1]): "cannot be listened on (Address already in use)",
            (bundle, "--tls-cert", cert): "give both",
            (bundle, "--tls-cert", tmp_path / "none.pem", "--tls-key", key): "are no PEM certificate",
            (bundle, "--tls-cert", tmp_path / "no.pem", "--tls-key", key): "cannot be read",
            (bundle, "--token-file", cert): "the token file",
            (bundle, "--trust", cert): "no Ed25519 public key",
            (bundle, "--audit", cert): "is no SQLite file",
        }
        for arguments, words in cases.items():
            done = dfqsam("serve", *arguments)
            assert done.returncode == 2, arguments
            lines = [line for line in done.stderr.splitlines() if not line.startswith("Warning: ")]
            assert len(lines) == 1, done.stderr
            assert words in lines[0]


def test_a_key_with_a_passphrase_is_not_asked_for_it(tmp_path, bundle, dfqsam):
    cert, key = certificate(tmp_path)
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key.write_bytes(loaded.private_bytes(pem, pkcs8, serialization.BestAvailableEncryption(b"x")))
    done = dfqsam("serve", bundle, "--tls-cert", cert, "--tls-key", key)
    assert done.returncode == 2
    assert "has a passphrase" in done.stderr


@pytest.mark.slow
def test_only_what_is_trusted_is_served(tmp_path, dfqsam, monkeypatch):
    trusted = signed(tmp_path).path
    toy_bundle(tmp_path / "plain", 4, full=False)
    key = tmp_path / "hospital.pub"
    refused = dfqsam("serve", tmp_path / "plain", "--trust", key)
    assert refused.returncode == 2
    assert "not signed" in refused.stderr
    with Process(trusted, "--trust", key) as server:
        assert httpx.get(f"{server.address}/v1/bundle").json()["trust"] == "verified"
        assert "signed by the trusted key hospital" in "".join(server.err)
    with Process(tmp_path / "plain", "--trust", key, "--allow-unsigned", "--audit", tmp_path / "a.sqlite") as server:
        assert httpx.get(f"{server.address}/v1/bundle").json()["trust"] == "unsigned"
        server.end(signal.SIGTERM)
    assert kinds(tmp_path / "a.sqlite")[0][0] == "override"
    # What is named beside the site's own store narrows it, and cannot replace it.
    signed(tmp_path, "foreign", "stranger")
    monkeypatch.setenv("DFQSAM_TRUST", str(key))
    beside = dfqsam("serve", tmp_path / "foreign", "--trust", tmp_path / "stranger.pub")
    assert beside.returncode == 2
    assert "not trusted here" in beside.stderr


def test_a_device_that_computes_wrongly_serves_nothing(tmp_path, dfqsam, monkeypatch):
    from dfqsam.assets import shipped_bundle
    from dfqsam.runtime import selftest

    monkeypatch.delenv("DFQSAM_SKIP_SELF_TEST")
    monkeypatch.setattr(selftest, "difference", lambda *_: 1.0)
    monkeypatch.setattr(selftest, "_passed", set())
    done = dfqsam("serve", shipped_bundle(), "--port", 0)
    assert done.returncode == 2
    assert "This device computes wrong results" in done.stderr


@pytest.mark.slow
def test_half_a_request_does_not_hold_a_connection_for_ever(bundle):
    patience = "import dfqsam.serve.run as run; run.PATIENCE = 0.3\nfrom dfqsam.cli import main; main()"
    with Process(bundle, wrapped=patience) as server:
        host, port = "127.0.0.1", int(server.address.rsplit(":", 1)[1])
        with socket.create_connection((host, port)) as half, socket.create_connection((host, port)) as silent:
            for one in (half, silent):
                one.settimeout(10)
            for byte in b"POST /v1/seg":
                half.sendall(bytes([byte]))
                time.sleep(0.01)
            assert half.recv(10) == b""
            assert silent.recv(10) == b""
        assert httpx.get(f"{server.address}/health").status_code == 200


@pytest.mark.slow
def test_a_client_that_goes_away_in_the_middle_is_no_matter(bundle):
    with Process(bundle) as server:
        connection = http.client.HTTPConnection("127.0.0.1", int(server.address.rsplit(":", 1)[1]))
        connection.putrequest("POST", "/v1/segment")
        connection.putheader("Content-Type", "multipart/form-data; boundary=b")
        connection.putheader("Content-Length", "1000")
        connection.endheaders()
        connection.send(b"--b\r\n")
        connection.close()
        assert httpx.post(f"{server.address}/v1/segment", **form()).status_code == 200
        figures = httpx.get(f"{server.address}/metrics").text
        assert "dfqsam_places_taken 0.0" in figures
        server.end(signal.SIGTERM)
    assert "Traceback" not in "".join(server.err + server.out)


def test_the_command_names_the_extra_where_it_is_not_installed(bundle):
    code = """
import sys
from importlib import util
plain = util.find_spec
util.find_spec = lambda name, package=None: None if name == "fastapi" else plain(name, package)
from dfqsam.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", str(bundle)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        2,
        "Error: The service needs fastapi; install it with: pip install 'dfqsam[serve]'.\n",
    )


@pytest.mark.slow
def test_it_loads_neither_torch_nor_streamlit(bundle):
    code = """
import sys
from dfqsam.cli import main
try:
    main()
finally:
    print({"torch", "streamlit", "onnx", "matplotlib"} & {*sys.modules}, file=sys.stderr)
"""
    with Process(bundle, wrapped=code) as server:
        assert httpx.post(f"{server.address}/v1/segment", **form(prompts=[{"box": BOX}])).status_code == 200
        server.end(signal.SIGTERM)
    assert server.err[-1] == "set()\n"
