"""The one thread that owns a backend: schedule, decode, draw, hand out, again.

    inbox → Scheduler.admit → Scheduler.plan → Speculator.extend → Backend.decode
    → Sequence.advance → Outbox

It never waits for anything but work, and nobody else touches the backend, the cache or a sequence.
A request that fails is taken out alone; the others of its batch go on.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import weakref
from collections.abc import Callable
from collections.abc import Sequence as Seq
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import numpy as np

from qwenkit.backends.base import (
    Aborted,
    Backend,
    ComputeFailed,
    FloatArray,
    IntArray,
    LoadedAdapter,
    NoRoom,
    Rows,
)
from qwenkit.engine.cache import SlotCache
from qwenkit.engine.embedding import EmbeddingQueue
from qwenkit.engine.observer import EngineSnapshot, Observer, Outcome, SilentObserver
from qwenkit.engine.request import AdapterVersion, Event, Token
from qwenkit.engine.sampling import log_probabilities
from qwenkit.engine.scheduler import Scheduler, Work
from qwenkit.engine.sequence import Sequence
from qwenkit.engine.speculation import Drafter, Speculator
from qwenkit.engine.task import Outbox, Task
from qwenkit.errors import DecodeFailed, EngineStopped, QwenkitError

logger = logging.getLogger(__name__)

Message = Callable[[], None]
T = TypeVar("T")
_SWITCH_INTERVAL_S = 5e-4
_ABORT_INTERVAL_S = 0.05


class EngineLoop:
    """Runs tasks on a backend until it is stopped.

    Args:
        backend: Decodes rows; owned from here on.
        step_latency_s: Seconds a step may take while answers stream.
        shelf_bytes: Ordinary memory for cached states that are not in use.
        drafters: Guess what comes next; none decodes plainly.
        observer: Told what happens.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        step_latency_s: float,
        shelf_bytes: int,
        drafters: Seq[Drafter] = (),
        observer: Observer,
    ) -> None:
        self._backend = backend
        self._observer = observer
        self._cache = SlotCache(backend, shelf_bytes=shelf_bytes)
        self._scheduler = Scheduler(
            self._cache, backend.capabilities, step_latency_s=step_latency_s
        )
        self._speculator = Speculator(drafters)
        self._embeddings = EmbeddingQueue(backend.embed)
        self._tasks: dict[Sequence, Task] = {}
        self._in_flight: frozenset[Task] = frozenset()
        self._outbox = Outbox(unheard=self.cancel)
        self._inbox: list[Message] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._idle = threading.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._run, name="qwenkit-engine", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        # The default of 5 ms is how long another busy thread may keep this one waiting for the GIL
        # after each decode.
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        self._thread.start()

    def submit(self, task: Task) -> None:
        """Queue a task's sequences. Callable from any thread.

        A background task is dropped when anything else is there, or comes while it runs; what it
        has computed stays in the cache.

        Raises:
            EngineStopped: It was stopped before.
        """
        self._accept(lambda: self._add(task), wanted=not task.background)

    def cancel(self, task: Task) -> None:
        """Free what a task holds; it gets no further event. Callable from any thread."""
        task.cancelled = True
        self._abort_if(lambda running: running.cancelled)
        self._post(lambda: self._cancel(task))

    def call(self, act: Callable[[], T]) -> Future[T]:
        """Run a short function on the thread, between two steps. Callable from any thread.

        Raises:
            EngineStopped: It was stopped before.
        """
        future: Future[T] = Future()
        self._accept(lambda: _settle(future, act), wanted=False)
        return future

    def embed(self, tokens: IntArray) -> Future[FloatArray]:
        """Queue a text for embedding; cancelling the future takes it back.

        Raises:
            EngineStopped: It was stopped before.
        """
        future: Future[FloatArray] = Future()
        self._accept(lambda: self._add_text(tokens, future), wanted=True)
        return future

    def load_adapter(self, version: str, path: Path) -> Future[AdapterVersion]:
        """Load an adapter's file; what comes of it frees itself when nothing refers to it.

        Raises:
            EngineStopped: It was stopped before.
        """
        return self.call(lambda: self._load_adapter(version, path))

    def fail_all(self, error: Callable[[], Exception]) -> None:
        """End every task with an error. Callable from any thread."""
        self._post(lambda: self._fail_all(error))

    def wait_idle(self, timeout_s: float) -> bool:
        """Block until no task is left; False if that takes longer."""
        return self._idle.wait(timeout_s)

    def stop(self) -> None:
        """End every task with an error, then the thread, and free the backend."""
        with self._changed:
            self.fail_all(engine_stopped)
            self._stopping = True
        # Once is not enough: a decode that begins just after an abort does not notice it.
        while self._thread.is_alive():
            self._backend.abort()
            self._thread.join(_ABORT_INTERVAL_S)
        self._speculator.close()
        self._backend.close()
        # The loop is part of cycles, and its kept states are too large to wait for the collector.
        self._cache.shelf.clear()

    def snapshot(self) -> EngineSnapshot:
        """Counts of this moment. Callable from any thread; they may be of a step's middle."""
        caps = self._backend.capabilities
        return EngineSnapshot(
            n_running=len(self._scheduler.running),
            n_waiting=len(self._scheduler.waiting),
            n_slots=caps.n_slots,
            n_parked=self._cache.n_parked,
            cells_used=self._cache.n_used,
            n_cells=caps.n_cells,
            n_preempted=self._scheduler.n_preempted,
            n_evicted=self._cache.n_evicted,
            n_restored=self._cache.n_restored,
            n_shelved=len(self._cache.shelf),
            shelf_bytes=self._cache.shelf.used_bytes,
            max_shelf_bytes=self._cache.shelf.max_bytes,
        )

    def _load_adapter(self, version: str, path: Path) -> AdapterVersion:
        loaded = self._backend.load_adapter(path)
        held = AdapterVersion(version, loaded, owner=self)
        # By a weak reference: else whatever holds on to the version kept the whole loop.
        weakref.finalize(held, _free_adapter, weakref.ref(self), loaded).atexit = False
        return held

    def free_adapter(self, loaded: LoadedAdapter) -> None:
        """Unload an adapter between two steps. Callable from any thread."""
        self._post(lambda: self._unload_adapter(loaded))

    def _unload_adapter(self, loaded: LoadedAdapter) -> None:
        self._backend.unload_adapter(loaded)
        self._cache.forget_lost()

    def _abort_if(self, unwanted: Callable[[Task], bool]) -> None:
        """End the running decode if none of its tasks is wanted any more."""
        if self._in_flight and all(map(unwanted, self._in_flight)):
            self._backend.abort()

    def _accept(self, message: Message, *, wanted: bool) -> None:
        """Post work unless it is too late; work in the background ends for what is waited for."""
        with self._changed:
            if self._stopping:
                raise engine_stopped()
            if wanted:
                # Under the lock: the thread must not find itself idle in between.
                self._idle.clear()
                self._abort_if(lambda running: running.background)
            self._post(message)

    def _post(self, message: Message) -> None:
        with self._changed:
            self._inbox.append(message)
            self._changed.notify()

    def _run(self) -> None:
        while self._turn():
            pass
        self._idle.set()

    def _turn(self) -> bool:
        """Do what was posted and compute one step; False when that was the last turn."""
        messages, stopping = self._take_messages()
        for act in (*messages, self._schedule, self._embeddings.advance):
            self._guarded(act)
        self._outbox.flush()
        return not stopping

    def _schedule(self) -> None:
        self._admit()
        works = self._scheduler.plan()
        if works:
            self._step(self._speculator.extend(works, n_most=self._n_spare(works)))

    def _n_spare(self, works: list[Work]) -> int:
        """Rows that a step still has room for."""
        caps = self._backend.capabilities
        n_rows = sum(work.n_rows for work in works)
        n_wanted = sum(_n_wanted(work) for work in works)
        return min(caps.n_outputs - n_wanted, caps.n_batch - n_rows, self._cache.n_free - n_rows)

    def _guarded(self, act: Message) -> None:
        """A bug below ends the requests it met, not the thread that all others wait for."""
        try:
            act()
        except Exception as exc:
            logger.exception("a step failed on an internal error")
            error = repr(exc)
            self._fail_all(lambda: DecodeFailed(f"internal error: {error}"))
            self._cache.reset()

    def _take_messages(self) -> tuple[list[Message], bool]:
        """What was posted, and whether to stop; waits when there is nothing to compute."""
        with self._changed:
            wanted = [task for task in self._tasks.values() if not task.background]
            if not (self._inbox or wanted or self._embeddings):
                self._idle.set()
            while not (self._inbox or self._stopping or self._tasks or self._embeddings):
                self._changed.wait()
            messages, self._inbox = self._inbox, []
            return messages, self._stopping

    def _add(self, task: Task) -> None:
        if task.cancelled or (task.background and (self._tasks or self._embeddings)):
            return
        self._cancel_background()
        for sequence in task.sequences:
            self._tasks[sequence] = task
            self._scheduler.add(sequence)

    def _add_text(self, tokens: IntArray, future: Future[FloatArray]) -> None:
        self._cancel_background()
        self._embeddings.add(tokens, future)

    def _cancel_background(self) -> None:
        for other in set(self._tasks.values()):
            if other.background:
                self._cancel(other)

    def _admit(self) -> None:
        for sequence in self._scheduler.admit():
            task = self._tasks[sequence]
            waited_s = task.mark_started(sequence.n_computed)
            if waited_s is not None:
                self._observer_of(task).on_started(waited_s)

    def _step(self, works: list[Work]) -> None:
        began = time.perf_counter()
        n_decode = sum(work.n_rows for work in works if work.decodes)
        n_prefill = sum(work.n_rows for work in works if not work.decodes)
        self._in_flight = frozenset(self._tasks[work.sequence] for work in works)
        try:
            logits = self._backend.decode(_rows(works))
        except NoRoom:
            if any(work.n_draft for work in works):
                self._step([_without_guess(work) for work in works])
            else:
                self._make_room()
            return
        except Aborted:
            self._resync(works)
            return
        except ComputeFailed as exc:
            self._resync(works)
            self._isolate(works, exc)
            return
        finally:
            self._in_flight = frozenset()
        self._finish_step(works, logits)
        seconds = time.perf_counter() - began
        for observe in (self._scheduler.observe, self._speculator.observe, self._observer.on_step):
            observe(n_decode, n_prefill, seconds)

    def _finish_step(self, works: list[Work], logits: FloatArray) -> None:
        n_wanted = [_n_wanted(work) for work in works]
        for work in works:
            self._cache.extend(_slot(work.sequence), work.n_rows)
            work.sequence.n_computed += work.n_rows
        row = 0
        for work, n in zip(works, n_wanted, strict=True):
            if n and work.sequence in self._tasks:
                self._use_logits(work, logits[row : row + n])
            row += n

    def _use_logits(self, work: Work, logits: FloatArray) -> None:
        sequence = work.sequence
        task = self._tasks[sequence]
        if task.cancelled:
            return
        try:
            if sequence.request.prompt_logprobs and sequence.choice == 0:
                self._collect_prompt_logprobs(sequence, logits)
            if work.n_draft:
                self._verify(work, task, logits)
            elif sequence.n_pending == 0:
                self._advance(sequence, task, logits[-1])
        except QwenkitError as error:
            self._fail(task, error)
        except Exception as exc:
            logger.exception("a request failed on an internal error")
            self._fail(task, DecodeFailed(f"internal error: {exc!r}"))

    def _advance(self, sequence: Sequence, task: Task, logits: FloatArray) -> None:
        ready = task.mark_prompt_done()
        if ready is not None:
            self._observer_of(task).on_prompt(ready.n_prompt, ready.n_cached, task.adapter)
            self._outbox.add(task, [ready])
        events = sequence.advance(logits)
        self._outbox.add(task, events)
        self._observe_tokens(task, events)
        if sequence.finished:
            self._retire(sequence, task)

    def _verify(self, work: Work, task: Task, logits: FloatArray) -> None:
        """Draw from one row after the other, as long as what is drawn is what was guessed."""
        sequence = work.sequence
        first = sequence.n_tokens
        guess = sequence.tokens[first : first + work.n_draft].tolist()
        n_accepted = 0
        try:
            while self._drew(sequence, task, logits[n_accepted], guess[n_accepted:]):
                n_accepted += 1
        finally:
            # What was drawn stands where the guess stood: its state must go, whatever happened.
            sequence.n_computed = first + n_accepted
            self._cache.retract(_slot(sequence), sequence.n_computed)
        self._speculator.count(work, n_accepted)
        self._observer_of(task).on_draft(work.n_draft, n_accepted)
        if sequence.finished:
            self._retire(sequence, task)

    def _drew(self, sequence: Sequence, task: Task, row: FloatArray, guess: list[int]) -> bool:
        """Draw from a row; whether that gave the first guessed token, and the text goes on."""
        before = sequence.n_tokens
        events = sequence.advance(row)
        self._outbox.add(task, events)
        self._observe_tokens(task, events)
        goes_on = not sequence.finished and sequence.n_tokens == before + 1 and bool(guess)
        return goes_on and int(sequence.tokens[before]) == guess[0]

    def _observe_tokens(self, task: Task, events: list[Event]) -> None:
        if isinstance(events[0], Token):
            seconds, is_first = task.seconds_since_token(events[0].choice)
            observe = self._observer.on_first_token if is_first else self._observer.on_token_gap
            observe(seconds)

    def _collect_prompt_logprobs(self, sequence: Sequence, logits: FloatArray) -> None:
        task = self._tasks[sequence]
        n_top = sequence.request.logprobs or 0
        first = sequence.n_computed - len(logits) + 1
        for position, row in enumerate(logits, start=first):
            if len(task.prompt_logprobs) == position < sequence.n_prompt:
                token = int(sequence.tokens[position])
                piece = self._backend.tokenizer.piece
                task.prompt_logprobs.append(log_probabilities(row, token, n_top=n_top, piece=piece))

    def _retire(self, sequence: Sequence, task: Task) -> None:
        self._observe_end(sequence, task, sequence.outcome)
        self._release(sequence, task)
        if not task.sequences:
            self._outbox.add(task, [task.done()])

    def _release(self, sequence: Sequence, task: Task) -> None:
        if sequence.slot is not None or sequence in self._scheduler.waiting:
            self._scheduler.remove(sequence)
        sequence.close()
        task.sequences.remove(sequence)
        del self._tasks[sequence]

    def _cancel(self, task: Task) -> None:
        for sequence in list(task.sequences):
            if sequence in self._tasks:
                self._observe_end(sequence, task, "cancelled")
                self._release(sequence, task)

    def _fail(self, task: Task, error: Exception) -> None:
        for sequence in list(task.sequences):
            if isinstance(error, DecodeFailed):
                self._scheduler.discard(sequence)
            self._observe_end(sequence, task, "error")
            self._release(sequence, task)
        self._outbox.fail(task, error)

    def _observe_end(self, sequence: Sequence, task: Task, outcome: Outcome) -> None:
        self._observer_of(task).on_choice_done(sequence.n_generated, outcome, task.adapter)

    def _observer_of(self, task: Task) -> Observer:
        """Who is told of a request: nobody, where nobody asked."""
        return SilentObserver() if task.background else self._observer

    def _fail_all(self, error: Callable[[], Exception]) -> None:
        for task in set(self._tasks.values()):
            self._fail(task, error())
        self._embeddings.fail_all(error)

    def _make_room(self) -> None:
        """The backend has less room than counted: drop what is parked, or else the newest."""
        logger.warning("the KV cache is fuller than counted")
        if self._cache.n_parked:
            self._cache.make_room(self._backend.capabilities.n_cells)
        elif not self._scheduler.preempt_youngest():
            for sequence in list(self._scheduler.running):
                self._fail(self._tasks[sequence], DecodeFailed("the KV cache has no room left"))

    def _resync(self, works: list[Work]) -> None:
        for work in works:
            slot = _slot(work.sequence)
            self._cache.resync(slot)
            work.sequence.n_computed = min(work.sequence.n_computed, self._backend.length(slot))

    def _isolate(self, works: list[Work], error: ComputeFailed) -> None:
        """Find out which sequence of a failed batch can't be computed, and fail only that one."""
        if len(works) == 1 and not works[0].n_draft:
            sequence = works[0].sequence
            self._fail(self._tasks[sequence], DecodeFailed(f"the runtime failed: {error}"))
            return
        for work in works:
            if work.sequence.slot is not None:  # one before it may have made it give way
                n_rows = min(work.n_rows, work.sequence.n_pending)
                self._step([Work(work.sequence, n_rows)])


