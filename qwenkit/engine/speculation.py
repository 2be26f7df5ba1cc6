"""Guesses the tokens that come next, so that one step can verify several; and says when that pays.

    Drafter.propose ─▶ Speculator.extend (how many: by cost and luck) ─▶ Backend.decode
    ─▶ Sequence.advance, row by row as long as it draws what was guessed ─▶ Speculator.count

What is drawn is drawn from the model's own rows by the request's own sampler, so answers are those
of plain decoding; a wrong guess only costs its row. Source: Leviathan et al., "Fast Inference from
Transformers via Speculative Decoding"; prompt lookup is Saxena's "Prompt Lookup Decoding".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np

from qwenkit.backends.base import IntArray
from qwenkit.engine.prefix import common_prefix
from qwenkit.engine.scheduler import Work
from qwenkit.engine.sequence import Sequence

MAX_DRAFT = 15
# Newest tokens that must have stood somewhere before to guess that what followed follows again.
_MIN_MATCH = 3
_MAX_MATCH = 8
# What a guess must promise beyond plain decoding: less is within the noise of a step's time.
_MIN_GAIN = 1.05
_FORGET = 0.9
_N_SAMPLES = 5
_N_ENOUGH = 3
# Steps after which a row count that was not used is measured anew.
_STALE = 512
# Steps without a guess after which one that costs time is tried again.
_FORGIVE = 64
_NO_TOKENS = np.empty(0, np.int32)
_ANY_TOKENS = np.zeros(MAX_DRAFT, np.int32)


class Drafter(Protocol):
    """Guesses what comes next."""

    @property
    def is_free(self) -> bool:
        """Whether a guess costs no time worth counting."""
        ...

    @property
    def token_s(self) -> float:
        """Seconds that one more guessed token takes."""
        ...

    def propose(self, sequences: Seq[Sequence], n_most: int) -> Mapping[Sequence, IntArray]:
        """Up to `n_most` tokens for each sequence that it has a guess for.

        None for one that it could have guessed for and would not.
        """
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class PromptLookup:
    """Guesses that what followed the newest tokens before will follow them again."""

    is_free = True
    token_s = 0.0

    def propose(self, sequences: Seq[Sequence], n_most: int) -> Mapping[Sequence, IntArray]:
        """See `Drafter`."""
        guesses = ((s, continuation(s.tokens[: s.n_tokens], n_most)) for s in sequences)
        return {sequence: guess for sequence, guess in guesses if len(guess)}

    def close(self) -> None:
        """Nothing is held."""


def continuation(tokens: IntArray, n_most: int) -> IntArray:
    """What followed the newest of the places where the last tokens stood before, longest match."""
    ends = np.flatnonzero(tokens[:-1] == tokens[-1])
    for n_match in range(1, _MAX_MATCH):
        longer = ends[ends >= n_match]
        longer = longer[tokens[longer - n_match] == tokens[len(tokens) - 1 - n_match]]
        if not len(longer):
            break
        ends = longer
    else:
        n_match = _MAX_MATCH
    if not len(ends) or n_match < _MIN_MATCH:
        return _NO_TOKENS
    start = int(ends[-1]) + 1
    return tokens[start : start + n_most]


class RowCosts:
    """How long a step of answers takes, by its rows: the median of the newest few of each."""

    def __init__(self) -> None:
        self._samples: dict[int, deque[float]] = {}
        self._measured: dict[int, int] = {}
        self._n_steps = 0
        self._known: list[int] = []
        self._medians: list[float] = []

    def observe(self, n_rows: int, seconds: float) -> None:
        """Learn from a step without prompts."""
        self._n_steps += 1
        self._samples.setdefault(n_rows, deque(maxlen=_N_SAMPLES)).append(seconds)
        self._measured[n_rows] = self._n_steps
        if self._n_steps % _STALE == 0:
            self._forget_stale()
        # One measurement may have met with another process: two more tell.
        self._known = sorted(n for n, each in self._samples.items() if len(each) >= _N_ENOUGH)
        self._medians = [median(self._samples[n]) for n in self._known]

    @property
    def n_tried(self) -> int:
        """Most rows that were measured."""
        return max(self._samples, default=0)

    def seconds(self, n_rows: int) -> float:
        """A step's time: as measured, or between the nearest row counts that were; 0 at first.

        More rows than are known are taken to cost what the most do, so that they are tried.
        """
        return float(np.interp(n_rows, self._known, self._medians)) if self._known else 0.0

    def _forget_stale(self) -> None:
        """What costs too much is not done any more: try it again, the machine may be another."""
        for n_rows, measured in list(self._measured.items()):
            if self._n_steps - measured >= _STALE:
                del self._samples[n_rows], self._measured[n_rows]


class Luck:
    """How often one drafter's guesses for one sequence come true; the newest count most."""

    def __init__(self) -> None:
        self._right = 0.0
        self._wrong = 0.0
        self._n_idle = 0
        self._watched = _NO_TOKENS
        self._watched_at = 0

    @property
    def rate(self) -> float:
        """Chance that the next guessed token is right, given that those before it were."""
        return (self._right + 1.0) / (self._right + self._wrong + 2.0)

    def count(self, n_right: int, *, missed: bool) -> None:
        """Learn from a guess: tokens that came true, and whether one then did not."""
        self._right = _FORGET * self._right + n_right
        self._wrong = _FORGET * self._wrong + missed
        self._n_idle = 0

    def idle(self) -> None:
        """No guess was made for a step; after many the text may have become another."""
        self._n_idle += 1
        if self._n_idle >= _FORGIVE:
            self._right = self._wrong = 0.0
            self._n_idle = 0

    def watch(self, sequence: Sequence, guess: IntArray) -> None:
        """Compare a guess that is not computed with what is said instead, for nothing."""
        if not len(self._watched):
            self._watched, self._watched_at = guess.copy(), sequence.n_tokens

    def compare(self, sequence: Sequence) -> None:
        """See how much of the watched guess has come true by now."""
        n_said = sequence.n_tokens - self._watched_at
        if not len(self._watched) or n_said <= 0:
            return
        said = sequence.tokens[self._watched_at : sequence.n_tokens]
        n_right = common_prefix(self._watched, said)
        missed = n_right < min(n_said, len(self._watched))
        if missed or n_said >= len(self._watched):
            self.count(n_right, missed=missed)
            self._watched = _NO_TOKENS


