"""Keeps other processes out of a folder. Knows locks; nothing of what is in it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qwenkit.errors import InvalidSettings


@contextmanager
def held_folder(path: Path, *, taken: InvalidSettings) -> Iterator[None]:
    """Make a folder and hold it as long as the context is open; a killed process lets go of it.

    Args:
        path: The folder.
        taken: Raised where another process holds it.

    Raises:
        InvalidSettings: Another process holds it, or it can't be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDONLY)
    except OSError as exc:
        raise InvalidSettings(
            f"`{path}` can't be made: {exc.strerror}", hint="name another --output"
        ) from exc
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(handle)
        raise taken from exc
    try:
        yield
    finally:
        os.close(handle)
