"""Numbers that llama.cpp holds, read where they are."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

pytest.importorskip("llama_cpp")

from qwenkit.backends.llamacpp import capi


def test_they_are_read_and_written_in_place() -> None:
    held = np.arange(12, dtype=np.float32)
    seen = capi.floats(held.ctypes.data, (3, 4))
    assert seen.tolist() == held.reshape(3, 4).tolist()
    seen[1, 2] = -1
    assert held[6] == -1


def test_shapes_that_were_read_once_leave_nothing_behind() -> None:
    held = np.zeros(128, np.float32)
    before = len(ctypes._pointer_type_cache)
    for n in range(1, 65):
        capi.floats(held.ctypes.data, (n, 2))
    assert len(ctypes._pointer_type_cache) == before
