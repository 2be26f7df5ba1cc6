"""Reads the log's lines while others write them. Knows files and records; no database.

A file is never trusted: lines may be cut off, foreign or endless. What can't be read is skipped
and reported with its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from qwenkit.errors import InvalidRecord
from qwenkit.feedback.records import Record, decode
from qwenkit.feedback.segments import segments

MAX_LINE_BYTES = 64 * 1024 * 1024
CUT_OFF = "has no end: its writer was killed, or still writes"
TOO_LONG = f"is longer than {MAX_LINE_BYTES // 1024 // 1024} MiB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A line that was not read.

    Args:
        file: Where it is.
        line: Its number, from 1.
        why: What is wrong with it.
    """

    file: Path
    line: int
    why: str


OnSkip: TypeAlias = Callable[[Skipped], None]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file.

    Args:
        text: Its bytes, without the newline; None where it is too long.
        offset: Where it begins, in bytes.
        end: Where the next one begins; None where it has no end yet.
    """

    text: bytes | None
    offset: int
    end: int | None


def read_log(folder: Path, *, on_skip: OnSkip = lambda _: None) -> Iterator[Record]:
    """Every record of a log, in the order they were written in.

    Args:
        folder: The log's.
        on_skip: Told of every line that is none.
    """
    for segment in segments(folder):
        yield from read_file(segment.path, on_skip=on_skip)


def read_file(path: Path, *, on_skip: OnSkip = lambda _: None) -> Iterator[Record]:
    """Every record of one file; none where it is gone."""
    for number, line in enumerate(lines(path), start=1):
        try:
            record = record_of(line)
        except InvalidRecord as exc:
            on_skip(Skipped(file=path, line=number, why=exc.message))
            continue
        if record is not None:
            yield record


def record_of(line: Line) -> Record | None:
    """The record of a line; None where it is blank.

    Raises:
        InvalidRecord: It holds none.
    """
    if line.end is None:
        raise InvalidRecord(CUT_OFF)
    if line.text is None:
        raise InvalidRecord(TOO_LONG)
    return decode(line.text) if line.text.strip() else None


def lines(path: Path, offset: int = 0, *, max_bytes: int = MAX_LINE_BYTES) -> Iterator[Line]:
    """The lines of a file from an offset, with their places; none where it is gone."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        while text := file.readline(max_bytes + 1):
            too_long = len(text) > max_bytes
            while too_long and not text.endswith(b"\n"):
                text = file.readline(max_bytes)
                if not text:
                    break
            end = file.tell() if text.endswith(b"\n") else None
            yield Line(None if too_long else text.removesuffix(b"\n"), offset, end)
            if end is None:
                return
            offset = end
