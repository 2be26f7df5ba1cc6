"""Shows an answer while it comes: Markdown on a terminal, plain text elsewhere, or JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO

from qwenkit.chat.events import (
    ChatEvent,
    ChoiceDelta,
    Delta,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolCallStarted,
)
from qwenkit.cli import console
from qwenkit.cli.chat.answer import delta_as_json
from qwenkit.cli.chat.markdown import BlockSplitter


class Renderer(Protocol):
    """Shows the pieces of one answer."""

    def showing(self) -> AbstractContextManager[object]:
        """Begin; leaving the context ends the answer, whole or not."""

    def show(self, delta: Delta) -> None:
        """Show a piece."""


def show_event(renderer: Renderer, event: ChatEvent) -> None:
    """Show what an event adds to the answer."""
    if isinstance(event, ChoiceDelta):
        for delta in event.deltas:
            renderer.show(delta)


class TerminalRenderer:
    """Markdown that forms as it comes, below dim reasoning."""

    def __init__(self) -> None:
        self._area = console.LiveArea()
        self._blocks = BlockSplitter()
        self._reasoning = ""
        self._call = ""

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Begin; leaving the context prints what was still growing."""
        with self._area:
            try:
                yield
            finally:
                self._finish()

    def show(self, delta: Delta) -> None:
        """Show a piece."""
        match delta:
            case ReasoningDelta(text):
                *lines, self._reasoning = (self._reasoning + text).split("\n")
                for line in lines:
                    self._area.keep_dim(line)
                self._area.preview_dim(self._reasoning)
            case TextDelta(text):
                self._end_reasoning()
                for block in self._blocks.feed(text):
                    self._area.keep_markdown(block)
                self._area.preview_markdown(self._blocks.tail)
            case ToolCallStarted(_, _, name):
                self._finish()
                self._call = f"→ {name} "
            case ToolCallDelta(_, arguments):
                self._call += arguments
                self._area.preview_dim(self._call)

    def _end_reasoning(self) -> None:
        if self._reasoning:
            self._area.keep_dim(self._reasoning + "\n")
            self._reasoning = ""

    def _finish(self) -> None:
        self._end_reasoning()
        for block in self._blocks.finish():
            self._area.keep_markdown(block)
        if self._call:
            self._area.keep_dim(self._call)
            self._call = ""


class PlainRenderer:
    """The answer as it is on stdout, its reasoning on stderr."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._last = ""
        self._reasoned = False
        self._called = False

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Begin; leaving the context ends the last line."""
        try:
            yield
        finally:
            self._end_line()

    def show(self, delta: Delta) -> None:
        """Show a piece."""
        match delta:
            case TextDelta(text):
                self._end_reasoning()
                _write(sys.stdout, text)
                self._last = text or self._last
            case ReasoningDelta(text) if not self._quiet:
                self._reasoned = True
                _write(sys.stderr, console.printable(text))
            case ToolCallStarted(_, _, name):
                self._called = True
                if not self._quiet:
                    self._end_reasoning()
                    _write(sys.stderr, f"→ {console.printable(name)} ")
                    self._reasoned = True
            case ToolCallDelta(_, arguments) if not self._quiet:
                _write(sys.stderr, console.printable(arguments))

    def _end_reasoning(self) -> None:
        if self._reasoned:
            _write(sys.stderr, "\n")
            self._reasoned = False

    def _end_line(self) -> None:
        self._end_reasoning()
        only_called = self._called and not self._last
        if not self._last.endswith("\n") and not only_called:
            _write(sys.stdout, "\n")


class JsonLinesRenderer:
    """One JSON object a piece on stdout."""

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Begin; there is nothing to end."""
        yield

    def show(self, delta: Delta) -> None:
        """Print a piece."""
        console.print_json_line(delta_as_json(delta))


class SilentRenderer:
    """Shows nothing: the whole answer is printed at its end."""

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Begin; there is nothing to end."""
        yield

    def show(self, delta: Delta) -> None:
        """Ignore a piece."""


def _write(stream: TextIO, text: str) -> None:
    stream.write(text)
    stream.flush()