def _free_adapter(loop: weakref.ref[EngineLoop], loaded: LoadedAdapter) -> None:
    owner = loop()
    if owner is not None:
        owner.free_adapter(loaded)


def _settle(future: Future[T], act: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(act())
    except Exception as exc:  # handed to whoever waits for it
        future.set_exception(exc)


def engine_stopped() -> EngineStopped:
    """The error of everything that is asked of a stopped engine."""
    return EngineStopped("the engine is shutting down", hint="send the request again later")


def _rows(works: list[Work]) -> Rows:
    n = sum(work.n_rows for work in works)
    tokens = np.empty(n, np.int32)
    positions = np.empty(n, np.int32)
    slots = np.empty(n, np.int32)
    wanted = np.zeros(n, np.int8)
    at = 0
    for work in works:
        first, end = work.sequence.n_computed, work.sequence.n_computed + work.n_rows
        here = slice(at, at + work.n_rows)
        tokens[here] = work.sequence.tokens[first:end]
        positions[here] = np.arange(first, end)
        slots[here] = _slot(work.sequence)
        at += work.n_rows
        n_wanted = _n_wanted(work)
        if n_wanted:
            wanted[at - n_wanted : at] = 1
    adapter = works[0].sequence.request.adapter
    return Rows(tokens, positions, slots, wanted, adapter.use if adapter is not None else None)


def _without_guess(work: Work) -> Work:
    return Work(work.sequence, work.n_rows - work.n_draft)


def _n_wanted(work: Work) -> int:
    """Rows whose logits are wanted: the last one of a sequence and its guesses, or all of them."""
    if work.sequence.needs_all_logits or work.n_draft:
        return work.n_rows
    return int(work.n_rows == work.sequence.n_pending)


def _slot(sequence: Sequence) -> int:
    slot = sequence.slot
    if slot is None:
        raise RuntimeError("a sequence without a slot was scheduled")
    return slot
