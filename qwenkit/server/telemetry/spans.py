"""A span, and which one this is done inside of. Knows OpenTelemetry only by what it is handed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["server", "client", "internal"]
Value: TypeAlias = str | bool | int | float | Sequence[str] | None
"""Of an attribute; None is left out."""

_current: ContextVar[Span | None] = ContextVar("span", default=None)


def current_span() -> Span | None:
    """The span that this is done inside of; None where nothing is traced."""
    return _current.get()


@contextmanager
def entered(span: Span) -> Iterator[Span]:
    """Do what is in the context inside of a span, and end it."""
    before = _current.set(span)
    try:
        yield span
    except BaseException as exc:
        span.fail(error_type(exc))
        raise
    finally:
        span.end()
        _current.reset(before)


@contextmanager
def inside(
    name: str, attributes: Mapping[str, Value], *, kind: Kind = "internal"
) -> Iterator[Span | None]:
    """Do what is in the context inside of a new span; of none where nothing is traced."""
    parent = _current.get()
    if parent is None:
        yield None
        return
    with entered(parent.begin(name, attributes, kind=kind)) as span:
        yield span


def add_past(
    name: str,
    attributes: Mapping[str, Value],
    *,
    seconds: float,
    error: str | None = None,
    kind: Kind = "internal",
) -> None:
    """Add a span of something that is over and took so long; nothing where nothing is traced."""
    parent = _current.get()
    if parent is None:
        return
    ended_at = time.time_ns()
    span = parent.begin(name, attributes, kind=kind, start_ns=ended_at - round(seconds * 1e9))
    if error is not None:
        span.fail(error)
    span.end(ended_at)


def error_type(exc: BaseException) -> str:
    """What `error.type` says of an exception."""
    gone = isinstance(exc, asyncio.CancelledError | GeneratorExit)
    return "cancelled" if gone else type(exc).__name__


@dataclass(frozen=True, slots=True)
class Api:
    """What of OpenTelemetry is needed to make spans.

    Args:
        trace: The module `opentelemetry.trace`.
        context: The class of contexts.
        tracer: Makes spans.
    """

    trace: Any
    context: Any
    tracer: Any

    def begin(
        self,
        name: str,
        attributes: Mapping[str, Value],
        *,
        kind: Kind,
        parent: Any,
        start_ns: int | None,
    ) -> Span:
        """A new span inside of another.

        Args:
            parent: A context that holds it.
            start_ns: When it began, in nanoseconds since 1970; None is now.
        """
        made = self.tracer.start_span(
            name,
            context=parent,
            kind=self.trace.SpanKind[kind.upper()],
            attributes=_known(attributes),
            start_time=start_ns,
        )
        return Span(self, made)


class Span:
    """A span that has begun.

    Args:
        api: Makes others.
        span: OpenTelemetry's.
    """

    def __init__(self, api: Api, span: Any) -> None:
        self._api = api
        self._span = span

    @property
    def ids(self) -> tuple[str, str]:
        """The trace's id and its own, in hexadecimal."""
        place = self._span.get_span_context()
        return f"{place.trace_id:032x}", f"{place.span_id:016x}"

    def begin(
        self,
        name: str,
        attributes: Mapping[str, Value],
        *,
        kind: Kind = "internal",
        start_ns: int | None = None,
    ) -> Span:
        """A new span inside of this one."""
        api = self._api
        # An empty context: what other libraries keep in theirs is none of ours.
        parent = api.trace.set_span_in_context(self._span, api.context())
        return api.begin(name, attributes, kind=kind, parent=parent, start_ns=start_ns)

    def rename(self, name: str) -> None:
        """Call it otherwise."""
        self._span.update_name(name)

    def note(self, attributes: Mapping[str, Value]) -> None:
        """Add attributes."""
        self._span.set_attributes(_known(attributes))

    def fail(self, error: str) -> None:
        """Say that it failed, by `error.type`."""
        self._span.set_attribute("error.type", error)
        self._span.set_status(self._api.trace.StatusCode.ERROR)

    def end(self, end_ns: int | None = None) -> None:
        """It is over, now or at a time in nanoseconds since 1970."""
        self._span.end(end_ns)


def _known(attributes: Mapping[str, Value]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
