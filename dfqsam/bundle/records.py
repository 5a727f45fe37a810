"""What is handed on with a bundle for people who have to answer for it: model card, change record, SOUP, SBOM.

All of it follows from the manifest and the software that is installed; nothing is claimed that was not measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from dfqsam.bundle.facts import UNKNOWN
from dfqsam.bundle.inventory import runtime_packages, soup_csv
from dfqsam.bundle.manifest import FileRecord, Manifest
from dfqsam.bundle.sbom import sbom

CHANGE = "CHANGE.md"
PENDING = """None yet. It is decided on each site's own patients with `dfqsam accept BUNDLE DATA`, by limits of
confidence for the loss of Dice and surface Dice and a rule about the few who lose much; `acceptance.json` then names
the hash of this bundle, and a signature beside it says who answers for the verdict."""


def record_files(manifest: Manifest, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Name to content of the records of a bundle; the same bundle and versions give the same bytes.

    Args:
        manifest: of the bundle as far as it is known; its ``files`` are not looked at.
        files: all others of the bundle.
    """
    records = {name: FileRecord(hashlib.sha256(data).hexdigest(), len(data)) for name, data in files.items()}
    packages = runtime_packages()
    return {
        "MODEL_CARD.md": model_card(manifest, records).encode(),
        CHANGE: change_record(manifest).encode(),
        "SOUP.csv": soup_csv(packages),
        "sbom.cdx.json": sbom(packages, manifest, records),
    }


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return " and ".join(map(_plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _cell(value: Any) -> str:
    """A value as a cell of a table: one line, no mark-up."""
    text = " ".join(_plain(value).split())
    return "".join(f"\\{letter}" if letter in "|<`[*" else letter for letter in text) or "none"


def _table(head: tuple[str, str], rows: Mapping[str, Any]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items())])


def model_card(manifest: Manifest, files: Mapping[str, FileRecord]) -> str:
    """The model card: what it is, what it is for and not for, how it was made, what was checked and what was not."""
    model, settings, calibration = manifest.model, manifest.quantization, manifest.calibration
    prompts = " and ".join(manifest.prompts)
    facts = {
        "Model": model.title,
        "Family": model.family,
        "Licence of the weights": model.licence,
        "Checkpoint, SHA-256": model.checkpoint_sha256,
        "Profile": manifest.profile,
        "Side of the encoder's input": f"{model.image_size} px",
        "Prompts that it was trained on": prompts,
        "Made by": manifest.created_by,
    }
    sizes = {name: f"{record.bytes / 1000:.0f} kB, SHA-256 {record.sha256}" for name, record in sorted(files.items())}
    made = {name: value for name, value in calibration.items() if name != "prior_classes"}
    return f"""# Model card: {_cell(model.title)}, quantized ({_cell(manifest.profile)})

{_table(("what", ""), facts)}

## Intended use

Interactive outlining of objects in medical pictures, prompted by a person ({_cell(prompts)}) who looks at every mask
and answers for it; research, and comparison with the full-precision model. It is no medical device.

## Not intended

Diagnosis, treatment or triage without a person who checks every mask; prompts of other kinds than those above; anything
that the unquantized model was not meant for. Quantization makes no model better than its original.

## How it was made

{_cell(manifest.provenance.get("statement", "Nothing is recorded of what was read."))}
Calibration: {_cell(made)}.
In floating point: {_cell(settings.get("full_precision", UNKNOWN))}. Decoder: {_cell(settings.get("decoder", UNKNOWN))}.

{_table(("file", ""), sizes)}

## What was checked, and what was not

The exported graphs were compared with the model that they came from when the bundle was made (CHANGE.md has the
figures), and the bundle carries a self-test that a device runs before it is used. Nothing is claimed here of accuracy
on patients: `dfqsam evaluate` and `dfqsam accept` measure it on your own. Quantization says nothing of the groups of
patients, scanners and organs on which the original does badly; what is published of it holds at best.
"""


def _parity(settings: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        "lockstep": "largest relative difference of a quantized layer, graph against model (limit 1e-3)",
        "end_to_end": "relative difference of embeddings end to end (rounding amplifies; no limit)",
        "mask_dice": "Dice of masks, graph against model (at least 0.999)",
        "full_precision": "relative difference of the full-precision graph (limit 1e-3)",
    }
    found = settings.get("parity", {})
    return {text: f"{found[name]:.3g}" for name, text in names.items() if isinstance(found.get(name), (int, float))}


def change_record(manifest: Manifest, bundle: str | None = None, acceptance: Mapping[str, Any] | None = None) -> str:
    """The change record: what this bundle is a change of, what changed, with which settings, and what was decided.

    Args:
        bundle: hash of the bundle; None inside of it, where it cannot stand.
        acceptance: what ``acceptance.json`` says; None before there is one.
    """
    model = manifest.model
    inner = ("parity", "full_precision", "decoder", "layer_bytes", "profile")
    settings = {name: value for name, value in manifest.quantization.items() if name not in inner}
    settings |= {f"made with {name}": value for name, value in manifest.versions.items()}
    identity = {
        "Changed model": f"{model.title}, profile {manifest.profile}",
        "Bundle, SHA-256": bundle or "stands in manifest.json, and covers this file",
        "Parent: checkpoint, SHA-256": model.checkpoint_sha256,
        "Made by": manifest.created_by,
    }
    changes = {
        "Weights and activations": f"of the image encoder, rounded to the profile {manifest.profile}",
        "Mask decoder": manifest.quantization.get("decoder", UNKNOWN),
        "Left in floating point": manifest.quantization.get("full_precision", UNKNOWN),
        "Not changed": "architecture, input and output, preprocessing, prompts that are accepted",
        "Patient data read": manifest.provenance.get("statement", UNKNOWN),
    }
    checks = _parity(manifest.quantization) or {"nothing": "is recorded"}
    return f"""# Change record

{_table(("what", ""), identity)}

## What changed

{_table(("part", "change"), changes)}

## Settings

{_table(("setting", "value"), settings)}

## Checked when the bundle was made

{_table(("check", "found"), checks)}

## Acceptance

{_acceptance(acceptance)}
"""


def _acceptance(document: Mapping[str, Any] | None) -> str:
    if document is None:
        return PENDING
    facts = {
        "Verdict": document["verdict"],
        "Reason": document["reason"],
        "Claim": document["claim"],
        "Reference bundle, SHA-256": document["reference"]["sha256"],
        "Patients, pictures, cases": [document["counts"][name] for name in ("patients", "pictures", "cases")],
        "Protocol": document["rules"],
    }
    return _table(("what", ""), facts)
