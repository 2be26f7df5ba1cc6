"""GenAI's generate() API through its C interface: models, generators, adapters.

Its Python module keeps the GIL for as long as a generator computes, so that no other thread of the
process would get to run meanwhile, and none could end it. The same calls through `ctypes.CDLL`
give it away. Source: ort_genai_c.h.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qwenkit.backends.onnx.runtime import onnxruntime_genai

_FILES = {"win32": "onnxruntime-genai.dll", "darwin": "libonnxruntime-genai.dylib"}
_P = ctypes.c_void_p
_OUT = ctypes.POINTER(ctypes.c_void_p)
# OgaElementType
_DTYPES: dict[int, npt.DTypeLike] = {1: np.float32, 10: np.float16}
_TERMINATE = b"terminate_session"

_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "OgaCreateConfig": (ctypes.c_char_p, _OUT),
    "OgaConfigClearProviders": (_P,),
    "OgaConfigAppendProvider": (_P, ctypes.c_char_p),
    "OgaConfigOverlay": (_P, ctypes.c_char_p),
    "OgaCreateModelFromConfig": (_P, _OUT),
    "OgaCreateGeneratorParams": (_P, _OUT),
    "OgaGeneratorParamsSetSearchNumber": (_P, ctypes.c_char_p, ctypes.c_double),
    "OgaCreateGenerator": (_P, _P, _OUT),
    "OgaGenerator_AppendTokens": (_P, _P, ctypes.c_size_t),
    "OgaGenerator_RewindTo": (_P, ctypes.c_size_t),
    "OgaGenerator_GetLogits": (_P, _OUT),
    "OgaGenerator_GetOutput": (_P, ctypes.c_char_p, _OUT),
    "OgaGenerator_SetRuntimeOption": (_P, ctypes.c_char_p, ctypes.c_char_p),
    "OgaTensorGetType": (_P, ctypes.POINTER(ctypes.c_int)),
    "OgaTensorGetShapeRank": (_P, ctypes.POINTER(ctypes.c_size_t)),
    "OgaTensorGetShape": (_P, ctypes.POINTER(ctypes.c_int64), ctypes.c_size_t),
    "OgaTensorGetData": (_P, _OUT),
    "OgaCreateAdapters": (_P, _OUT),
    "OgaLoadAdapter": (_P, ctypes.c_char_p, ctypes.c_char_p),
    "OgaUnloadAdapter": (_P, ctypes.c_char_p),
    "OgaSetActiveAdapter": (_P, _P, ctypes.c_char_p),
}


class GenaiError(Exception):
    """What the library said when it failed."""


class Library:
    """The functions; each raises `GenaiError` when it fails.

    Raises:
        MissingExtra: onnxruntime-genai is not installed.
    """

    def __init__(self) -> None:
        # Importing it makes the library find onnxruntime.
        package = onnxruntime_genai()
        self.version = str(package.__version__)
        folder = Path(package.__file__).parent
        self._library = ctypes.CDLL(
            str(folder / _FILES.get(sys.platform, "libonnxruntime-genai.so"))
        )
        for name, arguments in _ARGUMENTS.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = arguments, _P
        self._library.OgaResultGetError.argtypes = (_P,)
        self._library.OgaResultGetError.restype = ctypes.c_char_p

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function."""
        result = getattr(self._library, name)(*arguments)
        if result:
            said = self._library.OgaResultGetError(result) or b""
            message = said.decode("utf-8", "replace")
            self._library.OgaDestroyResult(_P(result))
            raise GenaiError(message)

    def make(self, name: str, *arguments: Any) -> _P:
        """Call a function whose last argument is where it writes what it made."""
        made = _P()
        self.call(name, *arguments, ctypes.byref(made))
        return made

    def destroy(self, kind: str, made: _P) -> None:
        """Free what was made."""
        getattr(self._library, f"OgaDestroy{kind}")(made)


class Model:
    """A loaded model.

    Args:
        folder: The ONNX folder.
        device: `cpu` or `cuda`.
        n_threads: CPU threads.

    Raises:
        GenaiError: It can't be loaded.
    """

    def __init__(self, library: Library, folder: Path, *, device: str, n_threads: int) -> None:
        self.library = library
        config = library.make("OgaCreateConfig", os.fsencode(folder))
        try:
            library.call("OgaConfigClearProviders", config)
            if device != "cpu":
                library.call("OgaConfigAppendProvider", config, device.encode())
            library.call("OgaConfigOverlay", config, _session_options(n_threads).encode())
            self.pointer = library.make("OgaCreateModelFromConfig", config)
        finally:
            library.destroy("Config", config)

    def close(self) -> None:
        """Free it; its generators and adapters must be closed."""
        self.library.destroy("Model", self.pointer)


