"""How the server's log is written: a line for people, or a JSON object for programs. Knows logging.

What other packages log takes the same form. A traceback says where something failed and what kind
of failure it was. The words of a failure are in it too, but for those of pydantic's, which repeat
what was sent.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, TypeAlias

from pydantic import ValidationError

from qwenkit.server.telemetry.spans import current_span
from qwenkit.server.tracing import request_id

Format: TypeAlias = Literal["text", "json"]

OURS = "qwenkit"
FIELDS = (
    "method",
    "route",
    "status",
    "duration_s",
    "request_bytes",
    "response_bytes",
    "client",
)
"""What a record may carry beside its message; nothing else of it is written."""

logger = logging.getLogger(OURS)


@contextmanager
def written_to(stream: TextIO, *, form: Format, level: str) -> Iterator[None]:
    """Write the log to a stream as long as the context is open.

    Args:
        stream: Gets the lines.
        form: `text` or `json`.
        level: The least that is written of our own: `debug`, `info`, `warning` or `error`. Of
            other packages it is `warning` or more: below that they may tell addresses with keys in
            them.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    least = logging.getLevelNamesMapping()[level.upper()]
    root = logging.getLogger()
    levels = root.level, logger.level
    hooks = threading.excepthook, sys.unraisablehook
    root.addHandler(handler)
    root.setLevel(max(least, logging.WARNING))
    logger.setLevel(least)
    logging.captureWarnings(True)
    threading.excepthook, sys.unraisablehook = _log_thread_failure, _log_unraisable
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = hooks
        logging.captureWarnings(False)
        root.setLevel(levels[0])
        logger.setLevel(levels[1])
        root.removeHandler(handler)
        handler.flush()


def _log_thread_failure(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is not None:
        name = failed.thread.name if failed.thread is not None else "a thread"
        logger.critical("%s ended on an internal error", name, exc_info=failed.exc_value)


def _log_unraisable(failed: sys.UnraisableHookArgs) -> None:
    # Python's own words would be several lines, and show the object with what it holds.
    if failed.exc_value is not None:
        logger.error("a failure that nobody could be told of", exc_info=failed.exc_value)


class TextLines(logging.Formatter):
    """Lines for people; whatever a message holds, it stays on its line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        at = datetime.fromtimestamp(record.created).astimezone()
        head = f"{at:%Y-%m-%d %H:%M:%S} {record.levelname.lower():8} {record.name}"
        lines = [f"{head}: {_one_line(_message(record))}{_request()}"]
        if (exc := _exception(record)) is not None:
            lines += (f"  {line}" for line in story(exc).splitlines())
        return "\n".join(lines)


class JsonLines(logging.Formatter):
    """An object a line, for programs."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **_place(),
            **{name: vars(record)[name] for name in FIELDS if name in vars(record)},
        }
        if (exc := _exception(record)) is not None:
            line["exception"] = {"type": _kind(exc), "message": _words(exc), "stack": story(exc)}
        return json.dumps(line, default=str)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        # Else logging itself would print several lines, the arguments among them.
        return f"{record.msg} (with values that do not fit)"


def _place() -> dict[str, str]:
    """Which request and which span this is logged in."""
    place: dict[str, str] = {}
    if (own_id := request_id()) is not None:
        place["request_id"] = own_id
    if (span := current_span()) is not None:
        place["trace_id"], place["span_id"] = span.ids
    return place


def _request() -> str:
    own_id = request_id()
    return "" if own_id is None else f" [{own_id}]"


def _one_line(text: str) -> str:
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _exception(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None


def story(exc: BaseException) -> str:
    """An exception's traceback, and those of what led to it."""
    return _story(exc, frozenset())


def _story(exc: BaseException, told: frozenset[int]) -> str:
    told = told | {id(exc)}  # exceptions can lead to each other in a circle
    before = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    is_new = before is not None and id(before) not in told
    parts = [_story(before, told), "which led to"] if before is not None and is_new else []
    parts.append("Traceback (most recent call last):")
    parts.append("".join(traceback.format_tb(exc.__traceback__)).rstrip())
    words = _words(exc)
    parts.append(f"{_kind(exc)}: {words}" if words else _kind(exc))
    if isinstance(exc, BaseExceptionGroup):
        parts += (_story(each, told) for each in exc.exceptions)
    return "\n".join(part for part in parts if part)


def _kind(exc: BaseException) -> str:
    kind = type(exc)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _words(exc: BaseException) -> str:
    if isinstance(exc, ValidationError):
        found = exc.errors(include_input=False, include_url=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found)
    return str(exc)
