"""Model card, change record, SOUP and SBOM: they list what is installed, and say what the manifest says."""

import csv
import importlib.resources
import io
import json
import re
import tomllib
from importlib import metadata
from pathlib import Path

import jsonschema
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from dfqsam.assets import shipped_bundle
from dfqsam.bundle import open_bundle, write_bundle
from dfqsam.bundle.inventory import PURPOSES, SOUP_HEAD, Package, _harmless, runtime_packages, soup_csv
from dfqsam.bundle.manifest import RECORDS
from dfqsam.bundle.records import change_record, record_files
from dfqsam.bundle.sbom import sbom
from tests.bundle.test_bundle import FIELDS, FILES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def packages() -> list[Package]:
    return runtime_packages()


@pytest.fixture(scope="module")
def made():
    """The records of the shipped bundle, as if it were made now."""
    bundle = open_bundle(shipped_bundle())
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    return bundle, record_files(bundle.manifest, files)


def schema(name: str) -> dict:
    return json.loads((importlib.resources.files("cyclonedx.schema") / "_res" / name).read_text())


@pytest.fixture(scope="module")
def published() -> jsonschema.Draft7Validator:
    """The schema of CycloneDX 1.6 as its makers publish it."""
    others = {
        "spdx.schema.json": schema("spdx.SNAPSHOT.schema.json"),
        "jsf-0.82.schema.json": schema("jsf-0.82.SNAPSHOT.schema.json"),
    }
    base = "http://cyclonedx.org/schema/"
    registry = Registry().with_resources(
        [(base + name, Resource(document, DRAFT7)) for name, document in others.items()]
    )
    return jsonschema.Draft7Validator(schema("bom-1.6.SNAPSHOT.schema.json"), registry=registry)


def test_the_bill_of_materials_is_valid_and_complete(made, packages, published):
    bundle, records = made
    document = json.loads(records["sbom.cdx.json"])
    published.validate(document)
    listed = {one["name"]: one["version"] for one in document["components"]}
    assert listed.pop("dfqsam") == metadata.version("dfqsam")
    assert listed == {one.name: one.version for one in packages}
    for name, version in listed.items():
        assert metadata.version(name) == version
    model = document["metadata"]["component"]
    hashes = {part["name"]: part["hashes"][0]["content"] for part in model["components"]}
    assert hashes == {name: record.sha256 for name, record in bundle.manifest.files.items()}
    ancestor = model["pedigree"]["ancestors"][0]["hashes"][0]["content"]
    assert ancestor == bundle.manifest.model.checkpoint_sha256
    references = [one["bom-ref"] for one in (model, *document["components"])]
    assert len({*references}) == len(references)
    assert {one["ref"] for one in document["dependencies"]} == {*references}
    assert all(name in references for one in document["dependencies"] for name in one["dependsOn"])
    with pytest.raises(jsonschema.ValidationError):  # the schema does refuse
        published.validate({**document, "components": [{"type": "thing", "name": "x"}]})


def test_the_runtime_alone_is_valid_too(packages, published):
    document = json.loads(sbom(packages))
    published.validate(document)
    assert document["metadata"]["component"]["name"] == "dfqsam"


def test_the_runtime_is_what_the_base_install_asks_for(packages):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    assert asked == PURPOSES.keys()
    found = {one.name for one in packages}
    assert found >= asked | {"flatbuffers", "protobuf", "cffi"}
    assert not found & {"torch", "onnx", "streamlit", "scipy", "pytest"}
    everything = {one.name: one for one in packages}
    for one in packages:  # closed: whatever is needed is listed
        assert {*one.needs} <= everything.keys()


def test_the_same_bundle_gives_the_same_records(made):
    bundle, records = made
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    assert record_files(bundle.manifest, files) == records
    assert records.keys() == {*RECORDS}
    others = record_files(bundle.manifest, {**files, "encoder.onnx": b"other"})
    first, second = (json.loads(each["sbom.cdx.json"])["serialNumber"] for each in (records, others))
    assert first != second


