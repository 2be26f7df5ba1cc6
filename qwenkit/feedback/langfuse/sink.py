"""Records go to Langfuse while answers are given. Knows records, a queue and a thread.

    a record ─▶ the queue, or lost where it is full ─▶ the thread: a few together ─▶ Langfuse

Whoever gives a record does not wait, whatever Langfuse does. What is lost is counted, and said
once; the log still has it, and `qwenkit feedback push --to langfuse` sends it later.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Protocol

from qwenkit.errors import InvalidSettings, QwenkitError, RemoteError, RemoteUnreachable
from qwenkit.feedback.langfuse.client import PAUSES_S, LangfuseClient, Refused
from qwenkit.feedback.langfuse.history import History
from qwenkit.feedback.langfuse.observations import (
    Observation,
    labels_of,
    observe_answer,
    observe_tool,
)
from qwenkit.feedback.langfuse.outcome import Counter, Lost
from qwenkit.feedback.langfuse.scores import SOURCE, judgement
from qwenkit.feedback.records import Interaction, Rating, Record, ToolRun
from qwenkit.settings import LangfuseSpec

logger = logging.getLogger(__name__)

MAX_WAITING = 1000
"""Records that may wait; each answer among them holds its conversation."""
CLOSE_S = 5.0
"""Most seconds that closing takes."""


class Finder(Protocol):
    """Finds answers; used on the sink's thread only."""

    def __call__(self, answer_id: str) -> History | None:
        """An answer and what was said of it; None where there is no such answer."""

    def close(self) -> None:
        """Let go of files."""


class LangfuseSink:
    """A sink that sends what it is given to Langfuse.

    Args:
        spec: Which project.
        find: Finds an answer and what was said of it, by its id; closed with the sink.
        counter: Told what becomes of records.
        most_waiting: Records that may wait.
        pauses_s: Seconds before each new try of what failed.
        close_s: Most seconds that closing takes.

    Raises:
        MissingExtra: The extra `langfuse` is not installed.
    """

    def __init__(
        self,
        spec: LangfuseSpec,
        *,
        find: Finder,
        counter: Counter,
        most_waiting: int = MAX_WAITING,
        pauses_s: Sequence[float] = PAUSES_S,
        close_s: float = CLOSE_S,
    ) -> None:
        self._closing = threading.Event()
        self._client = LangfuseClient(spec, wait=self._closing.wait, pauses_s=pauses_s)
        self._labels = labels_of(spec)
        self._find = find
        self._counter = counter
        self._close_s = close_s
        self._batches = _Batches(most_waiting, spec.flush_at, spec.flush_interval_s)
        self._failing = False
        # A daemon: a server that does not answer must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="langfuse", daemon=True)
        self._thread.start()
        logger.info("answers and ratings go to Langfuse at %s", spec.base_url)

    def interaction(self, record: Interaction) -> None:
        """Send an answer."""
        self._put(record)

    def rating(self, record: Rating) -> None:
        """Send a rating, unless it comes from Langfuse."""
        if record.source != SOURCE:
            self._put(record)

    def tool_run(self, record: ToolRun) -> None:
        """Send a run of a tool."""
        self._put(record)

    def close(self) -> None:
        """Send what waits, as far as that takes no longer than `close_s`."""
        self._closing.set()
        self._batches.end()
        self._thread.join(self._close_s)
        self._lose("closed", len(self._batches.rest()))

    def _put(self, record: Record) -> None:
        if self._closing.is_set() or not self._thread.is_alive():
            self._lose("closed", 1)
        elif not self._batches.put(record):
            self._lose("queue_full", 1)

    def _run(self) -> None:
        with self._client, closing(self._find):
            while batch := self._batches.take():
                self._send_observations(each for each in batch if not isinstance(each, Rating))
                self._send_ratings([each for each in batch if isinstance(each, Rating)])

    def _send_observations(self, records: Iterable[Record]) -> None:
        made = [each for each in map(self._observe, records) if each is not None]
        if made and self._try(lambda: self._client.send_observations(made), len(made)):
            self._counter.on_langfuse_sent(len(made))

    def _observe(self, record: Record) -> Observation | None:
        try:
            match record:
                case Interaction():
                    return observe_answer(record, self._labels)
                case ToolRun():
                    return observe_tool(record, self._labels)
        except QwenkitError as exc:
            self._lose("unusable", 1, exc)
        return None

    def _send_ratings(self, ratings: Sequence[Rating]) -> None:
        by_answer: dict[str, int] = {}
        for rating in ratings:
            by_answer[rating.answer_id] = by_answer.get(rating.answer_id, 0) + 1
        for answer_id, n_ratings in by_answer.items():
            self._send_judgement(answer_id, n_ratings)

    def _send_judgement(self, answer_id: str, n_ratings: int) -> None:
        """Bring what Langfuse has of an answer to what its ratings come to now."""
        try:
            history = self._find(answer_id)
        except QwenkitError as exc:
            self._lose("unusable", n_ratings, exc)
            return
        if history is None:
            self._lose("unusable", n_ratings)
            return
        now = judgement(history.interaction, history.ratings, self._labels.environment)
        refused: list[Refused] = []

        def send() -> None:
            if now.scores:
                refused.extend(self._client.send_scores(now.scores))
            for score_id in now.stale:
                self._client.delete_score(score_id)

        if not self._try(send, n_ratings):
            return
        if refused:
            self._lose("refused", n_ratings, RemoteError(refused[0].why, status=refused[0].status))
        else:
            self._counter.on_langfuse_sent(n_ratings)

    def _try(self, send: Callable[[], None], n_records: int) -> bool:
        try:
            send()
        except RemoteUnreachable as exc:
            self._lose("unreachable", n_records, exc)
            return False
        except (RemoteError, InvalidSettings) as exc:
            self._lose("refused", n_records, exc)
            return False
        if self._failing:
            logger.info("records reach Langfuse again")
        self._failing = False
        return True

    def _lose(self, reason: Lost, n_records: int, failure: QwenkitError | None = None) -> None:
        """Count what is lost; say once why, until it works again."""
        if not n_records:
            return
        self._counter.on_langfuse_lost(reason, n_records)
        if failure is not None and not self._failing:
            logger.warning("records don't reach Langfuse: %s", failure.message)
            self._failing = True


