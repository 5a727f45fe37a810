"""The files that a site's administrator starts from: the systemd unit, the Containerfile, the compose file."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import compose_spec
import httpx
import pytest
import yaml

from tests.bundle.world import signed
from tests.deploy.world import DEPLOY
from tests.serve.world import Process

UNIT = DEPLOY / "dfqsam.service"
CONTAINERFILE = DEPLOY / "Containerfile"
COMPOSE = DEPLOY / "compose.yaml"
EXPOSURE = 13  # tenths, of systemd's scale from 0 (locked in) to 10 (may do anything); 1.0 with systemd 252
SETTINGS = {
    "DynamicUser": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "NoNewPrivileges": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "CapabilityBoundingSet": "",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "MemoryDenyWriteExecute": "yes",
    "MemoryMax": "4G",
    "IPAddressDeny": "any",
    "IPAddressAllow": "localhost",
}
systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")


def unit() -> list[tuple[str, str]]:
    lines = [line.strip() for line in UNIT.read_text().splitlines()]
    return [(key, value) for key, _, value in (line.partition("=") for line in lines if line and line[0] not in "#[")]


def test_the_unit_has_what_keeps_a_service_in():
    found = unit()
    for key, value in SETTINGS.items():
        assert [one for name, one in found if name == key] == [value], key
    assert [value for key, value in found if key == "SystemCallFilter"][:2] == [
        "@system-service",
        "~@privileged @resources",
    ]
    (command,) = [value for key, value in found if key == "ExecStart"]
    assert "--host 127.0.0.1" in command
    assert "--token-file %d/token" in command


@systemd
def test_systemd_takes_the_unit_and_finds_it_little_exposed(tmp_path):
    place = tmp_path / UNIT.name
    place.write_text(UNIT.read_text().replace("/opt/dfqsam/bin/dfqsam", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", place], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

    def exposed(text: str, threshold: int) -> int:
        place.write_text(text)
        words = ["security", "--offline=true", f"--threshold={threshold}", "--no-pager", place]
        return subprocess.run(["systemd-analyze", *words], capture_output=True, check=False).returncode

    assert exposed(UNIT.read_text(), EXPOSURE) == 0
    plain = "\n".join(line for line in UNIT.read_text().splitlines() if not re.match("Protect|Private|System|IP", line))
    assert exposed(plain, EXPOSURE) != 0  # the bound says something


def test_hadolint_has_nothing_to_say_of_the_containerfile():
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, "--no-color", CONTAINERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def instructions() -> list[tuple[str, str]]:
    """Instruction and what follows it, continued lines joined."""
    lines = [line for line in CONTAINERFILE.read_text().splitlines() if not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, re.sub(r"\s+", " ", rest)) for word, _, rest in (x.partition(" ") for x in whole.splitlines() if x)]


def test_the_container_runs_as_nobody_and_installs_from_the_wheelhouse_only():
    found = instructions()
    assert [rest for word, rest in found if word == "USER"] == ["10001:10001"]
    assert found[0] == ("ARG", "BASE=docker.io/library/python:3.11-slim-bookworm")
    assert {rest.split()[0] for word, rest in found if word == "FROM"} == {"${BASE}"}
    runs = " ".join(rest for word, rest in found if word == "RUN")
    assert "--no-index" in runs
    assert "--require-hashes" in runs
    assert not re.search(r"apt|curl|wget|https?:|git ", runs)
    assert not [word for word, _ in found if word == "ADD"]
    (command,) = [json.loads(rest) for word, rest in found if word == "CMD"]
    assert command[0] == "serve"
    assert "--token-file" in command


def commands() -> dict[str, list[str]]:
    """What the unit and the container start, without the program."""
    (unit_line,) = [value for key, value in unit() if key == "ExecStart"]
    (container,) = [json.loads(rest) for word, rest in instructions() if word == "CMD"]
    return {"unit": unit_line.split()[1:], "container": container}


@pytest.mark.parametrize("name", ["unit", "container"])
def test_what_they_start_serves_who_has_the_token(name, tmp_path):
    token = "t" * 43
    (tmp_path / "token").write_text(f"{token}\n")
    (tmp_path / "token").chmod(0o600)
    bundle = signed(tmp_path).path
    places = {
        "/var/lib/dfqsam-bundles/current": bundle,
        "/bundle": bundle,
        "%d/token": tmp_path / "token",
        "/run/secrets/dfqsam-token": tmp_path / "token",
        "%S/dfqsam/audit.sqlite": tmp_path / "audit.sqlite",
        "/var/lib/dfqsam/audit.sqlite": tmp_path / "audit.sqlite",
    }
    verb, *words = [places.get(word, word) for word in commands()[name]]
    assert verb == "serve"
    with Process(
        *words, DFQSAM_TRUST=str(tmp_path / "hospital.pub")
    ) as service:  # a free port, given last, in place of 8000
        address = re.sub(r"//[^:]+:", "//127.0.0.1:", service.address)
        assert httpx.get(f"{address}/health").status_code == 200
        assert httpx.get(f"{address}/v1/bundle").status_code == 401
        assert httpx.get(f"{address}/v1/bundle", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert service.end(15) == 0


def composed() -> dict:
    """As compose reads it: variables that are not set have the values that stand behind them."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", COMPOSE.read_text())
    assert "$" not in text
    read = compose_spec.PyCompose.from_json(json.dumps(yaml.safe_load(text)))  # merged keys are resolved
    read.validate()
    return read.to_dict()


def test_compose_takes_the_file_and_every_service_is_closed():
    found = composed()
    assert found["services"].keys() == {"serve", "app"}
    for name, service in found["services"].items():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert str(service["user"]) == "10001:10001"
        assert service["mem_limit"] == service["memswap_limit"]
        assert service["pids_limit"] <= 256
        assert "privileged" not in service
        assert service["healthcheck"]["test"][0] == "CMD"
        ports = json.dumps(service["ports"])
        assert "127.0.0.1" in ports, name
        assert [*service["networks"]] == ["closed"]
        for volume in service["volumes"]:
            assert volume["type"] == "volume" or volume["read_only"] is True
    options = found["networks"]["closed"]["driver_opts"]
    assert options["com.docker.network.bridge.enable_ip_masquerade"] == "false"


def test_what_is_no_compose_file_is_seen():
    with pytest.raises(ValueError, match="port"):
        compose_spec.PyCompose.from_yaml("services: {a: {image: b, ports: ['127.0.0.1:x:y']}}")