def test_every_soup_item_has_name_version_and_purpose(made, packages):
    rows = list(csv.DictReader(io.StringIO(made[1]["SOUP.csv"].decode())))
    assert tuple(rows[0]) == SOUP_HEAD
    assert [row["name"] for row in rows] == [one.name for one in packages]
    for row in rows:
        assert re.fullmatch(r"[0-9][0-9A-Za-z.+]*", row["version"])
        assert row["purpose"]
        assert row["manufacturer"]
        assert "@" not in row["manufacturer"].replace("protobuf@googlegroups.com", "")


def test_a_spreadsheet_takes_no_name_for_a_formula():
    one = Package("a", "1", "=cmd()", False, "@SUM(A1)", "", "", ())
    row = list(csv.reader(io.StringIO(soup_csv([one]).decode())))[1]
    assert (row[2], row[3]) == ("'@SUM(A1)", "'=cmd()")
    assert _harmless("numpy") == "numpy"


def test_a_package_that_is_missing_is_listed_without_a_version(monkeypatch, published):
    real = metadata.distribution

    def distribution(name):
        if name == "opencv-python-headless":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "distribution", distribution)
    found = runtime_packages()
    (missing,) = (one for one in found if not one.version)
    assert missing.purl == "pkg:pypi/opencv-python-headless"
    published.validate(json.loads(sbom(found)))


def test_card_and_change_record_say_what_the_manifest_says(made):
    bundle, records = made
    card, change = records["MODEL_CARD.md"].decode(), records["CHANGE.md"].decode()
    manifest = bundle.manifest
    for text in (card, change):
        assert manifest.model.checkpoint_sha256 in text
        assert manifest.provenance["statement"] in text
        assert manifest.profile in text
    assert all(record.sha256 in card for record in manifest.files.values())
    assert "no medical device" in card
    assert "| Dice of masks, graph against model (at least 0.999) | 1 |" in change
    assert "| quantized_layers | 46 |" in change
    assert "None yet." in change
    assert bundle.sha256 not in change  # which covers it
    assert bundle.sha256 in change_record(manifest, bundle.sha256)


def test_marks_in_a_title_stay_text(tmp_path):
    model = {**FIELDS["model"], "title": "A | [b](http://c) <script> `d`\n# e"}
    manifest = write_bundle(tmp_path / "b", FILES, **{**FIELDS, "model": model}).manifest
    text = change_record(manifest)
    assert "\n# e" not in text
    assert r"A \| \[b](http://c) \<script> \`d\` # e" in text


def test_a_bundle_with_records_opens_and_one_without_too(tmp_path, made):
    bundle, records = made
    files = {name: bundle.read(name) for name in bundle.manifest.files if name not in RECORDS}
    written = write_bundle(tmp_path / "b", files | records, **FIELDS)
    assert open_bundle(written.path).read("CHANGE.md") == records["CHANGE.md"]
    older = write_bundle(tmp_path / "older", files, **FIELDS)
    assert not {*RECORDS} & {*open_bundle(older.path).manifest.files}


def test_the_command_line_lists_what_is_installed_here(tmp_path, dfqsam, packages):
    for arguments, data in (((), sbom(packages)), (("--soup",), soup_csv(packages))):
        done = dfqsam("sbom", "-o", tmp_path / "out", *arguments)
        assert done.returncode == 0
        assert (tmp_path / "out").read_bytes() == data
        assert f"{len(packages)} packages" in done.stdout


def test_an_extra_is_listed_with_all_that_it_brings(tmp_path, dfqsam, packages, published):
    done = dfqsam("sbom", "--extra", "serve", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "out").read_text())
    published.validate(document)
    names = {one["name"] for one in document["components"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = {Requirement(text).name for extra in ("serve", "studies") for text in project[extra]} - {"dfqsam"}
    assert names >= {canonicalize_name(name) for name in asked} | {one.name for one in packages}
    assert not names & {"streamlit", "torch", "simpleitk"}
    (needs,) = [one["dependsOn"] for one in document["dependencies"] if one["ref"].startswith("pkg:pypi/dfqsam")]
    assert any(ref.startswith("pkg:pypi/fastapi@") for ref in needs)
    done = dfqsam("sbom", "--extra", "cats")
    assert done.returncode == 2
    assert "dfqsam has no extra 'cats'; there are app, " in done.stderr
