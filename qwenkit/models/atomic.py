"""Files and folders that are either whole or not there, and one maker at a time for each.

One is written beside its target under a name of its own, flushed to the disk and renamed. The
writer holds a lock on it, so that leftovers of a killed process are told from work in progress,
also across containers that share a volume.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qwenkit.errors import InvalidSettings

SUFFIX = ".partial"


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Give a path to write to: it becomes `target` after the block, or vanishes if that fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(target.parent)
    partial, lock = _claim(target)
    try:
        yield partial
        _sync(partial)
        partial.replace(target)
        _sync(target.parent)
    finally:
        # After the rename there is nothing of that name, whatever else went wrong before it.
        partial.unlink(missing_ok=True)
        os.close(lock)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder to fill: it becomes `target` after the block, or vanishes if that fails.

    What was at `target` before is deleted then, not earlier.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(target.parent)
    partial, lock = _claim_folder(target)
    try:
        yield partial
        for path in partial.rglob("*"):
            _sync(path)
        _sync(partial)
        _replace_folder(partial, target)
        _sync(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(lock)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep others out of `folder` during the block; it is made if need be, and not left empty.

    Raises:
        InvalidSettings: The folder can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as exc:
        raise InvalidSettings(
            f"`{folder}` can't be made: {exc.strerror}", hint="set QWENKIT_HOME to another folder"
        ) from exc
    try:
        # NFS can't lock folders: the work may then be done twice, and is still whole.
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()
        os.close(handle)


def remove_stale(folder: Path) -> None:
    """Delete what killed writers left in `folder`; what somebody still writes stays."""
    for partial in folder.glob(f".*{SUFFIX}"):
        # What can't be opened or locked is somebody's.
        with suppress(OSError):
            is_folder = partial.is_dir() and not partial.is_symlink()
            handle = os.open(partial, os.O_RDONLY if is_folder else os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(partial) if is_folder else partial.unlink()
            finally:
                os.close(handle)


def require_space(folder: Path, n_bytes: int, *, purpose: str) -> None:
    """Fail before the work when the disk that holds `folder` has no room for `n_bytes`.

    Raises:
        InvalidSettings: Too little space; the sentence has both numbers.
    """
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < n_bytes:
        raise InvalidSettings(
            f"{purpose} needs {n_bytes / 1e9:.1f} GB and `{existing}` has {free / 1e9:.1f} GB free",
            hint="free some space, or set QWENKIT_HOME to a folder on a larger disk",
        )


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}{SUFFIX}")


def _claim(target: Path) -> tuple[Path, int]:
    while True:
        partial = _beside(target)
        lock = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Between its creation and its lock another process may have taken it for a leftover.
        if partial.exists():
            return partial, lock
        os.close(lock)


def _claim_folder(target: Path) -> tuple[Path, int]:
    while True:
        partial = _beside(target)
        partial.mkdir()
        # Before its lock another process may take it for a leftover.
        with suppress(FileNotFoundError):
            lock = os.open(partial, os.O_RDONLY)
            # NFS can't lock folders.
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if partial.exists():
                return partial, lock
            os.close(lock)


def _replace_folder(partial: Path, target: Path) -> None:
    """Rename `partial` to `target`; a folder that is there is moved out of the way and deleted."""
    if not target.exists():
        partial.rename(target)
        return
    old = _beside(target)
    target.rename(old)
    try:
        partial.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
