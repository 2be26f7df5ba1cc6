"""The C library: short calls that keep the GIL, arrays as pointers, and what it logs.

llama-cpp-python binds every function through `ctypes.CDLL`, which gives the GIL away for the call
and must win it back afterwards. That is right for a decode and costly for a call of a microsecond:
beside one busy Python thread, sixteen such calls take a third longer than a whole decode step. The
functions here are the same ones through `ctypes.PyDLL`, which keeps the GIL.
"""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from typing import Any

import llama_cpp.llama_cpp as native
import numpy as np
import numpy.typing as npt

_keeps_gil = ctypes.PyDLL(native._lib._name)


def _short_call(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(_keeps_gil, name)
    function.argtypes = arguments
    function.restype = result
    return function


_P = ctypes.c_void_p
_I32 = ctypes.c_int32

memory_seq_rm = _short_call("llama_memory_seq_rm", ctypes.c_bool, _P, _I32, _I32, _I32)
memory_seq_cp = _short_call("llama_memory_seq_cp", None, _P, _I32, _I32, _I32, _I32)
memory_seq_pos_max = _short_call("llama_memory_seq_pos_max", _I32, _P, _I32)
get_logits = _short_call("llama_get_logits", _P, _P)
sampler_apply = _short_call("llama_sampler_apply", None, _P, _P)
sampler_accept = _short_call("llama_sampler_accept", None, _P, _I32)

# Layout of `llama_token_data`.
TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


def pointer(array: npt.NDArray[Any], kind: Any) -> Any:
    """The array's memory as a C pointer; the caller keeps the array alive."""
    return array.ctypes.data_as(ctypes.POINTER(kind))


class _InPlace:
    """Memory of the library as numpy's array interface tells of it."""

    def __init__(self, address: int, shape: tuple[int, ...]) -> None:
        self.__array_interface__ = {
            "version": 3,
            "typestr": "<f4",
            "shape": shape,
            "data": (address, False),
        }


def floats(address: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Numbers that the library holds, in place.

    `np.ctypeslib.as_array` makes a C type for every shape, and ctypes keeps each for good.
    """
    array: npt.NDArray[np.float32] = np.asarray(_InPlace(address, shape))
    return array


class _Log:
    """Keeps the library's newest messages, so that a failure can say why."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=200)
        self._lock = threading.Lock()
        self._callback = native.llama_log_callback(self._on_message)
        self._level = 0

    def install(self) -> None:
        native.llama_log_set(self._callback, ctypes.c_void_p(0))

    def clear(self) -> None:
        with self._lock:
            self._lines.clear()

    def errors(self) -> str:
        """The error messages since `clear`, joined, the first one first."""
        with self._lock:
            return "; ".join(line for line in self._lines if line)

    def _on_message(self, level: int, text: bytes, _user_data: Any) -> None:
        level = self._level if level == _CONTINUED else level
        self._level = level
        if level >= _ERROR:
            with self._lock:
                self._lines.append(text.decode("utf-8", "replace").strip())


# ggml_log_level
_ERROR = 4
_CONTINUED = 5

log = _Log()
_ready = threading.Lock()
_initialised = False


def initialise() -> None:
    """Start the library once in this process."""
    global _initialised  # noqa: PLW0603  the C library's state is the process's
    with _ready:
        if not _initialised:
            log.install()
            native.llama_backend_init()
            _initialised = True


def read_metadata(model: Any, key: str) -> str:
    """A string from a model's metadata; empty where it has none of that key."""
    buffer = ctypes.create_string_buffer(256)
    n = native.llama_model_meta_val_str(model, key.encode(), buffer, 256)
    return buffer.value.decode("utf-8", "replace") if n >= 0 else ""
