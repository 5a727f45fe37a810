"""Starting Streamlit with safe defaults, which neither a configuration file nor the environment can undo."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

from dfqsam.app.samples import SAMPLES
from dfqsam.app.settings import Settings, use

UPLOAD_MB = 500
MAIN = Path(__file__).with_name("main.py")

# Calm colours that keep their contrast in both themes; nothing is fetched for them.
THEME = {
    "theme.light.primaryColor": "#0f6b80",
    "theme.light.backgroundColor": "#ffffff",
    "theme.light.secondaryBackgroundColor": "#f3f6f7",
    "theme.light.textColor": "#1c2b30",
    "theme.dark.primaryColor": "#3fa7bd",
    "theme.dark.backgroundColor": "#11181b",
    "theme.dark.secondaryBackgroundColor": "#182226",
    "theme.dark.textColor": "#e6eef0",
}


def options(address: str = "127.0.0.1", port: int = 8501, name: str | None = None) -> dict[str, Any]:
    """Streamlit's options by name; given as flags, they count before files and environment variables.

    An address is always set, so that Streamlit does not ask a service on the internet for one. WebSockets are accepted
    under the names of this machine and ``name``, that of a proxy in front; no other site can open one through a
    visitor's browser.
    """
    own = "localhost" if address == "127.0.0.1" else address
    hosts = list(dict.fromkeys([own, address, *([] if name is None else [name])]))
    return {
        "server.address": address,
        "server.port": port,
        "server.headless": True,
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,
        "server.allowedHosts": hosts,
        "server.corsAllowedOrigins": [] if name is None else [f"https://{name}"],
        "server.enableStaticServing": False,
        "server.maxUploadSize": UPLOAD_MB,
        "server.fileWatcherType": "none",
        # A page that was told to take a message from its cache and has just dropped it there stands still for good
        # (Streamlit 1.67, two answers in quick succession); pictures are sent once without that (sent.py).
        "global.minCachedMessageSize": float(1 << 40),
        "server.enableAgentApi": False,
        "server.showEmailPrompt": False,
        "browser.gatherUsageStats": False,
        "browser.serverAddress": own,
        "client.showErrorDetails": "none",
        "client.showErrorLinks": False,
        "client.toolbarMode": "viewer",
        "runner.magicEnabled": False,
        "logger.hideWelcomeMessage": True,
        **THEME,
    }


def keep_uploads_in_memory() -> None:
    """Starlette, which receives uploads, would put those of more than 1 MB into a file for a moment."""
    from starlette.formparsers import MultiPartParser

    MultiPartParser.spool_max_size = (UPLOAD_MB + 1) << 20


def ask_nobody_for_an_address() -> None:
    """Streamlit would ask a service on the internet for its own address when a page of another origin connects."""
    from streamlit import net_util

    net_util.get_external_ip = lambda: None


def prepare(
    settings: Settings, address: str = "127.0.0.1", port: int = 8501, name: str | None = None
) -> dict[str, Any]:
    """Make everything ready but the server; returns the options in force, as Streamlit's flags.

    Raises:
        BundleError: when a bundle is damaged.
        InputError: when a bundle or folder is not there, or a login is configured that cannot work.
    """
    from streamlit.web import bootstrap

    from dfqsam.app.login import providers, secret_files
    from dfqsam.app.models import shared
    from dfqsam.errors import InputError

    if settings.studies is not None and not settings.studies.is_dir():
        raise InputError(f"The study folder {settings.studies} is not there; name a folder.")
    flags = {option.replace(".", "_"): value for option, value in options(address, port, name).items()}
    bootstrap.load_config_options(flags)
    settings = replace(settings, login=providers(secret_files()))
    use(settings)
    shared(settings)
    keep_uploads_in_memory()
    ask_nobody_for_an_address()
    return flags


def serve(settings: Settings, address: str = "127.0.0.1", port: int = 8501, name: str | None = None) -> None:
    """Run the viewer until it is stopped.

    Raises:
        BundleError: as :func:`prepare`.
        InputError: as :func:`prepare`.
    """
    from streamlit.web import bootstrap

    flags = prepare(settings, address, port, name)
    # The first visitor finds the samples drawn.
    Thread(target=lambda: [draw() for _, draw in SAMPLES.values()], name="dfqsam-samples", daemon=True).start()
    if settings.judgements is not None:
        print(f"Judgements are kept in {settings.judgements}", file=sys.stderr)
    print(f"The viewer runs at http://{'localhost' if address == '127.0.0.1' else address}:{port}", file=sys.stderr)
    bootstrap.run(str(MAIN), False, [], flags)
