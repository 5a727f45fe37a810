"""The verb ``app`` of the command line."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from dfqsam.errors import InputError


def app(
    bundle: Annotated[
        list[Path] | None,
        typer.Option(help="A bundle, or a folder of bundles; may be repeated. Without one, LiteMedSAM."),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="A bundle with the full-precision graphs, for bundles that have none.")
    ] = None,
    studies: Annotated[Path | None, typer.Option(help="A folder on this machine whose studies may be opened.")] = None,
    judgements: Annotated[
        Path | None, typer.Option(help="A folder for what is judged; without one, dfqsam in your own data folder.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where the browser finds it.")] = 8501,
    address: Annotated[
        str, typer.Option(help="To listen on. Anything but 127.0.0.1 needs a proxy with TLS and login in front.")
    ] = "127.0.0.1",
    name: Annotated[
        str | None, typer.Option(help="Of the proxy in front, as people type it: viewer.hospital.example.")
    ] = None,
) -> None:
    """Start the viewer: draw a box on a study, and compare the masks of both models in the browser.

    Example: dfqsam app --bundle bundles --reference full --studies /srv/studies
    """
    for module in ("streamlit", "nibabel", "pydicom", "scipy"):
        if find_spec(module) is None:
            raise InputError(f"The viewer needs {module}; install it with: pip install 'dfqsam[app]'.")
    from dfqsam.app.records import default_folder
    from dfqsam.app.serve import serve
    from dfqsam.app.settings import Settings

    serve(Settings(tuple(bundle or ()), reference, studies, judgements or default_folder()), address, port, name)
