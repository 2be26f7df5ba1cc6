"""Reads single records of the log at known places. Knows files; no database.

A place may have gone since it was noted: the file was deleted, or rewritten. It then has no record.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from qwenkit.errors import InvalidRecord
from qwenkit.feedback.records import Record, decode


class Places:
    """Reads records, and keeps files open meanwhile. Use it as a context manager, briefly.

    Args:
        folder: The log's.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handles: dict[str, int | None] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def read(self, name: str, offset: int, length: int) -> Record | None:
        """The record at a place; None where there is none any more."""
        handle = self._handle(name)
        if handle is None:
            return None
        try:
            return decode(os.pread(handle, length, offset))
        except InvalidRecord:
            return None

    def _handle(self, name: str) -> int | None:
        if name not in self._handles:
            self._handles[name] = self._opened(name)
        return self._handles[name]

    def _opened(self, name: str) -> int | None:
        try:
            handle = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        self._open.callback(os.close, handle)
        return handle