@dataclass(slots=True)
class _Track:
    """A drafter and what is known of it."""

    drafter: Drafter
    luck: WeakKeyDictionary[Sequence, Luck] = field(default_factory=WeakKeyDictionary)

    def luck_of(self, sequence: Sequence) -> Luck:
        return self.luck.setdefault(sequence, Luck())


class Speculator:
    """Adds guesses to the works of a step where they are likely to pay.

    Args:
        drafters: Asked in this order; the first with a guess counts.
    """

    def __init__(self, drafters: Seq[Drafter]) -> None:
        self._tracks = [_Track(drafter) for drafter in drafters]
        self._costs = RowCosts()
        self._made: dict[Sequence, Luck] = {}

    def extend(self, works: list[Work], *, n_most: int) -> list[Work]:
        """The works with guesses behind them; as they are when a prompt is among them.

        Args:
            works: Of the next step.
            n_most: Rows that guesses may take in all.
        """
        self._made = {}
        if not self._tracks or n_most <= 0 or not all(work.decodes for work in works):
            return works
        left = {work.sequence: work for work in works if work.sequence.n_left > 1}
        for track in self._tracks:
            guesses = self._guesses(track, list(left), len(works), n_most)
            for sequence, guess in guesses.items():
                work = left.pop(sequence)
                n = sequence.draft(guess)
                works[works.index(work)] = replace(work, n_rows=1 + n, n_draft=n)
                self._made[sequence] = track.luck_of(sequence)
                n_most -= n
        return works

    def count(self, work: Work, n_accepted: int) -> None:
        """Take note of a guess that was computed: how many of its tokens came true."""
        luck = self._made.pop(work.sequence, None)
        if luck is not None:
            luck.count(n_accepted, missed=n_accepted < work.n_draft)

    def observe(self, n_decode: int, n_prefill: int, seconds: float) -> None:
        """Take note of what a step cost."""
        if n_prefill == 0:
            self._costs.observe(n_decode, seconds)

    def close(self) -> None:
        """Free what the drafters hold."""
        self._made = {}
        for track in self._tracks:
            track.drafter.close()

    def _guesses(
        self, track: _Track, sequences: list[Sequence], n_plain: int, n_most: int
    ) -> dict[Sequence, IntArray]:
        """A drafter's guesses, as long as is worth computing."""
        if track.drafter.is_free:
            return self._free_guesses(track, sequences, n_plain, n_most)
        hoped = dict.fromkeys(sequences, _ANY_TOKENS)
        n_draft = self._best_length(track, hoped, n_plain, n_most)
        found = track.drafter.propose(sequences, n_draft) if n_draft else {}
        for sequence in sequences:
            guess = found.get(sequence)
            if guess is None:
                track.luck_of(sequence).idle()
            elif not len(guess):
                track.luck_of(sequence).count(0, missed=True)
        return {sequence: guess for sequence, guess in found.items() if len(guess)}

    def _free_guesses(
        self, track: _Track, sequences: list[Sequence], n_plain: int, n_most: int
    ) -> dict[Sequence, IntArray]:
        found = track.drafter.propose(sequences, MAX_DRAFT)
        for sequence in found:
            track.luck_of(sequence).compare(sequence)
        n_draft = self._best_length(track, found, n_plain, n_most)
        if n_draft:
            return {sequence: guess[:n_draft] for sequence, guess in found.items()}
        for sequence, guess in found.items():
            track.luck_of(sequence).watch(sequence, guess)
        return {}

    def _best_length(
        self, track: _Track, guesses: Mapping[Sequence, IntArray], n_plain: int, n_most: int
    ) -> int:
        """How many tokens of each guess to compute: what promises most tokens a second."""
        plain_s = self._costs.seconds(n_plain)
        if not guesses or not plain_s:
            return 0
        luck = {sequence: track.luck_of(sequence).rate for sequence in guesses}
        best, best_rate = 0, _MIN_GAIN * n_plain / plain_s
        for n_draft in range(1, MAX_DRAFT + 1):
            lengths = {s: min(n_draft, len(guess)) for s, guess in guesses.items()}
            n_rows = sum(lengths.values())
            if n_rows > n_most or n_plain + n_rows > 2 * self._costs.n_tried:
                break
            right = sum(_expected(luck[s], n) for s, n in lengths.items())
            seconds = self._costs.seconds(n_plain + n_rows) + n_draft * track.drafter.token_s
            if (n_plain + right) / seconds > best_rate:
                best, best_rate = n_draft, (n_plain + right) / seconds
        return best


def _expected(rate: float, n: int) -> float:
    """Tokens that n guesses are likely to bring: a wrong one ends it."""
    return rate * (1 - rate**n) / (1 - rate)
