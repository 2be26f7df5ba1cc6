"""Vectors of texts from the hidden states of a loaded model, in a context of its own.

llama.cpp gives hidden states only from a context made for it, and then for every row; so texts are
embedded beside the main context, a chunk at a time, and pooled here. The context is made when it is
first needed and grows with the longest text; its KV cache is memory that is not in `n_ctx`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Generator
from typing import Any

import llama_cpp.llama_cpp as native
import numpy as np

from qwenkit.backends.base import ComputeFailed, FloatArray, IntArray
from qwenkit.backends.llamacpp import capi
from qwenkit.backends.llamacpp.context import LlamaOptions, new_context, shared_params
from qwenkit.errors import OutOfMemory

# Each row also has its logits computed and kept, a vocabulary wide, so chunks are short.
_CHUNK = 64
_MIN_CTX = 512


class Embedder:
    """Embeds one text after the other. Used on the backend's thread.

    Args:
        model: A `llama_model` pointer; `close` before it is freed.
        options: How the model was loaded.
    """

    def __init__(self, model: Any, options: LlamaOptions) -> None:
        self.n_embd: int = native.llama_model_n_embd(model)
        self._model = model
        self._vocab = native.llama_model_get_vocab(model)
        self._options = options
        self._context: Any = None
        self._n_ctx = 0
        architecture = capi.read_metadata(model, "general.architecture")
        kind = capi.read_metadata(model, f"{architecture}.pooling_type")
        self._pools_last = kind == str(native.LLAMA_POOLING_TYPE_LAST)

    def embed(self, tokens: IntArray) -> Generator[None, None, FloatArray]:
        """A text's vector `[n_embd]`, by the pooling that the model names, else the mean.

        Raises:
            ComputeFailed: The runtime failed, or has no memory for the text.
        """
        tokens = self._with_end(tokens)
        self._require_context(len(tokens))
        memory = native.llama_get_memory(self._context)
        capi.memory_seq_rm(memory, 0, 0, -1)
        total = np.zeros(self.n_embd, np.float32)
        last = total
        for start in range(0, len(tokens), _CHUNK):
            if start:
                yield
            states = self._compute(tokens[start : start + _CHUNK])
            total += states.sum(axis=0)
            last = states[-1].copy()
        return last if self._pools_last else total / np.float32(len(tokens))

    def close(self) -> None:
        """Free the context."""
        if self._context is not None:
            native.llama_free(self._context)
            self._context = None

    def _with_end(self, tokens: IntArray) -> IntArray:
        """Models made for embedding end every text with a token of their own."""
        end = native.llama_vocab_eos(self._vocab)
        if not native.llama_vocab_get_add_eos(self._vocab) or tokens[-1] == end:
            return tokens
        return np.append(tokens, np.int32(end))

    def _require_context(self, n_tokens: int) -> None:
        if n_tokens <= self._n_ctx and self._context is not None:
            return
        self.close()
        self._n_ctx = max(_MIN_CTX, 1 << (n_tokens - 1).bit_length())
        params = shared_params(self._options)
        params.n_ctx = self._n_ctx
        params.n_batch = params.n_ubatch = params.n_outputs_max = _CHUNK
        params.embeddings = True
        params.pooling_type = native.LLAMA_POOLING_TYPE_NONE
        try:
            self._context = new_context(self._model, params)
        except OutOfMemory as exc:
            raise ComputeFailed(exc.message) from exc

    def _compute(self, tokens: IntArray) -> FloatArray:
        batch = native.llama_batch_get_one(capi.pointer(tokens, ctypes.c_int32), len(tokens))
        code = native.llama_decode(self._context, batch)
        if code != 0:
            raise ComputeFailed(f"llama_decode returned {code}: {capi.log.errors()}")
        address = ctypes.addressof(native.llama_get_embeddings(self._context).contents)
        return capi.floats(address, (len(tokens), self.n_embd))
