"""How a tensor of a graph lies in memory, for callbacks that look at nodes while they are computed.

Declares what the Python binding leaves out. Knows no model and no graph.
Source: llama.cpp, ggml/include/ggml.h.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp
import llama_cpp._ctypes_extensions as loading

from qwenkit.errors import EngineError

_P = ctypes.c_void_p


class Tensor(ctypes.Structure):
    """`ggml_tensor`; its first dimension is the one that is contiguous in memory."""


Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", _P),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", _P * 10),
    ("view_src", _P),
    ("view_offs", ctypes.c_size_t),
    ("data", _P),
    ("name", ctypes.c_char * 64),
    ("extra", _P),
    ("padding", ctypes.c_char * 8),
]

_folder = Path(llama_cpp.__file__).parent / "lib"
ggml = ctypes.PyDLL(loading.load_shared_library("ggml-base", _folder)._name)
"""The library of tensors; its functions are quick, so calls keep the GIL."""


def declare(library: Any, name: str, result: Any, *arguments: Any) -> Any:
    """A library's function, with the types of its result and arguments."""
    function = getattr(library, name)
    function.restype = result
    function.argtypes = arguments
    return function


tensor_name = declare(ggml, "ggml_get_name", ctypes.c_char_p, _P)
tensor_data = declare(ggml, "ggml_get_data", _P, _P)
tensor_bytes = declare(ggml, "ggml_nbytes", ctypes.c_size_t, _P)
operation_name = declare(ggml, "ggml_op_name", ctypes.c_char_p, ctypes.c_int)
copy_tensor = declare(
    ggml, "ggml_backend_tensor_get", None, _P, _P, ctypes.c_size_t, ctypes.c_size_t
)
"""Copies bytes of a tensor from wherever they are: tensor, to, offset, number of bytes."""


def read_tensor(pointer: int) -> Any:
    """The tensor at an address.

    Raises:
        EngineError: This build of the library lays tensors out otherwise.
    """
    tensor = Tensor.from_address(pointer)
    name_at = ctypes.cast(_name_address(pointer), _P).value
    if name_at != pointer + Tensor.name.offset or tensor.data != tensor_data(pointer):
        raise EngineError(
            "this build of llama.cpp lays tensors out in another way than is known here",
            hint="pip install llama-cpp-python==0.3.36",
        )
    return tensor


_name_address = declare(ctypes.PyDLL(ggml._name), "ggml_get_name", _P, _P)
