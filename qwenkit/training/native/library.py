"""The C library's training functions, and the numbers of its tensors in place.

Declares what the Python binding leaves out: ggml's datasets, the optimizer's parameters, and the
last field of `llama_opt_params`. Knows no model and no data.
Source: llama.cpp, include/llama.h, ggml/include/ggml.h and ggml/include/ggml-opt.h.
"""

from __future__ import annotations

import ctypes

import llama_cpp.llama_cpp as native
import numpy as np
from numpy.typing import NDArray

from qwenkit.adapters.lora import Float32
from qwenkit.backends.llamacpp.tensors import (
    declare,
    ggml,
    read_tensor,
    tensor_bytes,
    tensor_data,
)
from qwenkit.errors import EngineError

I32 = 26  # ggml_type
OPTIMIZERS = {"adamw": 0, "sgd": 1}  # ggml_opt_optimizer_type

_P = ctypes.c_void_p
_I64 = ctypes.c_int64

ParameterFilter = ctypes.CFUNCTYPE(ctypes.c_bool, _P, _P)
NodeCallback = ctypes.CFUNCTYPE(ctypes.c_bool, _P, ctypes.c_bool, _P)


class _AdamW(ctypes.Structure):
    _fields_ = [(name, ctypes.c_float) for name in ("alpha", "beta1", "beta2", "eps", "wd")]


class _Sgd(ctypes.Structure):
    _fields_ = [("alpha", ctypes.c_float), ("wd", ctypes.c_float)]


class OptimizerParams(ctypes.Structure):
    """`ggml_opt_optimizer_params`: what a step of each optimizer takes."""

    _fields_ = [("adamw", _AdamW), ("sgd", _Sgd)]


class OptParams(ctypes.Structure):
    """`llama_opt_params`, whole."""

    _fields_ = [
        ("n_ctx_train", ctypes.c_uint32),
        ("param_filter", ParameterFilter),
        ("param_filter_ud", _P),
        ("get_opt_pars", _P),
        ("get_opt_pars_ud", _P),
        ("optimizer_type", ctypes.c_int),
    ]


dataset_init = declare(
    ggml, "ggml_opt_dataset_init", _P, ctypes.c_int, ctypes.c_int, _I64, _I64, _I64, _I64
)
dataset_free = declare(ggml, "ggml_opt_dataset_free", None, _P)
dataset_data = declare(ggml, "ggml_opt_dataset_data", _P, _P)
dataset_labels = declare(ggml, "ggml_opt_dataset_labels", _P, _P)
constant_params = ctypes.cast(ggml.ggml_opt_get_constant_optimizer_params, _P)

# The call that computes gives the GIL away; the binding's declaration has no last field.
_llama = ctypes.CDLL(native._lib._name)
opt_init = declare(_llama, "llama_opt_init", None, _P, _P, OptParams)
opt_epoch = declare(_llama, "llama_opt_epoch", None, _P, _P, _P, _P, _I64, _P, _P)


def numbers(pointer: int) -> Float32:
    """A float32 tensor's numbers, in place, rows first: `[rows, columns]`.

    Raises:
        EngineError: It holds something else, or no memory yet.
    """
    tensor = read_tensor(pointer)
    shape = tuple(int(n) for n in reversed(tensor.ne))
    n_bytes = 4 * int(np.prod(shape))
    if not tensor.data or tensor.type != 0 or tensor_bytes(pointer) != n_bytes:
        raise EngineError(f"`{tensor.name.decode()}` is no plain tensor of float32")
    floats = ctypes.cast(tensor.data, ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(floats, shape[2:] if shape[:2] == (1, 1) else shape)


def dataset_numbers(tensor: int, n: int) -> NDArray[np.int32]:
    """The ids of a dataset's only row, in place."""
    ids = ctypes.cast(tensor_data(tensor), ctypes.POINTER(ctypes.c_int32))
    return np.ctypeslib.as_array(ids, (n,))
