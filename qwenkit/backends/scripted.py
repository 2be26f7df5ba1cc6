"""A backend whose answers are written down: the in-memory twin of a real one, for tests and demos.

It keeps the whole contract of `backends.base` (slots, positions, KV cells, output rows) and raises
`BrokenContract` where a real runtime would abort the process. Its vocabulary is the 256 bytes and
Qwen3's added tokens. Knows no requests; of chats only where an assistant's turn begins.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

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
from qwenkit.errors import ModelCorrupt

NextToken = Callable[[Sequence[int]], int]

_N_BYTES = 256
_N_EMBD = 16
_PREFERRED_LOGIT = 40.0
_CONTROL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_USER_DEFINED = (
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
)


class BrokenContract(Exception):
    """The caller asked for what no backend has to bear; a bug in the caller."""


class ScriptedTokenizer:
    """One token a byte, and Qwen3's added tokens in Qwen3's order behind them."""

    def __init__(self) -> None:
        self._added = {text: _N_BYTES + i for i, text in enumerate(_CONTROL + _USER_DEFINED)}
        self._texts = {token: text for text, token in self._added.items()}
        self._control = {text: self._added[text] for text in _CONTROL}
        self._any_added = _splitter(_CONTROL + _USER_DEFINED)
        self._user_defined = _splitter(_USER_DEFINED)
        self.n_vocab = _N_BYTES + len(self._added)
        self.eos_tokens = frozenset({self._added["<|im_end|>"], self._added["<|endoftext|>"]})

    @property
    def control_tokens(self) -> dict[str, int]:
        """Control tokens by their spelling."""
        return self._control

    @property
    def added_tokens(self) -> dict[str, int]:
        """Control and user-defined tokens by their spelling."""
        return self._added

    def token_id(self, text: str) -> int | None:
        """Id of the added token spelled exactly so, None if there is none."""
        return self._added.get(text)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of `text`; control tokens are recognised in it only when `special`."""
        tokens: list[int] = []
        for part in (self._any_added if special else self._user_defined).split(text):
            known = self._added.get(part) if special or part not in self._control else None
            tokens.extend(part.encode("utf-8") if known is None else (known,))
        return tokens

    def piece(self, token: int, *, special: bool = True) -> bytes:
        """The bytes that a token stands for; a control token has none unless `special`."""
        if 0 <= token < _N_BYTES:
            return bytes((token,))
        text = self._texts.get(token, "")
        return b"" if text in self._control and not special else text.encode()

    def native_vocab(self) -> AbstractContextManager[None]:
        """None: llama.cpp knows nothing of it."""
        return nullcontext()


def _splitter(tokens: Sequence[str]) -> re.Pattern[str]:
    return re.compile("(" + "|".join(map(re.escape, tokens)) + ")")


class Script:
    """Says which token comes next, from answers by what was asked.

    The answer is the one whose key stands last before the last assistant header; in a prompt
    without one, the last key of all, and the answer goes on behind it. The key `""` answers
    whatever no other key does. Behind a closed thinking block the answer's own block is skipped.

    Args:
        answers: Answer by a piece of the prompt; added tokens are recognised in both.
        tokenizer: Spells them.
    """

    def __init__(self, answers: Mapping[str, str], tokenizer: ScriptedTokenizer) -> None:
        def spell(text: str) -> str:
            return _as_text(tokenizer.encode(text, special=True))

        self._answers = {spell(key): spell(answer) for key, answer in answers.items()}
        self._header = spell("<|im_start|>assistant\n")
        self._close = spell("</think>")
        self._eos = ord(spell("<|im_end|>"))

    def __call__(self, tokens: Sequence[int]) -> int:
        """The token that follows `tokens`; end of text where the script has nothing to say."""
        prompt = _as_text(tokens)
        asked, header, said = prompt.rpartition(self._header)
        if not header:
            asked, said = said, ""
        place, key = max(
            ((asked.rfind(key) if key else -1, key) for key in self._answers), default=(-1, "")
        )
        if place < 0:
            key = ""
        if not header and key:
            said = asked[place + len(key) :]
        return self._next(said, self._answers.get(key, ""))

    def _next(self, said: str, answer: str) -> int:
        if self._close in said:
            said = said.rpartition(self._close)[2]
            answer = answer.rpartition(self._close)[2]
        if not answer.startswith(said):
            said, answer = said.lstrip("\n"), answer.lstrip("\n")
        goes_on = answer.startswith(said) and len(said) < len(answer)
        return ord(answer[len(said)]) if goes_on else self._eos