class _Batches:
    """Records that wait, handed out a few at a time."""

    def __init__(self, most_waiting: int, most_together: int, interval_s: float) -> None:
        self._waiting: queue.Queue[Record | None] = queue.Queue(most_waiting)
        self._most_together = most_together
        self._interval_s = interval_s
        self._ended = threading.Event()

    def put(self, record: Record) -> bool:
        """Let a record wait; False where there is no place."""
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            return False
        return True

    def take(self) -> list[Record]:
        """The next records; none at the end. Waits for the first, and a while for more."""
        batch: list[Record] = []
        deadline: float | None = None
        while len(batch) < self._most_together:
            left = None if deadline is None else deadline - time.monotonic()
            try:
                record = self._next(left)
            except queue.Empty:
                break
            if record is None:
                continue
            batch.append(record)
            deadline = deadline or time.monotonic() + self._interval_s
        return batch

    def end(self) -> None:
        """Let `take` hand out what waits, and then nothing."""
        self._ended.set()
        self._wake()

    def _wake(self) -> None:
        """Wake `take` up; where there is no place for it, it does not sleep."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return

    def rest(self) -> list[Record]:
        """What still waits, taken away."""
        found: list[Record] = []
        while True:
            try:
                record = self._waiting.get_nowait()
            except queue.Empty:
                return found
            if record is not None:
                found.append(record)

    def _next(self, left_s: float | None) -> Record | None:
        if self._ended.is_set() or (left_s is not None and left_s <= 0):
            return self._waiting.get_nowait()
        return self._waiting.get(timeout=left_s)
