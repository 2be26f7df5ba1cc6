"""Replaces a file of the user's by another content: whole, with a copy of the old one beside it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from qwenkit.errors import InvalidSettings
from qwenkit.models.atomic import atomic_file

BACKUP_SUFFIX = ".before-qwenkit"
OWNER_ONLY = 0o600


def read(path: Path) -> str:
    """A file's text with its line ends as they are; nothing where there is no file.

    Raises:
        InvalidSettings: It can't be read.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidSettings(
            f"`{path}` can't be read: {exc}", hint="allow this user to read it, as UTF-8"
        ) from exc


def replace(path: Path, text: str) -> Path | None:
    """Write a file; one that is new can be read by its owner only.

    A link stays one: what it leads to is replaced.

    Returns:
        A copy of the old file; None where there was none, or nothing changed.

    Raises:
        InvalidSettings: It can't be written.
    """
    target = path.resolve()
    if not target.exists():
        _write(target, text, mode=OWNER_ONLY)
        return None
    if read(target) == text:
        return None
    backup = _free_name(target)
    with _refused(target):
        shutil.copy2(target, backup)
    _write(target, text, mode=target.stat().st_mode & 0o777)
    return backup


def replace_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read; no copy of the old one stays.

    Raises:
        InvalidSettings: It can't be written.
    """
    _write(path.resolve(), text, mode=OWNER_ONLY)


def _write(target: Path, text: str, *, mode: int) -> None:
    with _refused(target), atomic_file(target) as partial:
        partial.chmod(mode)
        partial.write_bytes(text.encode("utf-8"))


def _free_name(target: Path) -> Path:
    names = (f"{target.name}{BACKUP_SUFFIX}{f'.{n}' if n else ''}" for n in count())
    return next(path for path in map(target.with_name, names) if not path.exists())


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise InvalidSettings(
            f"`{path}` can't be written: {exc.strerror}", hint="allow this user to write there"
        ) from exc