class ScriptedAdapter(LoadedAdapter):
    """Other answers than the backend's own.

    Args:
        next_token: Says them.
    """

    def __init__(self, next_token: NextToken) -> None:
        self.next_token = next_token


def _as_text(tokens: Sequence[int]) -> str:
    # One character a token, so that searching tokens is searching a string.
    return "".join(map(chr, tokens))


class ScriptedBackend:
    """A backend that wants the scripted token far more than any other.

    Args:
        answers: Answers by a piece of the prompt (see `Script`), or a function from the tokens so
            far to the next one.
        n_slots: Sequences that can be decoded together.
        n_resident: Sequences whose state can be held; twice `n_slots` when None.
        n_ctx: Tokens one sequence can hold.
        n_cells: Tokens all sequences can hold together; `n_ctx` for each slot when None.
        n_batch: Most rows in one decode.
        n_outputs: Most rows with logits in one decode; `n_batch` when None.
        shares_cells: Whether copies share cells.
        copies: Whether states can be copied from slot to slot.
        saves_states: Whether states can be saved and loaded.
        chat_template: What the model says its template is.
    """

    def __init__(
        self,
        answers: Mapping[str, str] | NextToken,
        *,
        n_slots: int = 4,
        n_resident: int | None = None,
        n_ctx: int = 4096,
        n_cells: int | None = None,
        n_batch: int = 256,
        n_outputs: int | None = None,
        shares_cells: bool = True,
        copies: bool = True,
        saves_states: bool = False,
        chat_template: str | None = None,
    ) -> None:
        self.tokenizer = ScriptedTokenizer()
        self.capabilities = Capabilities(
            n_slots=n_slots,
            n_resident=n_slots * 2 if n_resident is None else n_resident,
            n_ctx=n_ctx,
            n_cells=n_slots * n_ctx if n_cells is None else n_cells,
            n_batch=n_batch,
            n_outputs=n_batch if n_outputs is None else n_outputs,
            shares_cells=shares_cells,
            copies=copies,
            saves_states=saves_states,
            adapters=True,
            n_embd=_N_EMBD,
        )
        self.facts = _facts(n_ctx, chat_template)
        self.decodes: list[Rows] = []
        self.failing_tokens: set[int] = set()
        self.adapters: set[LoadedAdapter] = set()
        self.closed = False
        self._next_token = answers if callable(answers) else Script(answers, self.tokenizer)
        self._pool = _CellPool(self.capabilities)
        self._saved_with: list[AdapterUse | None] = []
        self._gate = _Gate()
        self._logits = _preferences(n_outputs or n_batch, self.tokenizer.n_vocab)

    def decode(self, rows: Rows) -> FloatArray:
        """Compute rows and extend their slots.

        Raises:
            NoRoom: No cells free; nothing was computed.
            Aborted: `abort` was called while the decode was held; nothing was computed.
            ComputeFailed: A row's token is one of `failing_tokens`; nothing was computed.
            BrokenContract: The rows are none that a backend has to take.
        """
        self.decodes.append(_copied(rows))
        self._check(rows)
        self._gate.pass_through()
        if self.failing_tokens.intersection(rows.tokens.tolist()):
            raise ComputeFailed
        self._pool.reserve(len(rows.tokens))
        return self._compute(rows)

    def _compute(self, rows: Rows) -> FloatArray:
        n_wanted = 0
        self._logits[:] = self._logits[-1]
        next_token = self._next_token
        if rows.adapter is not None and isinstance(rows.adapter.adapter, ScriptedAdapter):
            next_token = rows.adapter.adapter.next_token
        columns = (rows.tokens.tolist(), rows.slots.tolist(), rows.wants_logits.tolist())
        for token, slot, wanted in zip(*columns, strict=True):
            self._pool.append(slot, token)
            self._pool.computed_with[slot] = rows.adapter
            if wanted:
                self._logits[n_wanted, next_token(self._pool.tokens(slot))] = _PREFERRED_LOGIT
                n_wanted += 1
        return self._logits[:n_wanted]

    def _check(self, rows: Rows) -> None:
        limits = self.capabilities
        n_rows = len(rows.tokens)
        _require(not self.closed, "decode after close")
        _require(1 <= n_rows <= limits.n_batch, f"{n_rows} rows in one decode")
        lengths = {len(rows.positions), len(rows.slots), len(rows.wants_logits)}
        _require(lengths == {n_rows}, "arrays of different lengths")
        _require(int(rows.wants_logits.sum()) <= limits.n_outputs, "too many rows want logits")
        _require(bool((rows.slots < limits.n_slots).all()), "a slot that can't be decoded")
        _require(bool((rows.slots >= 0).all()), "a negative slot")
        _require(bool((rows.tokens < self.tokenizer.n_vocab).all()), "a token past the vocabulary")
        _require(bool((rows.tokens >= 0).all()), "a negative token")
        loaded = rows.adapter is None or rows.adapter.adapter in self.adapters
        _require(loaded, "an adapter that is not loaded")
        for slot in set(rows.slots.tolist()):
            same = not self.length(slot) or self._pool.computed_with[slot] == rows.adapter
            _require(same, f"slot {slot} holds what another adapter computed")
        n_runs = 1 + int((np.diff(rows.slots) != 0).sum())
        _require(n_runs == len(set(rows.slots.tolist())), "rows of a slot that are not adjacent")
        grown = Counter[int]()
        for slot, position in zip(rows.slots.tolist(), rows.positions.tolist(), strict=True):
            expected = self.length(slot) + grown[slot]
            _require(position == expected, f"position {position} in slot {slot}, not {expected}")
            _require(position < limits.n_ctx, "a position past the context")
            grown[slot] += 1

    def hold(self) -> None:
        """Make decodes wait until `release`."""
        self._gate.close()

    def release(self) -> None:
        """Let held decodes go on."""
        self._gate.open()

    def wait_until_held(self, timeout_s: float = 10.0) -> bool:
        """Wait for a decode to be held; False when none was in time."""
        return self._gate.wait_for_a_visitor(timeout_s)

    def abort(self) -> None:
        """End the decode that is held now, if one is."""
        self._gate.turn_away()

    def length(self, slot: int) -> int:
        """Tokens a slot holds."""
        return len(self.tokens(slot))

    def tokens(self, slot: int) -> list[int]:
        """The tokens a slot holds."""
        self._check_resident(slot)
        return self._pool.tokens(slot)

    @property
    def n_cells_used(self) -> int:
        """KV cells in use, shared ones counted once."""
        return self._pool.n_used

    def trim(self, slot: int, length: int) -> None:
        """Keep only the first `length` tokens of a slot; 0 frees it."""
        _require(0 <= length <= self.length(slot), f"trim of slot {slot} to {length}")
        self._pool.trim(slot, length)

    def copy(self, source: int, target: int, length: int) -> None:
        """Make an empty slot `target` hold the first `length` tokens of `source`.

        Raises:
            NoRoom: Copies take new cells here and too few are free.
        """
        _require(self.capabilities.copies, "a copy")
        _require(self.length(target) == 0, f"copy into slot {target}, which is not empty")
        _require(0 < length <= self.length(source), f"copy of {length} tokens of slot {source}")
        self._pool.copy(source, target, length)

    def save_state(self, slot: int) -> bytes:
        """The tokens of a decodable slot, behind a number for what they were computed with."""
        _require(slot < self.capabilities.n_slots, f"save of slot {slot}")
        self._saved_with.append(self._pool.computed_with[slot])
        return np.array([len(self._saved_with) - 1, *self.tokens(slot)], np.int32).tobytes()

    def load_state(self, slot: int, state: bytes) -> bool:
        """Make an empty decodable slot hold saved tokens; False where too few cells are free."""
        _require(slot < self.capabilities.n_slots, f"load into slot {slot}")
        _require(self.length(slot) == 0, f"load into slot {slot}, which is not empty")
        number, *tokens = np.frombuffer(state, np.int32).tolist()
        self._pool.computed_with[slot] = self._saved_with[number]
        return self._pool.load(slot, tokens)

    def load_adapter(self, path: Path) -> ScriptedAdapter:
        """Load answers from a file of JSON: an object as `Script` takes it.

        Raises:
            ModelCorrupt: It is no such file.
        """
        try:
            answers = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise ModelCorrupt(f"`{path}` holds no scripted answers: {exc}") from exc
        adapter = ScriptedAdapter(Script(answers, self.tokenizer))
        self.adapters.add(adapter)
        return adapter

    def unload_adapter(self, adapter: LoadedAdapter) -> None:
        """Forget it."""
        _require(adapter in self.adapters, "unload of an adapter that is not loaded")
        self.adapters.remove(adapter)

    def embed(self, tokens: IntArray) -> Generator[None, None, FloatArray]:
        """How often each token comes, by its id's remainder."""
        _require(0 < len(tokens) <= self.capabilities.n_ctx, f"embedding of {len(tokens)} tokens")
        for start in range(0, len(tokens), self.capabilities.n_batch):
            if start:
                yield
            self._gate.pass_through()
        if self.failing_tokens.intersection(tokens.tolist()):
            raise ComputeFailed
        return np.bincount(tokens % _N_EMBD, minlength=_N_EMBD).astype(np.float32)

    def _check_resident(self, slot: int) -> None:
        _require(0 <= slot < self.capabilities.n_resident, f"there is no slot {slot}")

    def close(self) -> None:
        """Free the model and its memory."""
        self.closed = True


