"""Decides which sequences run next and how many of their tokens. Knows slots, counts and queues; no
runtime, no asyncio, no text.

Answers that stream come first, one row each. What is left of a step goes to prompts, and no more of
it than keeps the step within its latency target while answers stream. A sequence whose prompt
begins like one that is being computed waits for it instead of computing the same thing twice.

A step is computed with one adapter, so sequences of different adapters take turns.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from qwenkit.backends.base import Capabilities
from qwenkit.engine.cache import SlotCache
from qwenkit.engine.prefix import common_prefix
from qwenkit.engine.sequence import Sequence

# Tokens a prompt must share with one being computed to wait for it.
_WORTH_WAITING = 32
# Cells kept free for each running answer when another is admitted.
_HEADROOM = 32
# Fewest prompt rows of a step. Below it llama.cpp's attention on CPU has no tile to fill (its
# GGML_FA_TILE_Q), and a row of a long prompt costs about twice as much.
_MIN_CHUNK = 64
# How much longer a step may take when no answer streams that it would delay.
_IDLE_STRETCH = 4
# How long an adapter keeps its turn while others wait: llama.cpp takes 5 to 10 ms to change it.
_TURN_S = 0.1


@dataclass(frozen=True, slots=True)
class Work:
    """The next `n_rows` uncomputed tokens of a sequence; the last `n_draft` of them are guessed."""

    sequence: Sequence
    n_rows: int
    n_draft: int = 0

    @property
    def decodes(self) -> bool:
        """Whether it goes on with an answer, before the step is computed."""
        return self.sequence.prompt_done and self.sequence.n_pending == 1


class Pace:
    """How fast steps have been lately, to say how many prompt rows fit a time."""

    def __init__(self) -> None:
        self._row_s = 0.0
        self._decode_s = 0.0

    def observe(self, n_decode: int, n_prefill: int, seconds: float) -> None:
        """Learn from a step."""
        if n_prefill == 0:
            self._decode_s = _blend(self._decode_s, seconds)
        elif n_prefill >= _MIN_CHUNK // 2:
            self._row_s = _blend(self._row_s, seconds / (n_decode + n_prefill))

    def rows_within(self, seconds: float, *, beside_decoding: bool) -> int:
        """Prompt rows that can be computed in the time."""
        if self._row_s == 0.0:
            return _MIN_CHUNK
        left = seconds - (self._decode_s if beside_decoding else 0.0)
        return max(_MIN_CHUNK, int(left / self._row_s))


class Turns:
    """Which adapter is computed with next, where sequences of several are there."""

    def __init__(self) -> None:
        self._current = ""
        self._spent_s = 0.0

    def pick(self, namespaces: list[str]) -> str:
        """The one whose turn it is, of those that have something to compute, in any order."""
        if self._current not in namespaces or (self._spent_s >= _TURN_S and len(namespaces) > 1):
            later = [name for name in namespaces if name > self._current]
            self._current = min(later or namespaces)
            self._spent_s = 0.0
        return self._current

    def spend(self, seconds: float) -> None:
        """Count the time of a step of the current one."""
        self._spent_s += seconds


def _blend(old: float, new: float) -> float:
    return new if old == 0.0 else 0.7 * old + 0.3 * new


class Scheduler:
    """Holds the queue and the running sequences.

    Args:
        cache: Gives slots and cells to sequences.
        capabilities: Of the backend.
        step_latency_s: Seconds a step may take while answers stream.
    """

    def __init__(
        self, cache: SlotCache, capabilities: Capabilities, *, step_latency_s: float
    ) -> None:
        self._cache = cache
        self._caps = capabilities
        self._step_latency_s = step_latency_s
        self._leaders: dict[Sequence, tuple[Sequence, int]] = {}
        self.pace = Pace()
        self._turns = Turns()
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self._turns_waited: dict[Sequence, int] = {}
        self.n_preempted = 0

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Let go of a sequence that has ended or is not wanted any more; its state is parked."""
        if sequence.slot is not None:
            self._cache.park(sequence.slot)
            sequence.slot = None
            self.running.remove(sequence)
            self._turns_waited.pop(sequence, None)
        else:
            self.waiting.remove(sequence)
            self._leaders.pop(sequence, None)

    def discard(self, sequence: Sequence) -> None:
        """As `remove`, for a sequence whose state can't be trusted."""
        if sequence.slot is not None:
            self._cache.drop(sequence.slot)
            sequence.slot = None
            self.running.remove(sequence)
            self._turns_waited.pop(sequence, None)

    def admit(self) -> list[Sequence]:
        """Move sequences from the queue to slots while there is room; returns them."""
        admitted = []
        for sequence in list(self.waiting):
            if not self._cache.can_start():
                break
            if self._waits_for_leader(sequence):
                continue
            if not self._fits(sequence):
                break
            self._start(sequence)
            admitted.append(sequence)
        self._cache.relieve()
        return admitted

    def observe(self, n_decode: int, n_prefill: int, seconds: float) -> None:
        """Learn from a step how fast the next ones will be."""
        self.pace.observe(n_decode, n_prefill, seconds)
        self._turns.spend(seconds)

    def plan(self) -> list[Work]:
        """The rows of the next step; empty when nothing runs. Room for them is made."""
        self._preempt_until_decoding_fits()
        group = self._next_group()
        decoding = [s for s in group if s.prompt_done and s.n_pending == 1]
        prompts = [s for s in group if s not in decoding]
        budget = min(self._prompt_budget(len(decoding)), self._caps.n_batch - len(decoding))
        works = [Work(sequence, 1) for sequence in decoding]
        works += self._share(prompts, budget)
        n_rows = sum(work.n_rows for work in works)
        if not self._cache.make_room(n_rows):
            works = self._shrink(works, n_rows - self._cache.n_free)
            if not works and self.preempt_youngest():
                return self.plan()
        return works

    def preempt_youngest(self) -> bool:
        """Send the newest running sequence back to the queue's head and free its state."""
        if len(self.running) < 2:
            return False
        youngest = self.running.pop()
        self.n_preempted += 1
        if youngest.slot is not None:
            self._cache.drop(youngest.slot)
        youngest.slot = None
        youngest.n_computed = 0
        self._turns_waited.pop(youngest, None)
        self.waiting.appendleft(youngest)
        return True

    def _start(self, sequence: Sequence) -> None:
        self.waiting.remove(sequence)
        sequence.slot, sequence.n_computed = self._cache.start(
            sequence.request.namespace, sequence.tokens, _n_reusable(sequence)
        )
        self.running.append(sequence)

    def _waits_for_leader(self, sequence: Sequence) -> bool:
        """Whether a running sequence is about to compute what this one needs or can share."""
        leader = self._leaders.get(sequence)
        if leader is not None and self._is_coming(*leader):
            return True
        self._leaders.pop(sequence, None)
        if sequence.needs_all_logits:
            return False
        if self._prompt_is_scored(sequence):
            return True
        if not self._caps.copies:  # what another one computes can't be had
            return False
        found = self._find_leader(sequence)
        if found is None:
            return False
        self._leaders[sequence] = found
        return True

    def _prompt_is_scored(self, sequence: Sequence) -> bool:
        """Whether its first choice still collects the prompt's log-probabilities for all."""
        return sequence.request.prompt_logprobs and any(
            s.request is sequence.request and s.needs_all_logits for s in self.running
        )

    def _is_coming(self, leader: Sequence, length: int) -> bool:
        return leader in self.running and leader.n_computed < length

    def _find_leader(self, sequence: Sequence) -> tuple[Sequence, int] | None:
        tokens = sequence.tokens[: sequence.n_tokens]
        computing = [s for s in self.running if not s.prompt_done and _same_namespace(s, sequence)]
        if not computing:
            return None
        _, at_hand = self._cache.match(sequence.request.namespace, tokens)
        coming = [(common_prefix(s.tokens[: s.n_prompt], tokens), s) for s in computing]
        length, leader = max(coming, key=lambda pair: pair[0])
        if length - at_hand < _WORTH_WAITING or leader.n_computed >= length:
            return None
        return leader, length

    def _fits(self, sequence: Sequence) -> bool:
        if not self.running:
            return True
        headroom = sum(min(s.n_left, _HEADROOM) for s in [*self.running, sequence])
        unfinished = sum(s.n_pending for s in self.running)
        held = self._cache.held_by_running(
            sequence.request.namespace, sequence.tokens[: _n_reusable(sequence)]
        )
        needed = sequence.n_tokens - held + unfinished + headroom
        return needed <= self._cache.n_available()

    def _next_group(self) -> list[Sequence]:
        """The running sequences of the adapter whose turn it is."""
        namespaces = {s.request.namespace for s in self.running}
        if len(namespaces) < 2:
            return self.running
        turn = self._turns.pick(list(namespaces))
        return [s for s in self.running if s.request.namespace == turn]

    def _preempt_until_decoding_fits(self) -> None:
        while True:
            n_decoding = sum(s.prompt_done and s.n_pending == 1 for s in self.running)
            if self._cache.make_room(n_decoding) or not self.preempt_youngest():
                return

    def _prompt_budget(self, n_decoding: int) -> int:
        if n_decoding:
            return self.pace.rows_within(self._step_latency_s, beside_decoding=True)
        return self.pace.rows_within(self._step_latency_s * _IDLE_STRETCH, beside_decoding=False)

    def _share(self, prompts: list[Sequence], budget: int) -> list[Work]:
        """Shortest remaining prompt first; a turn without rows counts as a chunk computed."""
        works = []
        n_spare_outputs = max(1, self._caps.n_outputs - self._caps.n_slots)
        for sequence in sorted(prompts, key=self._remaining):
            n_rows = min(sequence.n_pending, budget)
            if sequence.needs_all_logits:
                n_rows = min(n_rows, n_spare_outputs)
                n_spare_outputs -= n_rows
            if n_rows > 0:
                works.append(Work(sequence, n_rows))
                budget -= n_rows
            else:
                self._turns_waited[sequence] = self._turns_waited.get(sequence, 0) + 1
        return works

    def _remaining(self, sequence: Sequence) -> int:
        return sequence.n_pending - self._caps.n_batch * self._turns_waited.get(sequence, 0)

    def _shrink(self, works: list[Work], n_excess: int) -> list[Work]:
        """Take rows off the last prompts until the rest fits the free cells."""
        kept = list(works)
        while n_excess > 0 and kept:
            last = kept.pop()
            n_rows = last.n_rows - n_excess
            n_excess -= last.n_rows
            if n_rows > 0:
                kept.append(Work(last.sequence, n_rows))
        return kept


def _n_reusable(sequence: Sequence) -> int:
    """Tokens whose state may come from the cache: the last one must be computed to have logits."""
    return 0 if sequence.needs_all_logits else sequence.n_tokens - 1


def _same_namespace(a: Sequence, b: Sequence) -> bool:
    return a.request.namespace == b.request.namespace
