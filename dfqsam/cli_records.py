"""The verb ``sbom`` of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dfqsam.errors import InputError


def sbom(
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write it here; without it, print it.")] = None,
    soup: Annotated[bool, typer.Option("--soup", help="A list of SOUP as CSV in place of CycloneDX.")] = False,
    extra: Annotated[list[str] | None, typer.Option(help="With what this extra brings; may be repeated.")] = None,
) -> None:
    """List the software that bundles are run with on this machine: CycloneDX 1.6 (JSON), or a list of SOUP (CSV).

    Every new bundle carries both as they were where it was made; this is what is installed here.

    Example: dfqsam sbom --extra serve -o sbom.cdx.json
    """
    from dfqsam.bundle.inventory import runtime_packages, soup_csv
    from dfqsam.bundle.sbom import sbom as listed

    extras = extra or []
    packages = runtime_packages(extras)
    data = soup_csv(packages) if soup else listed(packages, extras=extras)
    if output is None:
        print(data.decode(), end="")
        return
    try:
        output.write_bytes(data)
    except OSError as error:
        raise InputError(f"{output} cannot be written ({error.strerror}).") from error
    print(f"{output}: {len(packages)} packages")
