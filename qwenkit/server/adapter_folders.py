"""Where adapters may come from, and which ones lie there now. Knows paths; nothing of the server.

Patterns (`LORA_PATHS`) name adapters, whole or by `*`, `?` and `**`; a folder that is no adapter
itself stands for those in it. An adapter is called as its folder or file, without the suffix.
"""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from qwenkit.adapters.read import is_adapter
from qwenkit.errors import InvalidRequest
from qwenkit.server.errors import Forbidden

logger = logging.getLogger(__name__)

Signature: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""What tells one state of a file or folder from another, without reading it."""


@dataclass(frozen=True, slots=True)
class FoundAdapter:
    """An adapter that a pattern names.

    Args:
        name: What it is called.
        path: Where it is; links are left as they are, so that one may point elsewhere later.
        signature: What its files look like now.
        hides: Others of the same name, which can't be served beside it.
    """

    name: str
    path: Path
    signature: Signature
    hides: tuple[Path, ...] = ()


class AdapterFolders:
    """The places that the settings name.

    Args:
        patterns: Adapters that are to be loaded.
        folders: Folders that adapters may be loaded from when somebody asks for it.
    """

    def __init__(self, patterns: Iterable[str], folders: Iterable[Path]) -> None:
        self._patterns = [str(Path(pattern).expanduser()) for pattern in patterns]
        self._folders = [folder.expanduser() for folder in folders]

    def find(self) -> list[FoundAdapter]:
        """The adapters that the patterns name now; of several of one name the first."""
        by_name: dict[str, list[Path]] = {}
        for path in self._matches():
            others = by_name.setdefault(adapter_name(path), [])
            if path not in others:
                others.append(path)
        return [
            FoundAdapter(name, paths[0], signature(paths[0]), tuple(paths[1:]))
            for name, paths in by_name.items()
        ]

    def _matches(self) -> Iterator[Path]:
        for pattern in self._patterns:
            for path in _expand(pattern):
                if _is_adapter(path):
                    yield path.absolute()
                elif not glob.has_magic(pattern):
                    yield from filter(_is_adapter, _children(path.absolute()))

    def allowed(self, path: Path) -> Path:
        """Follow all links of a path to an adapter and let it pass if it lies where it may.

        Raises:
            Forbidden: It, or one of its files, lies elsewhere; what is there is not looked at.
            InvalidRequest: It is no path.
        """
        try:
            return self._allowed(path)
        except (OSError, RuntimeError, ValueError) as exc:  # too long, a ring of links, a NUL
            raise InvalidRequest("the path can't be followed", param="path") from exc

    def _allowed(self, path: Path) -> Path:
        source = path.resolve()
        roots = [root.resolve() for root in self._roots()]
        if not _is_below(source, roots):
            raise Forbidden(
                f"`{path}` is in no folder that adapters may be loaded from",
                hint="name its folder in LORA_DIRS or LORA_PATHS",
            )
        for file in sorted(source.iterdir()) if source.is_dir() else ():
            if not _is_below(file.resolve(), roots):
                raise Forbidden(
                    f"`{file}` is a link to where adapters may not be loaded from",
                    hint="copy the file, or name the folder that it lies in in LORA_DIRS",
                )
        return source

    def _roots(self) -> Iterator[Path]:
        yield from self._folders
        for pattern in self._patterns:
            parent = str(Path(pattern).parent)
            in_folder = glob.has_magic(Path(pattern).name)
            yield from _expand(parent if in_folder else pattern)


def _expand(pattern: str) -> list[Path]:
    # `Path.glob` takes no absolute pattern.
    return [Path(path) for path in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207


def _is_adapter(path: Path) -> bool:
    return _looked_at(path, signature(path))


@lru_cache(maxsize=4096)
def _looked_at(path: Path, _: Signature) -> bool:
    # The header of a large `.gguf` takes a moment to read: once for each state of the file.
    try:
        return is_adapter(path)
    except OSError as exc:  # such as a volume's `lost+found`
        _warn_once(path, exc.strerror)
        return False


def _children(folder: Path) -> list[Path]:
    """What lies in a folder; nothing in what is none."""
    try:
        return sorted(folder.iterdir())
    except NotADirectoryError:
        return []
    except OSError as exc:
        _warn_once(folder, exc.strerror)
        return []


@lru_cache(maxsize=4096)
def _warn_once(path: Path, reason: str) -> None:
    logger.warning("`%s` is not looked into: %s", path, reason)


def adapter_name(path: Path) -> str:
    """What the adapter at a path is called."""
    return path.name if path.is_dir() else path.stem


def signature(path: Path) -> Signature:
    """What a file, or the files of a folder, look like now; empty when there is nothing."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return tuple(
            (file.name, stat.st_mtime_ns, stat.st_size, stat.st_ino)
            for file in files
            for stat in [_stat(file)]
        )
    except OSError:  # it vanishes just now
        return ()


def _stat(file: Path) -> os.stat_result:
    try:
        return file.stat()
    except OSError:  # a link to nothing, such as an editor's lock
        return file.lstat()


def _is_below(path: Path, roots: Iterable[Path]) -> bool:
    return any(path.is_relative_to(root) for root in roots)
