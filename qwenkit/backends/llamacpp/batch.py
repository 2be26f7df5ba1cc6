"""Rows as llama.cpp takes them."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp.llama_cpp as native
import numpy as np

from qwenkit.backends.base import Rows
from qwenkit.backends.llamacpp import capi


class Batch:
    """The C batch over arrays that are filled in place: no allocation and no loop a step.

    Args:
        n_rows: Most rows it holds.
    """

    def __init__(self, n_rows: int) -> None:
        self._tokens = np.zeros(n_rows, np.int32)
        self._positions = np.zeros(n_rows, np.int32)
        self._n_slots = np.ones(n_rows, np.int32)
        self._slots = np.zeros(n_rows, np.int32)
        self._wanted = np.zeros(n_rows, np.int8)
        offsets = 4 * np.arange(n_rows, dtype=np.uint64)
        self._slot_pointers = np.uint64(self._slots.ctypes.data) + offsets
        self._batch = native.llama_batch(
            0,
            capi.pointer(self._tokens, ctypes.c_int32),
            None,
            capi.pointer(self._positions, ctypes.c_int32),
            capi.pointer(self._n_slots, ctypes.c_int32),
            ctypes.cast(
                self._slot_pointers.ctypes.data, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))
            ),
            capi.pointer(self._wanted, ctypes.c_int8),
        )

    def fill(self, rows: Rows) -> Any:
        """The batch that holds these rows, until it is filled again."""
        n = len(rows.tokens)
        self._tokens[:n] = rows.tokens
        self._positions[:n] = rows.positions
        self._slots[:n] = rows.slots
        self._wanted[:n] = rows.wants_logits
        self._batch.n_tokens = n
        return self._batch
