"""A short hash that says whether weights are the same ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

WHOLE_BYTES = 64 * 1024 * 1024
SAMPLE_BYTES = 1024 * 1024
N_HEX = 16


def fingerprint(files: Iterable[Path], *salt: str) -> str:
    """Hash a set of files, and `salt` with them.

    Up to 64 MiB together, the contents alone count, so that a copy is the same. Beyond that,
    reading everything would take longer than loading: then each file's size, time of change, first
    and last MiB count, which covers a safetensors header and a GGUF's metadata.
    """
    paths = sorted(files, key=lambda path: path.name)
    whole = sum(path.stat().st_size for path in paths) <= WHOLE_BYTES
    digest = hashlib.sha256("\0".join(salt).encode())
    for path in paths:
        digest.update((_contents if whole else _sample)(path))
    return digest.hexdigest()[:N_HEX]


def _contents(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _sample(path: Path) -> bytes:
    stat = path.stat()
    digest = hashlib.sha256(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    with path.open("rb") as file:
        digest.update(file.read(SAMPLE_BYTES))
        file.seek(max(0, stat.st_size - SAMPLE_BYTES))
        digest.update(file.read())
    return digest.digest()
