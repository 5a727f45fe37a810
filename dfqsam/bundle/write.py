"""Writing a bundle: into a neighbouring directory first, then renamed, so that nobody ever sees half of one."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dfqsam import __version__
from dfqsam.bundle import strict
from dfqsam.bundle.manifest import FORMAT, KNOWN_FILES, Manifest
from dfqsam.bundle.store import MANIFEST, SIGNATURE, Bundle, read_bundle
from dfqsam.errors import BundleError


def check_target(directory: str | Path) -> Path:
    """``directory`` as a path, once a bundle may be written there: it is absent, empty, or a bundle to be replaced.

    Raises:
        BundleError: when something else is there.
    """
    path = Path(os.path.abspath(directory))
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise BundleError(f"{path} is a file or a link; name a directory that is new, empty or a bundle.")
    if path.is_dir():
        names = set(os.listdir(path))
        if names and (MANIFEST not in names or names - {MANIFEST, SIGNATURE, *KNOWN_FILES}):
            raise BundleError(f"{path} holds other files; name a directory that is new, empty or a bundle.")
    return path


def _replace(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target``; what was there goes only once the new one is in its place."""
    if not target.exists():
        new.rename(target)
        return
    old = new.with_name(f"{new.name}.old")
    target.rename(old)
    try:
        new.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)


def write_bundle(
    directory: str | Path,
    files: Mapping[str, bytes],
    *,
    model: Mapping[str, Any],
    preprocessing: Mapping[str, Any],
    prompts: Sequence[str],
    profile: str,
    quantization: Mapping[str, Any],
    calibration: Mapping[str, Any],
    provenance: Mapping[str, Any],
    versions: Mapping[str, Any],
    created_by: str = f"dfqsam {__version__}",
) -> Bundle:
    """Write ``files`` (name to content) and a manifest with the given fields; the same input gives the same bytes.

    The fields are those of :class:`dfqsam.bundle.Manifest`; ``format`` and the hashes are filled in. A bundle that is
    already there is replaced in one step, its signature with it: the new one is not signed yet.

    Raises:
        BundleError: for fields that a manifest cannot hold, a directory that holds something else, or a full disk.
    """
    target = check_target(directory)
    document = {
        "format": FORMAT,
        "model": dict(model),
        "preprocessing": dict(preprocessing),
        "prompts": list(prompts),
        "profile": profile,
        "quantization": dict(quantization),
        "calibration": dict(calibration),
        "provenance": dict(provenance),
        "versions": dict(versions),
        "created_by": created_by,
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()
        },
    }
    manifest = Manifest.of(strict.parse(strict.canonical(document)))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        temporary.mkdir(parents=True)
        for name, data in (*files.items(), (MANIFEST, manifest.to_json())):
            (temporary / name).write_bytes(data)
        _replace(temporary, target)
    except OSError as error:
        raise BundleError(f"The bundle {target} cannot be written ({error.strerror}).") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    written = read_bundle(target)
    return Bundle(written.path, written.manifest)
