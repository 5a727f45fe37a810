"""What the viewer was started with: set once by ``dfqsam app``, read by every session."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Where things are.

    Args:
        bundles: directories of bundles, in the order in which they are offered; none for the one that ships.
        reference: a bundle with the full-precision graphs, for bundles that have none of their own.
        studies: a folder of studies on the server that may be browsed; None for uploads and samples only.
        judgements: a folder for the store of judgements and the site's key; None where none are kept.
        login: identity providers that visitors log in with; none where everybody who reaches the page may use it.
    """

    bundles: tuple[Path, ...] = ()
    reference: Path | None = None
    studies: Path | None = None
    judgements: Path | None = None
    login: tuple[str, ...] = ()


_current = [Settings()]


def use(settings: Settings) -> None:
    """Make these the settings of the process."""
    _current[0] = settings


def current() -> Settings:
    """The settings of the process."""
    return _current[0]