class _CellPool:
    """What every slot holds, and how many sequences hold each cell."""

    def __init__(self, limits: Capabilities) -> None:
        self._limits = limits
        self.computed_with: list[AdapterUse | None] = [None] * limits.n_resident
        self._tokens: list[list[int]] = [[] for _ in range(limits.n_resident)]
        self._cells: list[list[int]] = [[] for _ in range(limits.n_resident)]
        self._holders = Counter[int]()
        self._n_made = 0

    @property
    def n_used(self) -> int:
        return len(self._holders)

    def tokens(self, slot: int) -> list[int]:
        return self._tokens[slot]

    def reserve(self, n_cells: int) -> None:
        if self.n_used + n_cells > self._limits.n_cells:
            raise NoRoom

    def load(self, slot: int, tokens: list[int]) -> bool:
        if self.n_used + len(tokens) > self._limits.n_cells:
            return False
        for token in tokens:
            self.append(slot, token)
        return True

    def append(self, slot: int, token: int) -> None:
        self._n_made += 1
        self._tokens[slot].append(token)
        self._hold(slot, self._n_made)

    def _hold(self, slot: int, cell: int) -> None:
        self._cells[slot].append(cell)
        self._holders[cell] += 1

    def trim(self, slot: int, length: int) -> None:
        for cell in self._cells[slot][length:]:
            self._holders[cell] -= 1
            if not self._holders[cell]:
                del self._holders[cell]
        del self._cells[slot][length:]
        del self._tokens[slot][length:]

    def copy(self, source: int, target: int, length: int) -> None:
        self.computed_with[target] = self.computed_with[source]
        if not self._limits.shares_cells:
            self.reserve(length)
            for token in self._tokens[source][:length]:
                self.append(target, token)
            return
        self._tokens[target] = self._tokens[source][:length]
        for cell in self._cells[source][:length]:
            self._hold(target, cell)


