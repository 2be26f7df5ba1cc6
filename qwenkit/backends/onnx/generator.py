"""A model through GenAI's generators, one a slot, one after the other. Knows nothing of requests.

It takes every layout that GenAI can run, on every device; sequences are not batched, and no state
can leave its generator.
"""

from __future__ import annotations

import threading
from collections.abc import Generator as Steps
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qwenkit.adapters.base import base_of_onnx
from qwenkit.backends.base import (
    Aborted,
    AdapterUse,
    Capabilities,
    ComputeFailed,
    FloatArray,
    IntArray,
    LoadedAdapter,
    Rows,
)
from qwenkit.backends.onnx.adapter import OnnxAdapter, load_adapter
from qwenkit.backends.onnx.adapter_files import AdapterFiles
from qwenkit.backends.onnx.facts import OnnxOptions, n_outputs, onnx_facts
from qwenkit.backends.onnx.genai import GenaiError, Generator, Library, Model
from qwenkit.backends.onnx.layout import Layout
from qwenkit.backends.onnx.outputs import Outputs
from qwenkit.backends.onnx.runs import slot_bounds
from qwenkit.backends.onnx.runtime import providers
from qwenkit.backends.onnx.vocabulary import LoadedVocabulary
from qwenkit.errors import ModelCorrupt

_EMBEDDING_CHUNK = 64
_HIDDEN_STATES = "hidden_states"


