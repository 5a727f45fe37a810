"""The store of judgements that all sessions of a viewer share; made when somebody first judges, not before."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from dfqsam.errors import InputError
from dfqsam.judgement import JudgementStore, SiteKey, Stored, open_key

STORE, KEY = "judgements.sqlite", "site.key"


def default_folder() -> Path:
    """Where judgements lie unless a folder is named: the place that the system has for a person's data."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "dfqsam"


class Records:
    """Store and site key in one folder; safe for threads.

    Args:
        folder: holds ``judgements.sqlite`` and ``site.key``; None where the viewer keeps no judgements.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._opened: tuple[SiteKey, JudgementStore] | None = None

    @property
    def on(self) -> bool:
        """Whether judgements are kept."""
        return self.folder is not None

    @property
    def begun(self) -> bool:
        """Whether anything was ever kept."""
        return self.folder is not None and (self.folder / STORE).exists()

    def _open(self) -> tuple[SiteKey, JudgementStore]:
        if self.folder is None:
            raise InputError("This viewer keeps no judgements; start it with --judgements FOLDER.")
        with self._lock:
            if self._opened is None:
                try:
                    self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                except OSError as error:
                    raise InputError(
                        f"{self.folder} cannot be made ({error.strerror}); name another folder."
                    ) from error
                key = open_key(self.folder / KEY)
                self._opened = key, JudgementStore(self.folder / STORE, key)
            return self._opened

    @property
    def key(self) -> SiteKey:
        """The site's; made with the store.

        Raises:
            InputError: as :attr:`store`.
            ChainError: as :attr:`store`.
        """
        return self._open()[0]

    @property
    def store(self) -> JudgementStore:
        """The store.

        Raises:
            InputError: where none is kept, or it cannot be opened.
            ChainError: where it was altered.
        """
        return self._open()[1]

    def judgements(self) -> list[Stored]:
        """All that were kept, oldest first; makes no file.

        Raises:
            InputError: when the store cannot be read.
            ChainError: where it was altered.
        """
        return self.store.judgements() if self.begun else []


_lock = threading.Lock()
_made: dict[Path | None, Records] = {}


def shared(folder: Path | None) -> Records:
    """The records of the process in ``folder``."""
    with _lock:
        return _made.setdefault(folder, Records(folder))
