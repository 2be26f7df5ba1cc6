"""A GGUF in llama.cpp, decoded row by row. Knows the C API; nothing of requests.

One pool of KV cells serves all sequences (`kv_unified`), so a copied prefix costs no memory.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import llama_cpp
import llama_cpp.llama_cpp as native
import numpy as np

from qwenkit.backends.base import (
    Aborted,
    AdapterUse,
    Capabilities,
    ComputeFailed,
    FloatArray,
    IntArray,
    LoadedAdapter,
    ModelFacts,
    NoRoom,
    Rows,
)
from qwenkit.backends.llamacpp import capi
from qwenkit.backends.llamacpp.batch import Batch
from qwenkit.backends.llamacpp.context import (
    LlamaOptions,
    load_model,
    new_context,
    shared_params,
)
from qwenkit.backends.llamacpp.embedder import Embedder
from qwenkit.backends.llamacpp.tokenizer import LlamaTokenizer
from qwenkit.errors import ModelCorrupt, ModelUnsupported

# Rows with logits beyond one a slot, for prompts whose log-probabilities are asked for.
_EXTRA_OUTPUTS = 16
_MAX_UBATCH = 512


class LlamaBackend:
    """A model and its one context.

    Args:
        path: The GGUF; for a split model its first part.
        content_id: Short hash of the weights.
        options: How to load it.
        on_progress: Called with the share of the weights read, 0 to 1.

    Raises:
        ModelCorrupt: llama.cpp could not read the file.
        ModelUnsupported: A model that does not decode text token by token.
        OutOfMemory: The KV cache could not be allocated.
    """

    def __init__(
        self,
        path: Path,
        *,
        content_id: str,
        options: LlamaOptions,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        capi.initialise()
        self._model = load_model(path, options, on_progress)
        try:
            _refuse_other_kinds(self._model, path)
            self._context = _main_context(self._model, options)
        except BaseException:
            native.llama_model_free(self._model)
            raise
        self._memory = native.llama_get_memory(self._context)
        self._batch = Batch(options.n_batch)
        self._abort = _AbortFlag(self._context)
        self.tokenizer = LlamaTokenizer(self._model)
        self._adapter: AdapterUse | None = None
        self._embedder = Embedder(self._model, options)
        n_cells = native.llama_n_ctx(self._context)
        self.capabilities = Capabilities(
            n_slots=options.n_slots,
            # Sequence ids past n_seq_max can hold a copied state, but llama.cpp writes no state
            # of theirs that it could read again: what is not in a slot is saved instead.
            n_resident=options.n_slots,
            n_ctx=n_cells,
            n_cells=n_cells,
            n_batch=options.n_batch,
            n_outputs=_n_outputs(options),
            shares_cells=True,
            saves_states=True,
            adapters=True,
            n_embd=self._embedder.n_embd,
        )
        self.facts = _facts(self._model, content_id, options)

    def decode(self, rows: Rows) -> FloatArray:
        """Compute rows; see `Backend.decode`."""
        self._abort.clear()
        self._use_adapter(rows.adapter)
        code = native.llama_decode(self._context, self._batch.fill(rows))
        if code == 1:
            raise NoRoom
        if code == 2:
            raise Aborted
        if code != 0:
            raise ComputeFailed(f"llama_decode returned {code}: {capi.log.errors()}")
        n_wanted = int(np.count_nonzero(rows.wants_logits))
        if n_wanted == 0:
            return np.empty((0, self.tokenizer.n_vocab), np.float32)
        native.llama_synchronize(self._context)
        address = capi.get_logits(self._context)
        return capi.floats(address, (n_wanted, self.tokenizer.n_vocab))

    def abort(self) -> None:
        """End the decode that is running now (CPU only)."""
        self._abort.set()

    def length(self, slot: int) -> int:
        """Tokens a slot holds."""
        return int(capi.memory_seq_pos_max(self._memory, slot)) + 1

    def trim(self, slot: int, length: int) -> None:
        """Keep only the first `length` tokens of a slot."""
        capi.memory_seq_rm(self._memory, slot, length, -1)

    def copy(self, source: int, target: int, length: int) -> None:
        """Make the empty slot `target` share the first `length` tokens of `source`."""
        capi.memory_seq_cp(self._memory, source, target, 0, length)

    def save_state(self, slot: int) -> bytes:
        """The state of a slot."""
        size = native.llama_state_seq_get_size(self._context, slot)
        buffer = np.empty(size, np.uint8)
        pointer = capi.pointer(buffer, ctypes.c_uint8)
        written = native.llama_state_seq_get_data(self._context, pointer, size, slot)
        return buffer[:written].tobytes()

    def load_state(self, slot: int, state: bytes) -> bool:
        """Make an empty slot hold a saved state; False where it has no room."""
        pointer = capi.pointer(np.frombuffer(state, np.uint8), ctypes.c_uint8)
        read = native.llama_state_seq_set_data(self._context, pointer, len(state), slot)
        return bool(read)

    def load_adapter(self, path: Path) -> LlamaAdapter:
        """Load a GGUF adapter; see `Backend.load_adapter`."""
        capi.log.clear()
        pointer = native.llama_adapter_lora_init(self._model, os.fsencode(path))
        if not pointer:
            raise ModelCorrupt(
                f"llama.cpp could not load the adapter {path}: "
                f"{capi.log.errors() or 'no reason given'}"
            )
        return LlamaAdapter(pointer)

    def unload_adapter(self, adapter: LoadedAdapter) -> None:
        """Free an adapter."""
        if self._adapter is not None and self._adapter.adapter is adapter:
            self._use_adapter(None)
        native.llama_adapter_lora_free(_pointer(adapter))

    def _use_adapter(self, use: AdapterUse | None) -> None:
        if use == self._adapter:
            return
        n = int(use is not None)
        adapters = (native.llama_adapter_lora_p_ctypes * n)()
        scales = (ctypes.c_float * n)()
        if use is not None:
            adapters[0], scales[0] = _pointer(use.adapter), use.scale
        native.llama_set_adapters_lora(self._context, adapters, n, scales)
        self._adapter = use

    def embed(self, tokens: IntArray) -> Generator[None, None, FloatArray]:
        """Make a vector of a text; see `Backend.embed`."""
        vector = yield from self._embedder.embed(tokens)
        return vector

    def close(self) -> None:
        """Free the contexts, the model and its adapters."""
        self.tokenizer.close()
        self._embedder.close()
        native.llama_free(self._context)
        native.llama_model_free(self._model)


class LlamaAdapter(LoadedAdapter):
    """An adapter that llama.cpp holds for a model.

    Args:
        pointer: Its `llama_adapter_lora`.
    """

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer


def _pointer(adapter: LoadedAdapter) -> int:
    if not isinstance(adapter, LlamaAdapter):
        raise TypeError("an adapter of another runtime")
    return adapter.pointer


class _AbortFlag:
    """Ends a decode from another thread.

    llama.cpp asks after every node of the graph. A Python callback would take the GIL a thousand
    times a decode; `strlen` over a two-byte buffer answers the question in C.
    """

    def __init__(self, context: Any) -> None:
        self._flag = ctypes.create_string_buffer(b"\0\0", 2)
        libc = ctypes.CDLL(None)
        native.llama_set_abort_callback(
            context,
            ctypes.cast(libc.strlen, native.ggml_abort_callback),
            ctypes.cast(self._flag, ctypes.c_void_p),
        )

    def set(self) -> None:
        self._flag[0] = b"\1"

    def clear(self) -> None:
        self._flag[0] = b"\0"


def _refuse_other_kinds(model: Any, path: Path) -> None:
    if not native.llama_model_has_decoder(model) or native.llama_model_has_encoder(model):
        raise ModelUnsupported(f"{path} is no decoder-only language model")
    if native.llama_model_is_recurrent(model) or native.llama_model_is_hybrid(model):
        raise ModelUnsupported(
            f"{path} keeps a recurrent state, which can't be cut at a prefix",
            hint="serve a dense Qwen3 model",
        )


def _main_context(model: Any, options: LlamaOptions) -> Any:
    params = shared_params(options)
    params.n_ctx = options.n_ctx
    params.n_batch = options.n_batch
    params.n_ubatch = min(options.n_batch, _MAX_UBATCH)
    params.n_seq_max = options.n_slots
    params.n_outputs_max = _n_outputs(options)
    params.kv_unified = True
    return new_context(model, params)


def _n_outputs(options: LlamaOptions) -> int:
    return min(options.n_slots + _EXTRA_OUTPUTS, options.n_batch)


def _facts(model: Any, content_id: str, options: LlamaOptions) -> ModelFacts:
    n_params = native.llama_model_n_params(model)
    architecture = capi.read_metadata(model, "general.architecture")
    template = native.llama_model_chat_template(model, None)
    depends_on = (content_id, options.kv_type, options.yarn_factor, options.yarn_original_ctx)
    return ModelFacts(
        architecture=architecture,
        description=f"{architecture} {_in_units(n_params)} {_quantisation(model)}",
        n_params=n_params,
        size_bytes=native.llama_model_size(model),
        n_ctx_train=native.llama_model_n_ctx_train(model),
        chat_template=template.decode("utf-8", "replace") if template else None,
        runtime=f"llama.cpp (llama-cpp-python {llama_cpp.__version__})",
        fingerprint=hashlib.sha256(repr(depends_on).encode()).hexdigest()[:12],
    )


def _quantisation(model: Any) -> str:
    """The number format as llama.cpp names it, the third part of its own description."""
    buffer = ctypes.create_string_buffer(256)
    native.llama_model_desc(model, buffer, 256)
    return buffer.value.decode("utf-8", "replace").split(maxsplit=2)[-1]


def _in_units(n_params: int) -> str:
    for unit, size in (("B", 10**9), ("M", 10**6)):
        if n_params >= size:
            return f"{n_params / size:.1f}{unit}"
    return str(n_params)
