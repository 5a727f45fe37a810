#!/usr/bin/env python3
"""A folder of wheels with their hashes, from which dfqsam installs where there is no network.

    python deploy/wheelhouse.py -o wheelhouse-amd64 --set serve --set app            # for a machine like this one
    python deploy/wheelhouse.py -o wheelhouse-arm64 --set serve --platform aarch64   # for another one

and there, with nothing but Python:

    python3 -m venv /opt/dfqsam
    /opt/dfqsam/bin/pip install --no-index --require-hashes --find-links wheelhouse -r wheelhouse/requirements.txt

Run in a checkout of dfqsam; versions are those of ``constraints.txt``. Standard library and pip only.
"""

import argparse
import hashlib
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What each set asks for: extras of dfqsam, or the packages of edge_infer.py, which does without dfqsam.
SETS = {"base": "", "serve": "serve", "app": "app", "edge": None}
EDGE = ("numpy", "onnxruntime", "pillow", "cryptography")
MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}
GLIBC = range(17, 35)  # versions 2.17 to 2.34: what runs there runs on RHEL 9, Debian 12, Ubuntu 22.04 and later
SOURCES = ("dfqsam", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
NEVER = ("torch", "torchvision", "segment-anything", "monai")  # what a device has no use for


class WheelhouseError(Exception):
    """One sentence: what is wrong, where, and what to do."""


def requirements(sets, wheel, extras):
    """What pip is to fetch for the sets of that name; the wheel of dfqsam itself, with extras, where one needs it."""
    if missing := [name for name in sets if SETS[name] and SETS[name] not in extras]:
        raise WheelhouseError(f"This dfqsam has no extra {', '.join(missing)}; it has {', '.join(sorted(extras))}.")
    wanted = [SETS[name] for name in sets if SETS[name]]
    of_dfqsam = f"{wheel}[{','.join(wanted)}]" if wanted else str(wheel)
    return [*(EDGE if "edge" in sets else ()), *([of_dfqsam] if set(sets) != {"edge"} else ())]


def options(machine, version):
    """What pip needs to be told to fetch for a machine, this one or another."""
    tags = [f"manylinux_2_{minor}_{machine}" for minor in reversed(GLIBC)] + [f"manylinux2014_{machine}"]
    abi = f"cp{version.replace('.', '')}"
    found = ["--implementation", "cp", "--python-version", version, "--abi", abi, "--abi", "abi3", "--abi", "none"]
    return found + [word for tag in tags for word in ("--platform", tag)]


def pip(*words):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        raise WheelhouseError(f"{lines[-1].removeprefix('ERROR: ')} (pip {words[0]})")


def wheel_of_dfqsam(place):
    """The wheel of this checkout, built in a copy: what an earlier build has left here gets into none."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place / name)
    pip("wheel", "--no-deps", "--wheel-dir", place, place)
    (wheel,) = place.glob("dfqsam-*.whl")
    return wheel


def locked(folder):
    """``requirements.txt`` of a folder of wheels: every name with its one version and the hash of its file."""
    lines = []
    for path in sorted(folder.glob("*.whl")):
        name, version = path.name.split("-")[:2]
        name = re.sub(r"[-_.]+", "-", name).lower()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"{name}=={version} --hash=sha256:{digest}\n")
    names = [line.split("==")[0] for line in lines]
    if heavy := sorted({*names} & {*NEVER}):
        raise WheelhouseError(
            f"The wheelhouse would hold {', '.join(heavy)}, which no device needs; see pyproject.toml."
        )
    if len({*names}) < len(names):
        raise WheelhouseError(f"{folder} holds a package in two versions; name a new folder.")
    return "".join(lines)


def build(output, sets, machine, version, constraints):
    """Fill the new folder ``output``; its size in bytes, and the number of wheels."""
    if output.exists() and any(output.iterdir()):
        raise WheelhouseError(f"{output} is not empty; name a new folder.")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    with tempfile.TemporaryDirectory() as place:
        wheel = None
        if set(sets) != {"edge"}:
            wheel = wheel_of_dfqsam(Path(place))
        wanted = requirements(sets, wheel, project["optional-dependencies"])
        fetch = ("--only-binary", ":all:", "--dest", output, "--constraint", constraints)
        pip("download", *fetch, *options(machine, version), *wanted)
    (output / "requirements.txt").write_text(locked(output))
    wheels = list(output.glob("*.whl"))
    return {"wheels": len(wheels), "bytes": sum(path.stat().st_size for path in wheels), "folder": str(output)}


def main(words=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument(
        "--set", dest="sets", action="append", choices=SETS, help="what is installed; base if not given"
    )
    parser.add_argument("--platform", dest="machine", choices=sorted(MACHINES), default=platform.machine().lower())
    parser.add_argument(
        "--python", default="{}.{}".format(*sys.version_info), help="version of Python there, such as 3.11"
    )
    parser.add_argument("--constraints", type=Path, default=ROOT / "constraints.txt")
    asked = parser.parse_args(words)
    try:
        made = build(asked.output, asked.sets or ["base"], MACHINES[asked.machine], asked.python, asked.constraints)
    except WheelhouseError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
