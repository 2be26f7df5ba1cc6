"""Appends records to the log: whole lines, from any number of processes. Knows files and locks.

A record is one write to a file that is opened for appending and locked meanwhile. A process killed
in it leaves at most one line without an end, which the next writer ends. A write that fails is
taken back.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from qwenkit.errors import InvalidRecord, LogUnwritable, QwenkitError
from qwenkit.feedback.reader import MAX_LINE_BYTES, TOO_LONG
from qwenkit.feedback.records import Interaction, Rating, Record, ToolRun, decode, encode
from qwenkit.feedback.redaction import Redactor
from qwenkit.feedback.segments import Segment, segments

logger = logging.getLogger(__name__)

FOLDER = "feedback"
"""The log's folder in LOG_DIR."""
MAX_BYTES = 64 * 1024 * 1024
LOCK_TIMEOUT_S = 2.0
LOCK_PAUSE_S = 0.0001
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Clock: TypeAlias = Callable[[], datetime]


class FeedbackLog:
    """The log of answers and ratings, for writing. May be shared by threads.

    Args:
        folder: Where its files are; made when the first record is written.
        redact: Takes out what must not be kept.
        content: Whether messages, answers and what tools got and gave are kept.
        keep_days: Days after which `prune` deletes a file; None keeps all.
        max_bytes: Size at which a day's next file begins.
        lock_timeout_s: Longest wait for other writers.
        clock: Tells the time.
    """

    def __init__(
        self,
        folder: Path,
        *,
        redact: Redactor | None = None,
        content: bool = True,
        keep_days: int | None = None,
        max_bytes: int = MAX_BYTES,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        clock: Clock = lambda: datetime.now(UTC),
    ) -> None:
        self.folder = folder
        self.n_lost = 0
        self._redact = redact or Redactor()
        self._content = content
        self._keep_days = keep_days
        self._max_bytes = max_bytes
        self._lock_timeout_s = lock_timeout_s
        self._clock = clock
        self._turn = threading.Lock()
        self._file: _File | None = None

    def interaction(self, record: Interaction) -> None:
        """Append an answer; one that can't be written is counted in `n_lost` and reported."""
        self._append_if_possible(record)

    def rating(self, record: Rating) -> None:
        """Append a rating.

        Raises:
            LogUnwritable: It was not written.
            InvalidRecord: It is none that could be read again.
        """
        decode(encode(record))
        self.append(record)

    def tool_run(self, record: ToolRun) -> None:
        """Append a run of a tool; one that can't be written is counted and reported."""
        self._append_if_possible(record)

    def append(self, record: Record) -> None:
        """Append any record; it is in the file when this returns.

        Raises:
            LogUnwritable: It was not written.
            InvalidRecord: It has no form in JSON, or a line too long to read.
        """
        kept = record if self._content else without_content(record)
        line = f"{encode(self._redact(kept))}\n".encode()
        if len(line) > MAX_LINE_BYTES:
            raise InvalidRecord(f"{record.kind} {record.id!r} {TOO_LONG}, which nobody would read")
        with self._turn:
            self._write(line)

    def prune(self) -> tuple[Path, ...]:
        """Delete files older than `keep_days`; returns which.

        Raises:
            LogUnwritable: One can't be deleted.
        """
        if self._keep_days is None:
            return ()
        oldest = self._today() - timedelta(days=self._keep_days)
        old = [each for each in segments(self.folder) if each.day < oldest]
        for each in old:
            with _told(each), suppress(FileNotFoundError):
                each.path.unlink()
        return tuple(each.path for each in old)

    def close(self) -> None:
        """Close the file."""
        with self._turn:
            self._let_go()

    def _append_if_possible(self, record: Record) -> None:
        try:
            self.append(record)
        except QwenkitError as exc:
            self.n_lost += 1
            logger.error("%s %s is not in the log: %s", record.kind, record.id, exc.message)

    def _today(self) -> date:
        return self._clock().astimezone(UTC).date()

    def _write(self, line: bytes) -> None:
        segment = self._current()
        while True:
            with _told(segment):
                file = self._opened(segment)
                with file.locked(self._lock_timeout_s) as size:
                    if size is not None and self._has_room(size, line):
                        file.append(line, size)
                        return
            if size is None:
                self._let_go()
            else:
                segment = segment.next

    def _has_room(self, size: int, line: bytes) -> bool:
        return size == 0 or size + len(line) <= self._max_bytes

    def _current(self) -> Segment:
        """The file of today to begin with; it may turn out to be full."""
        today = self._today()
        if self._file is not None and self._file.segment.day == today:
            return self._file.segment
        of_today = [each for each in segments(self.folder) if each.day == today]
        return of_today[-1] if of_today else Segment(today, 0, self.folder)

    def _opened(self, segment: Segment) -> _File:
        file = self._file
        # A lock belongs to what was opened, which a forked process shares with its parent.
        if file is None or file.segment != segment or file.process != os.getpid():
            self._let_go()
            file = self._file = _File(segment)
        return file

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class _File:
    """An open file of the log."""

    def __init__(self, segment: Segment) -> None:
        segment.folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self.segment = segment
        self.process = os.getpid()
        self._handle = os.open(segment.path, flags, 0o600)

    @contextmanager
    def locked(self, timeout_s: float) -> Iterator[int | None]:
        """Keep other writers out; gives the size in bytes, or None where it was deleted."""
        self._lock(timeout_s)
        try:
            status = os.fstat(self._handle)
            yield status.st_size if status.st_nlink else None
        finally:
            fcntl.flock(self._handle, fcntl.LOCK_UN)

    def append(self, line: bytes, size: int) -> None:
        """Write a line behind the last, which is ended first if it was cut off."""
        is_cut_off = size > 0 and os.pread(self._handle, 1, size - 1) != b"\n"
        left = b"\n" + line if is_cut_off else line
        try:
            while left:
                left = left[os.write(self._handle, left) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._handle, size)
            raise

    def close(self) -> None:
        """Close it."""
        os.close(self._handle)

    def _lock(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LogUnwritable(
                        f"another process keeps `{self.segment.path}` locked",
                        hint="look for a process that is stopped or hangs",
                    ) from None
                time.sleep(LOCK_PAUSE_S)


@contextmanager
def _told(segment: Segment) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        full = exc.errno in _FULL
        raise LogUnwritable(
            f"`{segment.path}` can't be written: {exc.strerror}",
            hint="free some space on its disk, or set LOG_DIR to another folder"
            if full
            else "make it writable, or set LOG_DIR to another folder",
        ) from exc


def without_content(record: Record) -> Record:
    """A record of an answer or of a tool without what was said, asked and done; ratings stay."""
    match record:
        case Interaction():
            options = replace(record.options, stop=(), template_kwargs=None, response_format=None)
            return replace(
                record, messages=None, prompt=None, tools=(), answer=None, options=options
            )
        case ToolRun():
            return replace(record, arguments=None, result=None)
        case Rating():
            return record