class _Gate:
    """A door that decodes go through, and that a test can close."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_open = True
        self._is_waiting = False
        self._turned_away = False

    def open(self) -> None:
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._is_open = False

    def pass_through(self) -> None:
        with self._changed:
            self._is_waiting = not self._is_open
            self._turned_away = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_open or self._turned_away)
            self._is_waiting = False
            if self._turned_away:
                raise Aborted

    def turn_away(self) -> None:
        with self._changed:
            self._turned_away = self._is_waiting
            self._changed.notify_all()

    def wait_for_a_visitor(self, timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._is_waiting, timeout_s)


def _require(condition: bool, broken: str) -> None:
    if not condition:
        raise BrokenContract(broken)


def _copied(rows: Rows) -> Rows:
    return Rows(
        rows.tokens.copy(),
        rows.positions.copy(),
        rows.slots.copy(),
        rows.wants_logits.copy(),
        rows.adapter,
    )


def _preferences(n_outputs: int, n_vocab: int) -> FloatArray:
    # Beyond the scripted token, lower ids are a little likelier: no ties, no chance.
    falling = -np.arange(n_vocab, dtype=np.float32) / n_vocab
    return np.tile(falling, (n_outputs + 1, 1))


def _facts(n_ctx: int, chat_template: str | None) -> ModelFacts:
    return ModelFacts(
        architecture="scripted",
        description="scripted answers",
        n_params=0,
        size_bytes=0,
        n_ctx_train=n_ctx,
        chat_template=chat_template,
        runtime="scripted",
        fingerprint="scripted",
    )