class GeneratorBackend:
    """A model and a generator for each slot that has been used.

    Args:
        layout: The exported model.
        content_id: Short hash of the weights.
        options: How to load it.
        home: Where its vocabulary is kept.

    Raises:
        MissingExtra: onnxruntime-genai is not installed.
        InvalidSettings: It can't use the device.
        ModelCorrupt: GenAI could not load it.
    """

    def __init__(
        self, layout: Layout, *, content_id: str, options: OnnxOptions, home: Path
    ) -> None:
        providers(options.device)
        library = Library()
        self._base = base_of_onnx(layout.folder) if layout.has_slots else None
        self._vocabulary = LoadedVocabulary(layout, home=home)
        self.tokenizer = self._vocabulary.tokenizer
        try:
            self._model = Model(
                library, layout.folder, device=options.device, n_threads=options.n_threads
            )
        except GenaiError as exc:
            self._vocabulary.close()
            raise ModelCorrupt(f"GenAI could not load {layout.folder}: {exc}") from exc
        self._adapters = AdapterFiles(self._model)
        self._slots: list[_Slot | None] = [None] * options.n_slots
        self._n_ctx = options.n_ctx
        # Without a cache in place GenAI takes many tokens at the start of a sequence only.
        self._one_by_one = bool(layout.unknown)
        self._running = _Running()
        self.capabilities = Capabilities(
            n_slots=options.n_slots,
            n_resident=options.n_slots,
            n_ctx=options.n_ctx,
            n_cells=options.n_slots * options.n_ctx,
            n_batch=options.n_batch,
            n_outputs=n_outputs(options),
            shares_cells=False,
            copies=False,
            saves_states=False,
            adapters=self._base is not None,
            n_embd=layout.n_embd if layout.gives_hidden_states else 0,
        )
        self.facts = onnx_facts(
            layout,
            options,
            content_id=content_id,
            chat_template=self._vocabulary.chat_template,
            runtime=f"ONNX Runtime GenAI {library.version} ({options.device.upper()})",
            decoder="genai",
        )

    def decode(self, rows: Rows) -> FloatArray:
        """Compute rows; see `Backend.decode`."""
        outputs = Outputs(int(np.count_nonzero(rows.wants_logits)), self.tokenizer.n_vocab)
        n_before = 0
        with self._running.one_decode():
            for first, last in slot_bounds(rows):
                wanted = np.flatnonzero(rows.wants_logits[first:last])
                logits = self._advance(
                    int(rows.slots[first]), rows.tokens[first:last], rows.adapter, wanted
                )
                outputs.add(logits, range(n_before, n_before + len(wanted)))
                n_before += len(wanted)
        return outputs.result()

    def abort(self) -> None:
        """End the decode that is running now."""
        self._running.abort()

    def length(self, slot: int) -> int:
        """Tokens a slot holds."""
        held = self._slots[slot]
        return held.length if held is not None else 0

    def trim(self, slot: int, length: int) -> None:
        """Keep only the first `length` tokens of a slot."""
        held = self._slots[slot]
        if held is not None and length < held.length:
            # An empty one is kept for the next sequence: its cache's memory takes long to get.
            held.generator.rewind(length)
            held.length = length

    def copy(self, source: int, target: int, length: int) -> None:
        """Not possible: see `Capabilities.copies`."""
        raise NotImplementedError("a generator's state can't be copied")

    def save_state(self, slot: int) -> bytes:
        """Not possible: see `Capabilities.saves_states`."""
        raise NotImplementedError("a generator's state can't be saved")

    def load_state(self, slot: int, state: bytes) -> bool:
        """Not possible: see `Capabilities.saves_states`."""
        raise NotImplementedError("a generator's state can't be loaded")

    def load_adapter(self, path: Path) -> OnnxAdapter:
        """Load an `.onnx_adapter`; see `Backend.load_adapter`."""
        adapter = load_adapter(path, self._base)
        try:
            self._adapters.add(adapter, path)
        except GenaiError as exc:
            raise ModelCorrupt(f"GenAI could not load the adapter {path}: {exc}") from exc
        return adapter

    def unload_adapter(self, adapter: LoadedAdapter) -> None:
        """Free an adapter."""
        for slot, held in enumerate(self._slots):
            if held is not None and held.use is not None and held.use.adapter is adapter:
                self._free(slot)
        self._adapters.remove(adapter)

    def embed(self, tokens: IntArray) -> Steps[None, None, FloatArray]:
        """The mean of a text's hidden states; see `Backend.embed`."""
        total = np.zeros(self.capabilities.n_embd, np.float32)
        try:
            generator = Generator(self._model, max_length=len(tokens))
        except GenaiError as exc:
            raise ComputeFailed(f"GenAI has no memory for {len(tokens)} tokens: {exc}") from exc
        chunk = len(tokens) if self._one_by_one else _EMBEDDING_CHUNK
        try:
            for start in range(0, len(tokens), chunk):
                if start:
                    yield
                with self._running.one_decode():
                    self._append(generator, tokens[start : start + chunk])
                total += generator.output(_HIDDEN_STATES).sum(axis=0, dtype=np.float32)
        finally:
            generator.close()
        return total / np.float32(len(tokens))

    def close(self) -> None:
        """Free the generators, the adapters, the model and the vocabulary."""
        self._vocabulary.close()
        for slot in range(len(self._slots)):
            self._free(slot)
        self._adapters.close()
        self._model.close()

    def _advance(
        self,
        slot: int,
        tokens: IntArray,
        use: AdapterUse | None,
        wanted: npt.NDArray[np.intp],
    ) -> npt.NDArray[Any]:
        """Append tokens to a slot; returns the wanted rows of logits."""
        held = self._slots[slot]
        if held is None or (held.length == 0 and held.use != use):
            held = self._begin(slot, use)
        step = 1 if self._one_by_one and held.length else len(tokens)
        kept = [np.empty((0, self.tokenizer.n_vocab), np.float32)]
        for start in range(0, len(tokens), step):
            part = tokens[start : start + step]
            try:
                self._append(held.generator, part)
            except (Aborted, ComputeFailed):
                self._free(slot)  # nothing is known of what it holds
                raise
            held.length += len(part)
            here = wanted[(wanted >= start) & (wanted < start + len(part))] - start
            if here.tolist() == [len(part) - 1]:
                kept.append(held.generator.last_logits())
            elif len(here):
                kept.append(held.generator.output("logits")[here])
        return kept[-1] if len(kept) <= 2 else np.concatenate(kept)

    def _append(self, generator: Generator, tokens: IntArray) -> None:
        try:
            self._running.append(generator, tokens)
        except GenaiError as exc:
            if self._running.aborted:
                raise Aborted from exc
            raise ComputeFailed(f"GenAI failed: {exc}") from exc

    def _begin(self, slot: int, use: AdapterUse | None) -> _Slot:
        self._free(slot)
        try:
            generator = Generator(self._model, max_length=self._n_ctx)
        except GenaiError as exc:
            raise ComputeFailed(f"GenAI made no generator: {exc}") from exc
        try:
            if use is not None:
                generator.use(self._adapters.loaded, self._adapters.name_of(use, self._uses()))
        except GenaiError as exc:
            generator.close()
            raise ComputeFailed(f"GenAI could not use an adapter: {exc}") from exc
        held = self._slots[slot] = _Slot(generator, use)
        return held

    def _uses(self) -> set[AdapterUse]:
        return {held.use for held in self._slots if held is not None and held.use is not None}

    def _free(self, slot: int) -> None:
        held = self._slots[slot]
        if held is not None:
            held.generator.close()
            self._slots[slot] = None


class _Slot:
    """What a slot holds.

    Args:
        generator: Its sequence.
        use: The adapter it is computed with.
    """

    def __init__(self, generator: Generator, use: AdapterUse | None) -> None:
        self.generator = generator
        self.use = use
        self.length = 0


class _Running:
    """The generator that computes right now, so that it can be ended from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._generator: Generator | None = None
        self._listening = False
        self.aborted = False

    @contextmanager
    def one_decode(self) -> Iterator[None]:
        """Hear `abort` during the block."""
        with self._lock:
            self._listening, self.aborted = True, False
        try:
            yield
        finally:
            with self._lock:
                self._listening = False

    def append(self, generator: Generator, tokens: IntArray) -> None:
        """Append tokens; ends at once when the block is aborted.

        Raises:
            GenaiError: It failed, or was aborted.
        """
        with self._lock:
            if self.aborted:
                raise GenaiError("aborted")
            self._generator = generator
        try:
            generator.append(tokens)
        finally:
            with self._lock:
                self._generator = None
        if self.aborted:  # too late to end this call, and every later one would end at once
            raise GenaiError("aborted")

    def abort(self) -> None:
        """End the block. Callable from any thread."""
        with self._lock:
            if self._listening:
                self.aborted = True
                if self._generator is not None:
                    self._generator.terminate()
