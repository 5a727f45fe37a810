"""The verb ``serve`` of the command line."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from dfqsam.errors import InputError


def serve(
    bundle: Annotated[Path | None, typer.Argument(help="A bundle; without one, the LiteMedSAM that ships.")] = None,
    host: Annotated[str, typer.Option(help="To listen on. Beyond this machine needs tokens and TLS.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    trust: Annotated[
        list[Path] | None,
        typer.Option(help="Serve only what this public key (or a folder of them) has signed; may be repeated."),
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="Who may ask: a token a line (openssl rand -hex 32).")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file of the certificate and its chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of its private key.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine without tokens or TLS all the same.")
    ] = False,
    max_body: Annotated[int, typer.Option(min=1, max=4096, help="MB of a request.")] = 64,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Of an image in all its slices, told from its header.")
    ] = 25_000_000,
    queue: Annotated[int, typer.Option(min=0, max=4096, help="Requests that wait while one is computed.")] = 16,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the model; without it, one a core.")] = None,
    rate: Annotated[int, typer.Option(min=0, help="Requests a minute of each client; 0 for no limit.")] = 600,
    cache: Annotated[int, typer.Option(min=0, help="MB of encoded images that are kept.")] = 256,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds from a request to its answer.")] = 60.0,
) -> None:
    """Serve a bundle over HTTP: images and prompts in, masks as PNG, run lengths, DICOM SEG or NIfTI out.

    Example: dfqsam serve bundle --trust hospital.pub --audit audit.sqlite
    """
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        if find_spec(module) is None:
            raise InputError(f"The service needs {module}; install it with: pip install 'dfqsam[serve]'.")
    from dfqsam.assets import shipped_bundle
    from dfqsam.bundle import TrustStore
    from dfqsam.serve.clients import Clients
    from dfqsam.serve.run import serve as run
    from dfqsam.serve.settings import MB, Settings

    settings = Settings(
        host=host,
        port=port,
        clients=None if token_file is None else Clients.of(token_file),
        certificate=tls_cert,
        key=tls_key,
        insecure=insecure,
        max_body=max_body * MB,
        max_pixels=max_pixels,
        queue=queue,
        rate=rate,
        cache=cache * MB,
        timeout=timeout,
        threads=threads,
    )
    if insecure and not settings.local:
        print(f"Warning: {host} is reached from other machines, and --insecure was given.", file=sys.stderr)
    store = TrustStore.of(trust) if trust else None
    run(shipped_bundle() if bundle is None else bundle, settings, store)
