"""The verbs ``keygen``, ``sign`` and ``verify`` of the command line."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dfqsam import audit
from dfqsam.console import AsJson, print_json
from dfqsam.errors import BundleError, InputError

if TYPE_CHECKING:
    from dfqsam.bundle import TrustStore
    from dfqsam.bundle.sign import Signer

PASSPHRASE = "DFQSAM_KEY_PASSPHRASE"
REFUSED = 1
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's directory.")]
Key = Annotated[Path, typer.Option(help="A private key that dfqsam keygen or openssl has made.")]


def _need_cryptography() -> None:
    if find_spec("cryptography") is None:
        raise InputError("Keys and signatures need cryptography; install it with: pip install cryptography.")


def _ask(confirm: bool = False) -> bytes:
    """The passphrase, of the variable or of a person at a terminal."""
    if named := os.environ.get(PASSPHRASE):
        return named.encode()
    if not sys.stdin.isatty():
        raise InputError(f"The key has a passphrase and there is no terminal to ask for it; set {PASSPHRASE}.")
    return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)).encode()


def open_signer(key: Path) -> Signer:
    """The private key ``key``, its passphrase asked for where it has one."""
    _need_cryptography()
    from dfqsam.bundle.sign import Signer

    return Signer(key, _ask)


def keygen(
    output: Annotated[Path, typer.Option("-o", "--output", help="The private key; beside it, OUTPUT.pub.")],
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help=f"Encrypt the private key; asked for, or taken from {PASSPHRASE}.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a pair of Ed25519 keys: the private one signs bundles, the public one goes to those who verify them.

    Example: dfqsam keygen -o hospital && sudo install -D -m 644 hospital.pub /etc/dfqsam/trust/hospital.pub
    """
    _need_cryptography()
    from dfqsam.bundle.keys import PUBLIC, make_keys

    made = make_keys(output, _ask(confirm=True) if passphrase else None)
    public = output.with_name(output.name + PUBLIC)
    if as_json:
        print_json({"key": str(output), "public": str(public), "fingerprint": made.fingerprint})
        return
    print(f"{output}: the private key; keep it, and a copy, where only those who sign can read it")
    print(f"{public}: the public key, for everybody who verifies")
    print(f"Fingerprint: {made.fingerprint}")


def sign(bundle: BundlePath, key: Key, as_json: AsJson = False) -> None:
    """Sign a bundle, once every file matches its hash and every graph holds only what a bundle may hold.

    The signature goes into manifest.sig of the bundle, in place of one that is there.

    Example: dfqsam sign bundle --key hospital
    """
    signer = open_signer(key)
    from dfqsam.bundle.sign import sign_bundle

    signed = sign_bundle(bundle, signer)
    audit.record("sign", bundle=signed.sha256, key=signer.public.fingerprint)
    if as_json:
        print_json({"bundle": str(bundle), "sha256": signed.sha256, "fingerprint": signer.public.fingerprint})
    else:
        print(f"{bundle}: bundle {signed.sha256[:12]} is signed by {key.name} ({signer.public.fingerprint[:16]})")


def _store(places: list[Path] | None) -> TrustStore:
    from dfqsam.bundle import TrustStore
    from dfqsam.bundle.trust import VARIABLE, site_folder

    store = TrustStore.of(places) if places else TrustStore.configured()
    if store is None:
        raise InputError(
            f"There is nothing to verify by; name a public key with --trust KEY.pub, set {VARIABLE}, or put keys into "
            f"{site_folder()}."
        )
    return store


def verify(
    bundle: BundlePath,
    trust: Annotated[
        list[Path] | None,
        typer.Option(help="A public key, or a folder of them (*.pub); may be repeated. Without it, the site's."),
    ] = None,
    acceptance: Annotated[
        Path | None, typer.Option(help="A signed acceptance.json, which must say PASS of this very bundle.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify a bundle: every bit of every file, no file more or less, harmless graphs, signed by a trusted key.

    Nothing of the bundle is run. Exit code: 0, or 1 where it is refused, or 2 for a mistake in the call.

    Example: dfqsam verify bundle --trust hospital.pub --acceptance acceptance/acceptance.json
    """
    _need_cryptography()
    store = _store(trust)
    found: dict[str, Any] = {"bundle": None, "result": "refused", "key": None, "acceptance": None}
    try:
        lines = _verified(bundle, store, acceptance, found)
    except BundleError as error:
        audit.record("verify", **found)
        if as_json:
            print_json({**found, "error": str(error)})
        print(f"Error: {error}", file=sys.stderr)
        raise typer.Exit(REFUSED) from None
    audit.record("verify", **found)
    print_json(found) if as_json else print(*lines, sep="\n")


def _verified(path: Path, store: TrustStore, acceptance: Path | None, found: dict[str, Any]) -> list[str]:
    """What is to be said of a bundle that passes; ``found`` is filled on the way."""
    from dfqsam.bundle import Bundle, read_bundle
    from dfqsam.bundle.sign import check_acceptance, check_graphs
    from dfqsam.bundle.trust import VERIFIED, examine

    read = read_bundle(path)
    found["bundle"] = read.manifest.sha256
    known = examine(read.data, read.signature, store)
    if known.state != VERIFIED:
        found["result"] = known.state
        raise BundleError(f"{path} is {known.sentence}.")
    opened = Bundle(read.path, read.manifest, known)
    check_graphs(opened)
    lines = [f"{path}: bundle {opened.sha256[:12]} is whole, and {known.sentence}"]
    if acceptance is not None:
        accepted = check_acceptance(acceptance, opened, store)
        found["acceptance"] = accepted.verdict
        if accepted.verdict != "PASS":
            raise BundleError(f"{acceptance} says {accepted.verdict} of {path}; it was not accepted.")
        lines.append(f"{acceptance}: PASS for this bundle, signed by the trusted key {accepted.signer.name}")
    found["result"], found["key"] = known.state, known.fingerprint
    return lines
