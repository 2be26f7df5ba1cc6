"""Whether weights are the same ones."""

from __future__ import annotations

import os
from pathlib import Path

from qwenkit.models.fingerprint import WHOLE_BYTES, fingerprint


def test_small_files_count_by_their_bytes_alone(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"same")
    b.write_bytes(b"same")
    os.utime(b, (1, 1))
    assert fingerprint([a]) == fingerprint([b])
    b.write_bytes(b"sane")
    assert fingerprint([a]) != fingerprint([b])


def test_salt_and_number_of_files_count(tmp_path: Path) -> None:
    a = tmp_path / "a"
    a.write_bytes(b"same")
    hashes = {fingerprint([a]), fingerprint([a], "f16"), fingerprint([a, a]), fingerprint([])}
    assert len(hashes) == 4
    assert {len(value) for value in hashes} == {16}


def large(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(WHOLE_BYTES + 1)
    os.utime(path, (1, 1))
    return path


def test_large_files_count_by_size_time_and_both_ends(tmp_path: Path) -> None:
    path = large(tmp_path / "a")
    first = fingerprint([path])
    assert fingerprint([large(tmp_path / "b")]) == first
    os.utime(path, (2, 2))
    assert fingerprint([path]) != first
    for at in (0, WHOLE_BYTES):
        changed = large(tmp_path / "c")
        with changed.open("r+b") as file:
            file.seek(at)
            file.write(b"x")
        os.utime(changed, (1, 1))
        assert fingerprint([changed]) != first
