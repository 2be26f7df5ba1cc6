"""A graph through onnxruntime's own session, many sequences at once. Knows nothing of requests.

Each slot has a row of the KV arrays. What goes on with one token runs together, as a batch of rows
of different lengths; the tokens of a prompt run as a batch of one, in place. GroupQueryAttention
reads every row's length from the attention mask, and writes what is new behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qwenkit.backends.base import (
    Aborted,
    Capabilities,
    ComputeFailed,
    FloatArray,
    IntArray,
    LoadedAdapter,
    Rows,
)
from qwenkit.backends.onnx.adapter import OnnxAdapter, load_adapter
from qwenkit.backends.onnx.binding import Bindings, bind_output
from qwenkit.backends.onnx.facts import OnnxOptions, n_outputs, onnx_facts
from qwenkit.backends.onnx.graph import HIDDEN_STATES, Graph, load_session, lora_base
from qwenkit.backends.onnx.kv import DeviceKv, HostKv, Kv
from qwenkit.backends.onnx.layout import Layout
from qwenkit.backends.onnx.outputs import UNWANTED, Outputs
from qwenkit.backends.onnx.packing import Packing, Span
from qwenkit.backends.onnx.runs import Run, cut_runs, places_of
from qwenkit.backends.onnx.runtime import onnxruntime
from qwenkit.backends.onnx.stop import Stop
from qwenkit.backends.onnx.vocabulary import LoadedVocabulary
from qwenkit.errors import ModelUnsupported, OutOfMemory

_EMBEDDING_CHUNK = 64


class SessionBackend:
    """A graph and its KV rows.

    Args:
        layout: The exported model.
        content_id: Short hash of the weights.
        options: How to load it.
        home: Where its vocabulary is kept.

    Raises:
        MissingExtra: onnxruntime is not installed.
        InvalidSettings: It can't use the device.
        ModelUnsupported: A graph of another kind than is known here.
        ModelCorrupt: onnxruntime could not load it.
        OutOfMemory: The KV cache could not be allocated.
    """

    def __init__(
        self, layout: Layout, *, content_id: str, options: OnnxOptions, home: Path
    ) -> None:
        if layout.unknown:
            raise ModelUnsupported(
                f"`{layout.folder}` can't be decoded in rows: {layout.unknown}",
                hint="set ONNX_DECODER=genai",
            )
        self._session = load_session(layout, options)
        self._graph = Graph(self._session, layout)
        self._base = lora_base(layout, self._graph)
        self._new_kv = _kv_maker(self._graph, options)
        self._kv = self._new_kv(options.n_slots, options.n_ctx)
        self._vocabulary = LoadedVocabulary(layout, home=home)
        self.tokenizer = self._vocabulary.tokenizer
        self._bindings = Bindings(self._session, self._graph, self._kv)
        self._packing = Packing(
            options.n_slots, n_ctx=options.n_ctx, can_move=isinstance(self._kv, HostKv)
        )
        self._lengths = [0] * options.n_slots
        self._stop = Stop()
        self._logits = np.empty((options.n_slots, layout.n_vocab), self._graph.logits_dtype)
        on_host = isinstance(self._kv, HostKv)
        self.capabilities = Capabilities(
            n_slots=options.n_slots,
            n_resident=options.n_slots,
            n_ctx=options.n_ctx,
            n_cells=options.n_slots * options.n_ctx,
            n_batch=options.n_batch,
            n_outputs=n_outputs(options),
            shares_cells=False,
            copies=on_host,
            saves_states=on_host,
            adapters=self._base is not None,
            n_embd=layout.n_embd if self._graph.gives_hidden_states else 0,
        )
        self.facts = onnx_facts(
            layout,
            options,
            content_id=content_id,
            chat_template=self._vocabulary.chat_template,
            runtime=f"ONNX Runtime {onnxruntime().__version__} ({options.device.upper()})",
            decoder="session",
        )

    def decode(self, rows: Rows) -> FloatArray:
        """Compute rows; see `Backend.decode`."""
        places = places_of(rows)
        outputs = Outputs(int(np.count_nonzero(rows.wants_logits)), self.tokenizer.n_vocab)
        singles: list[int] = []
        with self._stop.listening():
            for run in cut_runs(rows, head_skips=self._graph.head_skips):
                if run.n == 1:
                    singles.append(run.first)
                else:
                    self._run_chunk(rows, run, places, outputs)
            if singles:
                self._run_singles(rows, singles, places, outputs)
        return outputs.result()

    def abort(self) -> None:
        """End the decode that is running now."""
        self._stop.ask()

    def length(self, slot: int) -> int:
        """Tokens a slot holds."""
        return self._lengths[slot]

    def trim(self, slot: int, length: int) -> None:
        """Keep only the first `length` tokens of a slot."""
        self._lengths[slot] = min(self._lengths[slot], length)

    def copy(self, source: int, target: int, length: int) -> None:
        """Make the empty slot `target` hold the first `length` tokens of `source`."""
        self._host_kv().copy(self._packing.row_of(source), self._packing.row_of(target), length)
        self._lengths[target] = length

    def save_state(self, slot: int) -> bytes:
        """The state of a slot."""
        return self._host_kv().save(self._packing.row_of(slot), self._lengths[slot])

    def load_state(self, slot: int, state: bytes) -> bool:
        """Make an empty slot hold a saved state."""
        self._lengths[slot] = self._host_kv().load(self._packing.row_of(slot), state)
        return True

    def load_adapter(self, path: Path) -> OnnxAdapter:
        """Load an `.onnx_adapter`; see `Backend.load_adapter`."""
        return load_adapter(path, self._base)

    def unload_adapter(self, adapter: LoadedAdapter) -> None:
        """Free an adapter."""
        self._bindings.forget(adapter)

    def embed(self, tokens: IntArray) -> Generator[None, None, FloatArray]:
        """The mean of a text's hidden states; see `Backend.embed`."""
        try:
            kv = self._new_kv(1, len(tokens))
        except OutOfMemory as exc:
            raise ComputeFailed(exc.message) from exc
        binding = self._bindings.over(kv, Span(0, 1))
        total = np.zeros(self.capabilities.n_embd, np.float32)
        for start in range(0, len(tokens), _EMBEDDING_CHUNK):
            if start:
                yield
            chunk = tokens[None, start : start + _EMBEDDING_CHUNK]
            states = np.empty((chunk.shape[1], len(total)), self._graph.hidden_dtype)
            bind_output(binding, HIDDEN_STATES, states[None])
            with self._stop.listening():
                self._run(binding, chunk, [start], n_quiet=chunk.shape[1])
            total += states.sum(axis=0, dtype=np.float32)
        return total / np.float32(len(tokens))

    def close(self) -> None:
        """Free the session, the cache and the vocabulary."""
        self._vocabulary.close()
        del self._bindings, self._session, self._kv, self._logits

    def _run_chunk(self, rows: Rows, run: Run, places: Sequence[int], outputs: Outputs) -> None:
        """Several tokens of one slot, in its row."""
        slot = int(rows.slots[run.first])
        here = slice(run.first, run.last)
        span = Span(self._packing.row_of(slot), 1)
        binding = self._bindings.get(span, rows.adapter, logits=run.n_logits > 0)
        block = np.empty((run.n_logits, self._logits.shape[1]), self._logits.dtype)
        if run.n_logits:
            bind_output(binding, self._graph.logits, block[None])
        tokens = rows.tokens[None, here]
        self._run(binding, tokens, [self._lengths[slot]], n_quiet=run.n_quiet)
        self._lengths[slot] += run.n
        outputs.add(block, places[here][run.n_quiet :])

    def _run_singles(
        self, rows: Rows, singles: Sequence[int], places: Sequence[int], outputs: Outputs
    ) -> None:
        """One token each of several slots, together."""
        at = {int(rows.slots[index]): index for index in singles}
        swaps, spans = self._packing.plan(list(at), self._lengths)
        for swap in swaps:
            slots = self._packing.slot_at(swap.a), self._packing.slot_at(swap.b)
            # The packing has them in their new places already.
            self._host_kv().swap(swap.a, swap.b, self._lengths[slots[1]], self._lengths[slots[0]])
        for span in spans:
            self._run_span(rows, span, at, places, outputs)

    def _run_span(
        self,
        rows: Rows,
        span: Span,
        at: dict[int, int],
        places: Sequence[int],
        outputs: Outputs,
    ) -> None:
        slots = [self._packing.slot_at(row) for row in span.rows]
        tokens = [[rows.tokens[at[slot]]] if slot in at else [0] for slot in slots]
        wanted = [places[at[slot]] if slot in at else UNWANTED for slot in slots]
        logits = any(place != UNWANTED for place in wanted)
        binding = self._bindings.get(span, rows.adapter, logits=logits)
        block = self._logits[span.first : span.first + span.n]
        if logits:
            bind_output(binding, self._graph.logits, block[:, None])
        lengths = [self._lengths[slot] for slot in slots]
        self._run(binding, np.array(tokens), lengths)
        for slot in slots:
            self._lengths[slot] += slot in at
        if logits:
            outputs.add(block, wanted)

    def _run(
        self,
        binding: Any,
        tokens: npt.NDArray[Any],
        lengths: Sequence[int],
        *,
        n_quiet: int = 0,
    ) -> None:
        """Compute `tokens` [rows, n] behind what rows hold; no logits of the first `n_quiet`."""
        self._graph.bind_inputs(binding, tokens, np.array(lengths), n_quiet=n_quiet)
        options = self._stop.options()
        try:
            self._session.run_with_iobinding(binding, options)
        except RuntimeError as exc:
            if self._stop.asked:
                raise Aborted from exc
            raise ComputeFailed(f"onnxruntime failed: {exc}") from exc

    def _host_kv(self) -> HostKv:
        if not isinstance(self._kv, HostKv):
            raise TypeError("rows on a GPU can't be copied")
        return self._kv


def _kv_maker(graph: Graph, options: OnnxOptions) -> Callable[[int, int], Kv]:
    if options.device == "cpu":
        return lambda n_rows, n_cells: HostKv(graph.kv, n_rows, n_cells)
    return lambda n_rows, n_cells: DeviceKv(graph.kv, n_rows, n_cells, device=options.device)
