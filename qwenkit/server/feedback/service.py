"""The log of one server: what is written, what may be read, what is deleted. Knows no HTTP."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, TypeVar

from fastapi import Depends, Request

from qwenkit.errors import EngineBusy, QwenkitError
from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.log import MAX_BYTES, FeedbackLog, without_content
from qwenkit.feedback.records import Interaction, Rating, Record, ToolRun
from qwenkit.feedback.redaction import Redactor, redactor
from qwenkit.server.recording import LOG, Prepare, Recorder

logger = logging.getLogger(__name__)

MAX_EXPORTS = 4
EXPORT_RETRY_S = 10.0

Answers: TypeAlias = Literal["full", "metadata", "off"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackPlan:
    """What the settings say of the log.

    Args:
        folder: Where its files are.
        answers: What is kept of answers.
        redact: Names of patterns that are taken out.
        redact_file: File with more patterns.
        keep_days: Days after which a file is deleted; None keeps all.
        max_bytes: Size at which a day goes on in another file.
    """

    folder: Path
    answers: Answers = "full"
    redact: Sequence[str] = ()
    redact_file: Path | None = None
    keep_days: int | None = None
    max_bytes: int = MAX_BYTES


class Feedback:
    """The log of one server.

    Args:
        plan: What the settings say.
        recorder: Gets the log as its sink.

    Raises:
        InvalidSettings: There is no such pattern, or their file can't be used.
    """

    def __init__(self, plan: FeedbackPlan, recorder: Recorder) -> None:
        self.recorder = recorder
        self.plan = plan
        self._index: FeedbackIndex | None = None
        self._opening = threading.Lock()
        self._n_exports = 0
        self._log: FeedbackLog | None = None
        self.take_on(plan)

    def index(self) -> FeedbackIndex:
        """Finds what is in the log; opened when it is first asked for. Any thread may ask.

        Raises:
            LogUnreadable: It can't be opened.
        """
        with self._opening:
            if self._index is None:
                self._index = FeedbackIndex(self.plan.folder)
            return self._index

    def take_on(self, plan: FeedbackPlan) -> None:
        """Keep what another plan of the same folder says from now on.

        Raises:
            InvalidSettings: There is no such pattern, or their file can't be used.
        """
        self.recorder.prepare = _prepare(plan, redactor(plan.redact, file=plan.redact_file))
        self.plan = plan
        if plan.answers == "off":
            self.recorder.detach(LOG)
            self._log = None
            return
        self._log = FeedbackLog(plan.folder, keep_days=plan.keep_days, max_bytes=plan.max_bytes)
        self.recorder.attach(LOG, LogSink(self._log))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Delete what is too old, now and every day, as long as the context is open."""
        pruning = asyncio.create_task(self._prune_daily(), name="feedback retention")
        try:
            yield
        finally:
            pruning.cancel()
            await asyncio.wait({pruning})

    async def close(self) -> None:
        """Let the log have what waits for it, and close it."""
        await self.recorder.close()
        if self._index is not None:
            await asyncio.to_thread(self._index.close)

    async def look_up(self, find: Callable[[FeedbackIndex], T]) -> T:
        """What there is in the log now, found aside.

        Raises:
            LogUnreadable: It can't be read.
        """

        def found() -> T:
            index = self.index()
            index.refresh()
            return find(index)

        return await asyncio.to_thread(found)

    @contextmanager
    def exporting(self) -> Iterator[None]:
        """A place among the exports that run at once.

        Raises:
            EngineBusy: All are taken.
        """
        if self._n_exports >= MAX_EXPORTS:
            raise EngineBusy(f"{MAX_EXPORTS} exports run already", retry_after_s=EXPORT_RETRY_S)
        self._n_exports += 1
        try:
            yield
        finally:
            self._n_exports -= 1

    async def prune(self) -> None:
        """Delete what is too old; a failure is logged."""
        log = self._log
        if log is None:
            return
        try:
            deleted = await asyncio.to_thread(log.prune)
        except QwenkitError as exc:
            logger.warning("old logs could not be deleted: %s", exc.message)
            return
        if deleted:
            logger.info("deleted %d files of the feedback log", len(deleted))

    async def _prune_daily(self) -> None:
        while True:
            await self.prune()
            await asyncio.sleep(seconds_to_next_day(datetime.now(UTC)))


class LogSink:
    """The log as a sink that says so when a record could not be written.

    Args:
        log: Writes.
    """

    def __init__(self, log: FeedbackLog) -> None:
        self._log = log

    def interaction(self, record: Interaction) -> None:
        """Append an answer.

        Raises:
            LogUnwritable: It was not written.
        """
        self._log.append(record)

    def rating(self, record: Rating) -> None:
        """Append a rating.

        Raises:
            LogUnwritable: It was not written.
        """
        self._log.append(record)

    def tool_run(self, record: ToolRun) -> None:
        """Append a run of a tool.

        Raises:
            LogUnwritable: It was not written.
        """
        self._log.append(record)

    def close(self) -> None:
        """Close the file."""
        self._log.close()


def seconds_to_next_day(moment: datetime) -> float:
    """Seconds until the log's next day begins, in UTC."""
    tomorrow = (moment.astimezone(UTC) + timedelta(days=1)).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    return (tomorrow - moment).total_seconds()


def _prepare(plan: FeedbackPlan, redact: Redactor) -> Prepare:
    def without_and_redacted(record: Record) -> Record:
        return redact(without_content(record))

    return redact if plan.answers == "full" else without_and_redacted


def _feedback_of(request: Request) -> Feedback:
    feedback: Feedback = request.app.state.feedback
    return feedback


FeedbackNow = Annotated[Feedback, Depends(_feedback_of)]
"""A dependency of routes: the server's log."""