class Generator:
    """One sequence and its KV cache.

    Args:
        model: What computes.
        max_length: Most tokens.
    """

    def __init__(self, model: Model, *, max_length: int) -> None:
        self._library = model.library
        params = self._library.make("OgaCreateGeneratorParams", model.pointer)
        try:
            for name, value in ((b"max_length", max_length), (b"batch_size", 1)):
                self._library.call("OgaGeneratorParamsSetSearchNumber", params, name, value)
            self._pointer = self._library.make("OgaCreateGenerator", model.pointer, params)
        finally:
            self._library.destroy("GeneratorParams", params)

    def append(self, tokens: npt.NDArray[np.int32]) -> None:
        """Compute tokens behind those it has.

        Raises:
            GenaiError: It failed, or `terminate` was called.
        """
        data = np.ascontiguousarray(tokens, np.int32)
        self._library.call("OgaGenerator_AppendTokens", self._pointer, data.ctypes.data, len(data))

    def rewind(self, length: int) -> None:
        """Keep only the first `length` tokens."""
        self._library.call("OgaGenerator_RewindTo", self._pointer, length)

    def use(self, adapters: Adapters, name: str) -> None:
        """Compute with an adapter from here on."""
        self._library.call("OgaSetActiveAdapter", self._pointer, adapters.pointer, name.encode())

    def last_logits(self) -> npt.NDArray[Any]:
        """Those of the last token appended, `[1, n_vocab]`."""
        made = self._library.make("OgaGenerator_GetLogits", self._pointer)
        return self._numbers(made)

    def output(self, name: str) -> npt.NDArray[Any]:
        """An output for each token that was appended last, `[n, …]`."""
        made = self._library.make("OgaGenerator_GetOutput", self._pointer, name.encode())
        return self._numbers(made)

    def terminate(self) -> None:
        """End what it computes. Callable from any thread; it is of no use afterwards."""
        self._library.call("OgaGenerator_SetRuntimeOption", self._pointer, _TERMINATE, b"1")

    def close(self) -> None:
        """Free it."""
        self._library.destroy("Generator", self._pointer)

    def _numbers(self, tensor: _P) -> npt.NDArray[Any]:
        """A copy of a tensor's numbers without its first dimension, the batch; it is freed."""
        library = self._library
        try:
            rank, kind = ctypes.c_size_t(), ctypes.c_int()
            library.call("OgaTensorGetShapeRank", tensor, ctypes.byref(rank))
            library.call("OgaTensorGetType", tensor, ctypes.byref(kind))
            shape = (ctypes.c_int64 * rank.value)()
            library.call("OgaTensorGetShape", tensor, shape, rank.value)
            numbers: npt.NDArray[Any] = np.empty(shape[1:], _DTYPES[kind.value])
            address = library.make("OgaTensorGetData", tensor)
            ctypes.memmove(numbers.ctypes.data, address, numbers.nbytes)
            return numbers
        finally:
            library.destroy("Tensor", tensor)


class Adapters:
    """The adapters of a model, by name.

    Args:
        model: What they change.
    """

    def __init__(self, model: Model) -> None:
        self._library = model.library
        self.pointer = self._library.make("OgaCreateAdapters", model.pointer)

    def load(self, path: Path, name: str) -> None:
        """Load an `.onnx_adapter`.

        Raises:
            GenaiError: It can't be read.
        """
        self._library.call("OgaLoadAdapter", self.pointer, os.fsencode(path), name.encode())

    def unload(self, names: Iterable[str]) -> None:
        """Free adapters that no generator uses."""
        for name in names:
            self._library.call("OgaUnloadAdapter", self.pointer, name.encode())

    def close(self) -> None:
        """Free all of them."""
        self._library.destroy("Adapters", self.pointer)


def _session_options(n_threads: int) -> str:
    entries = {
        "intra_op_num_threads": n_threads,
        "session.intra_op.allow_spinning": "0",
        "log_severity_level": 4,  # an error is raised, and need not be on stderr too
    }
    return json.dumps({"model": {"decoder": {"session_options": entries}}})
