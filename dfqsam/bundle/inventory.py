"""The software that a bundle is run with: dfqsam and everything that its base install brings, as it is installed here.

The same list is written twice: as a bill of materials for machines (CycloneDX) and as the list of SOUP (software of
unknown provenance, IEC 62304) for a technical file.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dfqsam import __version__
from dfqsam.errors import InputError

# What dfqsam itself asks for, and what for; a test holds this against pyproject.toml.
PURPOSES = {
    "numpy": "arrays: pictures, prompts, masks",
    "onnxruntime": "computes the graphs of a bundle",
    "opencv-python-headless": "reads and resizes pictures",
    "cryptography": "verifies signatures of bundles (Ed25519)",
    "packaging": "reads which packages belong to the runtime, for this list",
    "typer": "the command line",
    "rich": "tables and progress on the terminal",
}
ADDRESS = re.compile(r"\s*<[^<>]*>?|\"")
ISSUES = re.compile(r"bug|issue|tracker", re.IGNORECASE)
HOMES = re.compile(r"home|source|repository|github|code", re.IGNORECASE)
SOUP_HEAD = ("name", "version", "manufacturer", "licence", "purpose", "website", "known_anomalies")


@dataclass(frozen=True)
class Package:
    """A Python package of the runtime.

    Attributes:
        name: as the index spells it, in small letters.
        version: as installed; empty where it is not.
        licence: SPDX expression where the package gives one, else what it says; empty where nothing.
        spdx: whether ``licence`` is such an expression.
        supplier: author or maintainer, as the package says.
        website, issues: addresses of the project and of its list of known anomalies; empty where it gives none.
        needs: names of the packages of the runtime that it needs.
    """

    name: str
    version: str
    licence: str
    spdx: bool
    supplier: str
    website: str
    issues: str
    needs: tuple[str, ...]

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}" if self.version else f"pkg:pypi/{self.name}"


def _line(text: str | None) -> str:
    """The first line of a text; some packages put their whole licence where its name belongs."""
    words = (text or "").strip().splitlines()
    return words[0].strip()[:400] if words else ""


def _required(distribution: metadata.Distribution) -> Iterator[str]:
    for text in distribution.requires or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield canonicalize_name(requirement.name)


def _package(name: str) -> Package:
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:  # another build of the same, such as opencv-python
        return Package(name, "", "", False, "", "", "", ())
    about = distribution.metadata

    def first(*fields: str) -> str:
        return next((text for field in fields if (text := _line(" ".join(about.get_all(field) or []))) != ""), "")

    links = dict(_link(text) for text in about.get_all("Project-URL") or [])
    kinds = [text.rpartition(" :: ")[2] for text in about.get_all("Classifier") or [] if text.startswith("License ::")]
    expression = first("License-Expression")
    return Package(
        name,
        distribution.version,
        expression or ", ".join(kinds) or _line("\n".join(about.get_all("License") or [])),
        bool(expression),
        ADDRESS.sub("", first("Author", "Maintainer", "Author-email", "Maintainer-email")),
        first("Home-page") or next((url for label, url in links.items() if HOMES.search(label)), ""),
        next((url for label, url in links.items() if ISSUES.search(label)), ""),
        tuple(sorted(set(_required(distribution)))),
    )


def _link(text: str) -> tuple[str, str]:
    label, _, url = text.partition(",")
    return label.strip(), url.strip()


def asked_by(extra: str) -> set[str]:
    """Names of the packages that an extra of dfqsam asks for, besides those of the base install.

    Raises:
        InputError: when dfqsam has no such extra.
    """
    distribution = metadata.distribution("dfqsam")
    known = distribution.metadata.get_all("Provides-Extra") or []
    if extra not in known:
        raise InputError(f"dfqsam has no extra {extra!r}; there are {', '.join(sorted(known))}.")
    found: set[str] = set()
    for requirement in map(Requirement, distribution.requires or []):
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}) or not marker.evaluate({"extra": extra}):
            continue
        if canonicalize_name(requirement.name) == "dfqsam":
            found |= set().union(*map(asked_by, requirement.extras))
        else:
            found.add(canonicalize_name(requirement.name))
    return found


def runtime_packages(extras: Iterable[str] = ()) -> list[Package]:
    """All packages of the runtime by name, those that packages need included.

    Raises:
        InputError: as :func:`asked_by`.
    """
    found: dict[str, Package] = {}
    waiting = sorted({*PURPOSES}.union(*map(asked_by, extras)))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _package(name)
            waiting += found[name].needs
    return [found[name] for name in sorted(found)]


def purpose(package: Package, packages: list[Package]) -> str:
    """What a package is there for."""
    if package.name in PURPOSES:
        return PURPOSES[package.name]
    needing = [one.name for one in packages if package.name in one.needs]
    return f"needed by {', '.join(needing)}" if needing else "asked for by an extra of dfqsam"


def soup_csv(packages: list[Package]) -> bytes:
    """A line for every package, as a list of SOUP items asks for; the risk that each is, the site has to judge."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(SOUP_HEAD)
    for one in packages:
        facts = (one.name, one.version, one.supplier, one.licence, purpose(one, packages), one.website, one.issues)
        writer.writerow([_harmless(text) for text in facts])
    return buffer.getvalue().encode()


def _harmless(text: str) -> str:
    """A text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def itself(extras: Iterable[str] = ()) -> Package:
    """This program, and what it and its ``extras`` ask for."""
    needs = tuple(sorted({*PURPOSES}.union(*map(asked_by, extras))))
    return Package("dfqsam", __version__, "Apache-2.0", True, "", "", "", needs)
