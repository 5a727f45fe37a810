"""The software bill of materials of a runtime, and of the model that it runs: CycloneDX 1.6 in JSON.

It names no time and no random serial number, so that the same bundle gives the same bytes; its serial number follows
from what it lists.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from dfqsam.bundle.inventory import Package, itself
from dfqsam.bundle.manifest import FileRecord, Manifest

SPECIFICATION = "1.6"
SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"


def _licence(package: Package) -> dict[str, Any]:
    if not package.licence:
        return {}
    if package.spdx:
        return {"licenses": [{"expression": package.licence}]}
    return {"licenses": [{"license": {"name": package.licence}}]}


def _component(package: Package, kind: str = "library") -> dict[str, Any]:
    component: dict[str, Any] = {"type": kind, "bom-ref": package.purl, "name": package.name, "purl": package.purl}
    if package.version:
        component["version"] = package.version
    if package.supplier:
        component["author"] = package.supplier
    links = [("website", package.website), ("issue-tracker", package.issues)]
    if found := [{"type": name, "url": url} for name, url in links if url.startswith("https://")]:
        component["externalReferences"] = found
    return component | _licence(package)


def _model(manifest: Manifest, files: Mapping[str, FileRecord]) -> dict[str, Any]:
    """The model as a component, its files inside; the bundle's own hash is not among them, as it covers this list."""
    model = manifest.model
    parts = [
        {
            "type": "file",
            "bom-ref": f"file:{name}",
            "name": name,
            "hashes": [{"alg": "SHA-256", "content": record.sha256}],
        }
        for name, record in sorted(files.items())
    ]
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": f"{model.title} {manifest.profile}",
        "version": files["encoder.onnx"].sha256[:12],
        "licenses": [{"license": {"name": model.licence}}],
        "pedigree": {
            "ancestors": [
                {
                    "type": "machine-learning-model",
                    "name": f"{model.title}, checkpoint",
                    "hashes": [{"alg": "SHA-256", "content": model.checkpoint_sha256}],
                }
            ]
        },
        "components": parts,
    }


def sbom(
    packages: list[Package],
    manifest: Manifest | None = None,
    files: Mapping[str, FileRecord] | None = None,
    extras: Iterable[str] = (),
) -> bytes:
    """The bill of materials as JSON.

    Args:
        packages: of the runtime, with those of ``extras``.
        manifest, files: of the bundle that is run, and those of its files that are listed; None for the runtime alone.
    """
    program = itself(extras)
    everything = [program, *packages]
    known = {one.name: one.purl for one in everything}
    subject = _component(program, "application") if manifest is None else _model(manifest, files or manifest.files)
    listed = packages if manifest is None else everything
    needs: list[dict[str, Any]] = [
        {"ref": one.purl, "dependsOn": sorted(known[name] for name in one.needs)} for one in everything
    ]
    if manifest is not None:
        needs.insert(0, {"ref": "model", "dependsOn": [program.purl]})
    document = {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "version": 1,
        "metadata": {"component": subject},
        "components": [_component(one) for one in listed],
        "dependencies": needs,
    }
    text = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, text)}"
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
