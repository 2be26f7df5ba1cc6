"""A model that reads windows of a text and gives its logits, a few rows at a time.

Knows the C API; nothing of what the logits are for. A window is decoded in pieces, since a row of
logits is as wide as the vocabulary: 150,000 numbers for Qwen3, and as much again in the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import llama_cpp.llama_cpp as native
import numpy as np

from qwenkit.backends.base import FloatArray, IntArray, Rows
from qwenkit.backends.llamacpp import capi
from qwenkit.backends.llamacpp.batch import Batch
from qwenkit.backends.llamacpp.context import LlamaOptions, load_model, new_context, shared_params
from qwenkit.errors import DecodeFailed, ModelUnsupported
from qwenkit.models.gguf_check import check_gguf

N_ROWS = 128
"""Rows of one decode."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one decode.

    Args:
        start: Position in the window of the first row that has logits.
        logits: `[rows, vocab]`, valid until the next decode; none for rows before `scored_from`.
    """

    start: int
    logits: FloatArray


class Reader:
    """One model with a context for one window. Use it as a context manager.

    Args:
        path: The GGUF; for a split model its first part.
        n_ctx: Tokens of a window.
        n_threads: CPU threads.
        n_gpu_layers: Layers on the GPU; -1 is all.
        kv_type: Number format of the KV cache.
        on_node: A `ggml_backend_sched_eval_callback`, asked about every node of the graph.

    Raises:
        ModelError: Not a GGUF, damaged, or no model that predicts text.
        OutOfMemory: The context could not be allocated.
    """

    def __init__(
        self,
        path: Path,
        *,
        n_ctx: int,
        n_threads: int,
        n_gpu_layers: int = -1,
        kv_type: str = "f16",
        on_node: Any = None,
    ) -> None:
        check_gguf(path)
        capi.initialise()
        options = LlamaOptions(
            n_ctx=n_ctx,
            n_slots=1,
            n_batch=min(N_ROWS, n_ctx),
            n_threads=n_threads,
            n_gpu_layers=n_gpu_layers,
            kv_type=kv_type,
        )
        self.path = path
        self._n_batch = options.n_batch
        self._batch = Batch(options.n_batch)
        self._model = load_model(path, options)
        try:
            if not native.llama_model_has_decoder(self._model):
                raise ModelUnsupported(f"{path} is no model that predicts text")
            self._context = new_context(self._model, _params(options, on_node))
        except BaseException:
            native.llama_model_free(self._model)
            raise
        self._memory = native.llama_get_memory(self._context)
        self.n_vocab: int = native.llama_vocab_n_tokens(native.llama_model_get_vocab(self._model))

    def read(self, window: IntArray, *, scored_from: int = 0) -> Iterator[Piece]:
        """Decode a window from an empty context; logits come from position `scored_from` on.

        Raises:
            DecodeFailed: The runtime could not compute it.
        """
        native.llama_memory_clear(self._memory, True)
        for start in range(0, len(window), self._n_batch):
            tokens = window[start : start + self._n_batch]
            positions = np.arange(start, start + len(tokens), dtype=np.int32)
            yield self._decode(tokens, positions, positions >= scored_from)

    def _decode(self, tokens: IntArray, positions: IntArray, wanted: Any) -> Piece:
        rows = Rows(tokens, positions, np.zeros_like(tokens), wanted.astype(np.int8), None)
        code = native.llama_decode(self._context, self._batch.fill(rows))
        if code != 0:
            raise DecodeFailed(f"llama_decode returned {code}: {capi.log.errors()}")
        native.llama_synchronize(self._context)
        n_wanted = int(wanted.sum())
        first = int(positions[-1]) + 1 - n_wanted
        if n_wanted == 0:
            return Piece(first, np.empty((0, self.n_vocab), np.float32))
        address = capi.get_logits(self._context)
        return Piece(first, capi.floats(address, (n_wanted, self.n_vocab)))

    def close(self) -> None:
        """Free the context and the model."""
        native.llama_free(self._context)
        native.llama_model_free(self._model)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _params(options: LlamaOptions, on_node: Any) -> Any:
    params = shared_params(options)
    params.n_ctx = options.n_ctx
    params.n_batch = params.n_ubatch = params.n_outputs_max = options.n_batch
    params.n_seq_max = 1
    if on_node is not None:
        params.cb_eval = on_node
    return params
