"""Ten thousand mutations of every kind of input: our own errors of one line, at most two seconds, little memory."""

import json
import os
import re
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from dfqsam.errors import DfqsamError
from tests.hostile.kinds import World
from tests.hostile.mutate import mutated
from tests.hostile.zygote import quick_starts

SECONDS, PATIENCE, MEGABYTES = 2, 30, 256
SPARE = 4 << 30  # bytes of address space beyond what the process has
FEW, MANY = 12, 10_000
NAMES = (
    *(
        "nifti",
        "nifti of time",
        "nifti-2",
        "nifti, packed",
        "dicom",
        "dicom in colour",
        "dicom, enhanced",
        "zip",
        "tiff",
    ),
    *("png", "jpg", "mask, m.dcm", "mask, m.nii", "manifest", "manifest in a bundle", "public key", "acceptance"),
    *("self-test", "prompts", "manifest.csv", "encoder", "decoder", "checkpoint", "checkpoint, bare", "safetensors"),
    *("list of checkpoints", "nifti, in gzip", "dicom, in zip", "checkpoint, its pickle", "self-test, its array"),
)
NATIVE = ("dicom, rle", "dicom, jpeg 2000", "dicom, jpeg-ls")  # a child process each


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    return World(tmp_path_factory.mktemp("hostile")).kinds()


def peak() -> float:
    """Of this process so far, in MB."""
    status = Path("/proc/self/status")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1024 if status.exists() else 0.0


def worked() -> float:
    """Seconds of processor time, children's included: a machine may be busy with other things."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


@pytest.fixture(autouse=True)
def spared():
    """What does take memory without end fails here, and does not take the machine with it."""
    status = Path("/proc/self/status")
    if not status.exists():
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    size = int(re.search(r"VmSize:\s+(\d+) kB", status.read_text())[1]) << 10
    resource.setrlimit(resource.RLIMIT_AS, (size + SPARE, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def attack(kind: str, sound: bytes, survive, folder: Path, count: int) -> None:
    try:
        survive(folder, sound)
    except DfqsamError as error:
        pytest.fail(f"the sound file is refused: {error}")
    before, refused, slowest = peak(), 0, 0.0
    for seed in range(count):
        start, wall, said = worked(), time.monotonic(), None
        try:
            survive(folder, mutated(sound, seed))
        except DfqsamError as error:
            said = str(error)
        except BaseException as error:
            error.add_note(f"{kind}, seed {seed}")
            raise
        if said is not None:
            refused += 1
            assert "\n" not in said, (kind, seed)
            assert len(said) < 800 + len(str(folder)), (kind, seed)
        slowest = max(slowest, worked() - start)
        assert slowest <= SECONDS, (kind, seed)
        assert time.monotonic() - wall <= PATIENCE, (kind, seed)
    grown = peak() - before
    print(
        json.dumps(
            {
                "kind": kind,
                "mutations": count,
                "refused": refused,
                "slowest_s": round(slowest, 3),
                "grown_mb": round(grown, 1),
            }
        )
    )
    assert grown <= MEGABYTES
    assert refused


def test_every_kind_is_here(kinds):
    assert kinds.keys() == {*NAMES, *NATIVE}


@pytest.mark.parametrize("kind", NAMES)
def test_a_few_mutations_of_every_kind(kinds, kind, tmp_path):
    attack(kind, *kinds[kind], tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.parametrize("kind", [*NAMES, *NATIVE])
def test_ten_thousand_mutations_of_every_kind(kinds, kind, tmp_path):
    with quick_starts() if kind in NATIVE else nullcontext():
        attack(kind, *kinds[kind], tmp_path, MANY)
