"""A small model that guesses what a large one of the same vocabulary will say. Knows no scheduler.

It follows the large one's slots with slots of its own: before each guess it drops what turned out
otherwise and computes what it has not seen, then draws greedily, all sequences together.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from collections.abc import Sequence as Seq

import numpy as np

from qwenkit.backends.base import (
    Aborted,
    Backend,
    ComputeFailed,
    FloatArray,
    IntArray,
    NoRoom,
    Rows,
    Tokenizer,
)
from qwenkit.engine.prefix import common_prefix
from qwenkit.engine.sequence import Sequence
from qwenkit.errors import InvalidSettings

# Below this probability of its own a guess is not worth a row of the large model.
_SURE = 0.5
# Rows of prompts that it computes in one of the large model's steps, which they make longer.
_CATCH_UP = 64
# A guess goes on from the last token, or from it and the one that was drawn in a wrong one's place.
_FEW = 2
_NO_TOKENS = np.empty(0, np.int32)


class DraftModel:
    """A `Drafter` over a backend of its own, with a slot for each of the large one's.

    What it holds of a slot is found out by its tokens, so nobody tells it what becomes of one.

    Args:
        backend: The small model; owned from here on.
        vocabulary: The large model's.

    Raises:
        InvalidSettings: The two models have different vocabularies.
    """

    is_free = False

    def __init__(self, backend: Backend, vocabulary: Tokenizer) -> None:
        _require_same(backend.tokenizer, vocabulary)
        self._backend = backend
        self._eos = vocabulary.eos_tokens
        self._held: dict[int, IntArray] = {}
        self.token_s = 0.0

    def propose(self, sequences: Seq[Sequence], n_most: int) -> Mapping[Sequence, IntArray]:
        """See `Drafter`; a sequence whose prompt is long gets its first guess some steps later."""
        logits = self._catch_up([s for s in sequences if self._fits(s, n_most)])
        guesses: dict[Sequence, list[int]] = {sequence: [] for sequence in logits}
        for n_guessed in range(1, n_most + 1):
            news = {s: token for s, row in logits.items() if (token := self._sure(row)) is not None}
            for sequence, token in news.items():
                guesses[sequence].append(token)
            if not news or n_guessed == n_most:
                break
            logits = self._decode({s: np.array([token], np.int32) for s, token in news.items()})
        return {sequence: np.array(guess, np.int32) for sequence, guess in guesses.items()}

    def close(self) -> None:
        """Free the small model."""
        self._backend.close()

    def _sure(self, row: FloatArray) -> int | None:
        """The likeliest token, where it is likely enough and the text goes on behind it."""
        best = int(row.argmax())
        probability = 1.0 / float(np.exp(row - row[best]).sum())
        return best if probability >= _SURE and best not in self._eos else None

    def _fits(self, sequence: Sequence, n_most: int) -> bool:
        return sequence.n_tokens + n_most <= self._backend.capabilities.n_ctx

    def _catch_up(self, sequences: Seq[Sequence]) -> dict[Sequence, FloatArray]:
        """Compute some of what the slots lack; logits of those that lack nothing then."""
        room = min(_CATCH_UP, self._backend.capabilities.n_batch)
        missing: dict[Sequence, IntArray] = {}
        for sequence in sequences:
            said = sequence.tokens[: sequence.n_tokens]
            self._drop_other_than(said, _slot(sequence))
            lacked = said[self._length(sequence) :][:room]
            room -= len(lacked)
            if len(lacked):
                missing[sequence] = lacked
        logits = self._decode(missing)
        return {s: row for s, row in logits.items() if self._length(s) == s.n_tokens}

    def _drop_other_than(self, said: IntArray, slot: int) -> None:
        held = self._held.get(slot, _NO_TOKENS)
        # The last token is computed again: its logits are needed.
        n_same = min(common_prefix(held, said), len(said) - 1)
        if n_same < len(held):
            self._backend.trim(slot, n_same)
            self._held[slot] = held[:n_same]

    def _decode(self, news: Mapping[Sequence, IntArray]) -> dict[Sequence, FloatArray]:
        """Extend the slots; the logits behind each one's last token, none where that failed."""
        if not news:
            return {}
        began = time.perf_counter()
        try:
            logits = self._backend.decode(self._rows(news))
        except (NoRoom, Aborted, ComputeFailed):
            self._forget_all()
            return {}
        if max(map(len, news.values())) <= _FEW:
            self._learn(time.perf_counter() - began)
        for sequence, tokens in news.items():
            slot = _slot(sequence)
            self._held[slot] = np.concatenate([self._held.get(slot, _NO_TOKENS), tokens])
        return dict(zip(news, logits, strict=True))

    def _learn(self, seconds: float) -> None:
        self.token_s = 0.8 * self.token_s + 0.2 * seconds if self.token_s else seconds

    def _rows(self, news: Mapping[Sequence, IntArray]) -> Rows:
        lengths = [len(tokens) for tokens in news.values()]
        positions = [self._length(s) + np.arange(n) for s, n in zip(news, lengths, strict=True)]
        wanted = np.zeros(sum(lengths), np.int8)
        wanted[np.cumsum(lengths) - 1] = 1
        return Rows(
            np.concatenate(list(news.values())),
            np.concatenate(positions).astype(np.int32),
            np.repeat([_slot(s) for s in news], lengths).astype(np.int32),
            wanted,
        )

    def _forget_all(self) -> None:
        for slot in self._held:
            self._backend.trim(slot, 0)
        self._held.clear()

    def _length(self, sequence: Sequence) -> int:
        return len(self._held.get(_slot(sequence), _NO_TOKENS))


def _slot(sequence: Sequence) -> int:
    if sequence.slot is None:
        raise RuntimeError("a guess for a sequence without a slot")
    return sequence.slot


def _require_same(small: Tokenizer, large: Tokenizer) -> None:
    tokens = range(0, min(small.n_vocab, large.n_vocab), 97)
    same = (
        small.n_vocab == large.n_vocab
        and small.added_tokens == large.added_tokens
        and all(small.piece(token) == large.piece(token) for token in tokens)
    )
    if not same:
        raise InvalidSettings(
            "the draft model's vocabulary is not the model's",
            hint="set DRAFT_MODEL_PATH to a smaller model of the same family",
        )
