"""Starting Streamlit with safe defaults, which neither a configuration file nor the environment can undo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

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


def options(address: str = "127.0.0.1", port: int = 8501) -> dict[str, Any]:
    """Streamlit's options by name; given as flags, they count before files and environment variables.

    An address is always set, so that Streamlit does not ask a service on the internet for one.
    """
    return {
        "server.address": address,
        "server.port": port,
        "server.headless": True,
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,
        "server.enableStaticServing": False,
        "server.maxUploadSize": UPLOAD_MB,
        "server.fileWatcherType": "none",
        "server.enableAgentApi": False,
        "server.showEmailPrompt": False,
        "browser.gatherUsageStats": False,
        "browser.serverAddress": "localhost" if address == "127.0.0.1" else address,
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


def prepare(settings: Settings, address: str = "127.0.0.1", port: int = 8501) -> dict[str, Any]:
    """Make everything ready but the server; returns the options in force, as Streamlit's flags.

    Raises:
        BundleError: when a bundle is damaged.
        InputError: when a bundle or folder is not there.
    """
    from streamlit.web import bootstrap

    from dfqsam.app.models import shared
    from dfqsam.errors import InputError

    if settings.studies is not None and not settings.studies.is_dir():
        raise InputError(f"The study folder {settings.studies} is not there; name a folder.")
    use(settings)
    shared(settings)
    keep_uploads_in_memory()
    flags = {name.replace(".", "_"): value for name, value in options(address, port).items()}
    bootstrap.load_config_options(flags)
    return flags


def serve(settings: Settings, address: str = "127.0.0.1", port: int = 8501) -> None:
    """Run the viewer until it is stopped.

    Raises:
        BundleError: as :func:`prepare`.
        InputError: as :func:`prepare`.
    """
    from streamlit.web import bootstrap

    flags = prepare(settings, address, port)
    print(f"The viewer runs at http://{'localhost' if address == '127.0.0.1' else address}:{port}", file=sys.stderr)
    bootstrap.run(str(MAIN), False, [], flags)
