"""What a batch has finished, as JSON lines, so that a run that was ended goes on where it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from dfqsam.errors import InputError

NAME = "journal.jsonl"


def _lock(file: BinaryIO) -> None:
    """Raises OSError when another process holds the lock; it ends with the process, however that ends."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]


class Journal:
    """Records of finished studies in ``journal.jsonl``, each a line with at least ``study``; held by one process.

    A line is on the disk before :meth:`add` returns. A last line that was cut short is taken off.

    Raises:
        InputError: when another run writes into the same folder, or the file cannot be written or is no journal.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
        except OSError as error:
            raise InputError(f"{path} cannot be written ({error.strerror}).") from error
        try:
            _lock(self._file)
        except OSError as error:
            self._file.close()
            raise InputError(f"Another run writes into {folder}; wait for it, or choose another folder.") from error
        self._file.seek(0)
        data = self._file.read()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            self._file.truncate(len(whole))
        try:
            self.records: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
            if not all(isinstance(record["study"], str) for record in self.records):
                raise ValueError
        except (ValueError, KeyError, TypeError) as error:
            self._file.close()
            raise InputError(f"{path} is no journal of a batch; move it away.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def of(self, study: str) -> list[dict[str, Any]]:
        """The records of a study, the latest last."""
        return [record for record in self.records if record["study"] == study]

    def add(self, record: dict[str, Any]) -> None:
        """Append a record.

        Raises:
            InputError: when it cannot be written (disk full).
        """
        try:
            self._file.write(json.dumps(record, ensure_ascii=False, sort_keys=True).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise InputError(f"{self._file.name} cannot be written ({error.strerror}).") from error
        self.records.append(record)
