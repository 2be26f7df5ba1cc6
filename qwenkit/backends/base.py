"""The seam between the engine and a runtime: what a backend can do, and what it is asked.

A backend holds a pool of KV cells and a number of *slots*, each the state of one token sequence.
Slots from 0 to `n_slots - 1` can be decoded; those up to `n_resident - 1` can only hold a state
that is copied from and to. One thread calls it; it needs no lock of its own.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]


class NoRoom(Exception):
    """No KV cell is free for these rows. Nothing was computed."""


class Aborted(Exception):
    """`abort` was called during the decode; some rows may be computed: ask `length`."""


class ComputeFailed(Exception):
    """The runtime could not compute these rows; some may be computed: ask `length`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a loaded backend can do.

    Args:
        n_slots: Sequences that can be decoded together.
        n_resident: Sequences whose state can be held; the ones past `n_slots` are only parked.
        n_ctx: Tokens one sequence can hold.
        n_cells: Tokens all sequences can hold together, shared ones counted once; at least `n_ctx`.
        n_batch: Most rows in one decode; at least `n_slots`.
        n_outputs: Most rows with logits in one decode; at least `n_slots`.
        shares_cells: Whether a copy shares the cells of its source instead of taking new ones.
        copies: Whether a slot's state can be copied to another slot at all.
        saves_states: Whether a slot's state can be saved and loaded.
        adapters: Whether LoRA adapters can be loaded.
        n_embd: Numbers in an embedding; 0 where texts can't be embedded.
    """

    n_slots: int
    n_resident: int
    n_ctx: int
    n_cells: int
    n_batch: int
    n_outputs: int
    shares_cells: bool
    copies: bool = True
    saves_states: bool = False
    adapters: bool = False
    n_embd: int = 0


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the loaded model says of itself.

    Args:
        architecture: As GGUF spells it (`qwen3`).
        description: One line for people (`qwen3 8B Q4_K - Medium`).
        n_params: Parameters.
        size_bytes: Size of the weights.
        n_ctx_train: Context the model was trained with.
        chat_template: Jinja source that came with the weights, if any.
        runtime: Name and version of the runtime (`llama.cpp`).
        fingerprint: Short hash of weights and settings that cached states depend on.
    """

    architecture: str
    description: str
    n_params: int
    size_bytes: int
    n_ctx_train: int
    chat_template: str | None
    runtime: str
    fingerprint: str


class Tokenizer(Protocol):
    """Text to token ids and back. Safe to call from any thread."""

    @property
    def n_vocab(self) -> int:
        """Tokens in the vocabulary."""
        ...

    @property
    def eos_tokens(self) -> frozenset[int]:
        """Tokens that end a text."""
        ...

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of `text`; control tokens are recognised in it only when `special`."""
        ...

    def piece(self, token: int, *, special: bool = True) -> bytes:
        """The bytes that a token stands for; a control token has none unless `special`."""
        ...

    def token_id(self, text: str) -> int | None:
        """Id of the added token spelled exactly so (`<think>`), None if there is none."""
        ...

    @property
    def control_tokens(self) -> dict[str, int]:
        """Control tokens by their spelling: the added tokens that no text may contain."""
        ...

    @property
    def added_tokens(self) -> dict[str, int]:
        """Control and user-defined tokens by their spelling."""
        ...

    def native_vocab(self) -> AbstractContextManager[Any]:
        """llama.cpp's pointer to the vocabulary, valid inside; None where it has none."""
        ...


class LoadedAdapter:
    """A LoRA adapter in a runtime's memory; each backend has a kind of its own."""


@dataclass(frozen=True, slots=True)
class AdapterUse:
    """An adapter at work.

    Args:
        adapter: As the backend loaded it.
        scale: Multiplies its change of the weights; 1 is the strength it was trained with.
    """

    adapter: LoadedAdapter
    scale: float


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one decode; arrays of one length.

    Args:
        tokens: Token ids.
        positions: Position of each in its sequence.
        slots: The slot each belongs to; a slot's rows are adjacent and in order.
        wants_logits: 1 where the row's logits are wanted.
        adapter: What the weights are changed by, for all rows alike; None is nothing.
    """

    tokens: IntArray
    positions: IntArray
    slots: IntArray
    wants_logits: npt.NDArray[np.int8]
    adapter: AdapterUse | None = None


class Backend(Protocol):
    """A runtime with a model loaded."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    @property
    def facts(self) -> ModelFacts:
        """What its model says of itself."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """Its model's vocabulary."""
        ...

    def decode(self, rows: Rows) -> FloatArray:
        """Compute rows and extend their slots.

        Returns:
            float32 `[n_wanted, n_vocab]` in row order: a writable view until the next decode.

        Raises:
            NoRoom: No cells free; nothing was computed.
            Aborted: `abort` was called.
            ComputeFailed: The runtime failed.
        """
        ...

    def abort(self) -> None:
        """End the decode that is running now, if one is. Callable from any thread."""
        ...

    def length(self, slot: int) -> int:
        """Tokens a slot holds."""
        ...

    def trim(self, slot: int, length: int) -> None:
        """Keep only the first `length` tokens of a slot; 0 frees it."""
        ...

    def copy(self, source: int, target: int, length: int) -> None:
        """Make an empty slot `target` hold the first `length` tokens of `source`."""
        ...

    def save_state(self, slot: int) -> bytes:
        """The state of a decodable slot, for `load_state` of this same backend."""
        ...

    def load_state(self, slot: int, state: bytes) -> bool:
        """Make an empty decodable slot hold a saved state; False where it has no room."""
        ...

    def load_adapter(self, path: Path) -> LoadedAdapter:
        """Load a LoRA adapter from a file of the runtime's own format.

        Raises:
            ModelCorrupt: The runtime can't read it, or it doesn't fit the model.
        """
        ...

    def unload_adapter(self, adapter: LoadedAdapter) -> None:
        """Free an adapter; no row is computed with it any more.

        Parked states that were computed with it may be lost: ask `length`.
        """
        ...

    def embed(self, tokens: IntArray) -> Generator[None, None, FloatArray]:
        """Make one vector `[n_embd]` of a text of at least one and at most `n_ctx` tokens.

        It is pooled over the hidden states behind the last norm, and not normalised; no slot is
        touched. Between its yields a chunk is computed, no longer than a step may be.

        Raises:
            Aborted: `abort` was called.
            ComputeFailed: The runtime failed.
        """
        ...

    def close(self) -> None:
        """Free the model and its memory."""
        ...
