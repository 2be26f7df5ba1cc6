"""Splits a model's text into reasoning, answer and tool calls while it streams. Pure; no tokens.

What comes out, merged, depends only on the text, never on how it was cut. Rules where the format
leaves room:

- Tags count at *block boundaries*: before anything was said, and behind a closed block, with only
  whitespace between. There `<think>` opens a further block of reasoning and a stray `</think>`
  disappears; within the answer's text both are text. `<tool_call>` counts anywhere in the answer,
  and nowhere in the reasoning.
- A newline behind `<think>`, one before `</think>`, one before `<tool_call>`, and all of them
  behind a block belong to the format and are dropped.
- A tool call without a readable name is text, tags and all. One with a name is a call, whatever
  its arguments look like.
- At the end of the text nothing is invented: what came stays, an unclosed block is what it was.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from enum import Enum, auto

from qwenkit.chat.events import Delta, ReasoningDelta, TextDelta
from qwenkit.chat.hermes import CLOSE, OPEN, CallScanner

_THINK, _END_THINK = "<think>", "</think>"


class _Region(Enum):
    BOUNDARY = auto()
    REASONING = auto()
    TEXT = auto()
    TOOL_CALL = auto()


def new_call_id() -> str:
    """A fresh id for a tool call."""
    return f"call_{secrets.token_hex(12)}"


class StreamParser:
    """Parses one answer.

    Args:
        inside_reasoning: Whether the prompt ends inside an open `<think>` block.
        continues_text: Whether the prompt ends within the answer's text.
        parse_tools: Whether tool calls are told from text; False when no tool was offered.
        new_id: Makes a tool call's id.
    """

    def __init__(
        self,
        *,
        inside_reasoning: bool,
        continues_text: bool = False,
        parse_tools: bool = True,
        new_id: Callable[[], str] = new_call_id,
    ) -> None:
        self.n_calls = 0
        self._region = _Region.TEXT if continues_text else _Region.BOUNDARY
        if inside_reasoning:
            self._region = _Region.REASONING
        self._parse_tools = parse_tools
        self._new_id = new_id
        self._buffer = ""
        self._is_final = False
        self._has_reasoning = False
        self._needs_break = False
        self._skips_newline = False
        self._before_call = ""
        self._scanner = CallScanner(0, new_id)
        self._steps = {
            _Region.BOUNDARY: self._at_boundary,
            _Region.REASONING: self._in_reasoning,
            _Region.TEXT: self._in_text,
            _Region.TOOL_CALL: self._in_tool_call,
        }
        self._deltas: list[Delta] = []

    @property
    def in_text(self) -> bool:
        """Whether the newest text was part of the answer's text."""
        return self._region is _Region.TEXT

    @property
    def holds_text(self) -> bool:
        """Whether something is held back that may become the beginning of the answer's text."""
        return self._region is _Region.BOUNDARY and bool(self._buffer.strip())

    def feed(self, text: str) -> list[Delta]:
        """Take a piece of text; returns what became certain."""
        self._buffer += text
        while self._buffer and self._steps[self._region]():
            pass
        deltas, self._deltas = self._deltas, []
        return deltas

    def flush(self) -> list[Delta]:
        """Take the end of the text; returns what was held back."""
        self._is_final = True
        deltas = self.feed("")
        while self._region is _Region.TOOL_CALL and not self._scanner.is_announced:
            self._leave_tool_call(self._scanner.unannounced)
            deltas += self.feed("")
        if self._region is _Region.TOOL_CALL:
            self.n_calls = self._scanner.n_calls
        return deltas

    def _at_boundary(self) -> bool:
        solid = self._buffer.lstrip()
        tags = {_THINK: _Region.REASONING, _END_THINK: _Region.BOUNDARY}
        if self._parse_tools:
            tags[OPEN] = _Region.TOOL_CALL
        for tag, region in tags.items():
            if solid.startswith(tag):
                self._enter(region, space=self._buffer[: -len(solid)].lstrip("\n"))
                self._buffer = solid[len(tag) :]
                return True
        if not self._is_final and any(tag.startswith(solid) for tag in tags):
            return False
        if not solid:
            self._buffer = ""
            return False
        self._buffer = self._buffer.lstrip("\n")
        self._region = _Region.TEXT
        return True

    def _in_reasoning(self) -> bool:
        if self._skips_newline:
            self._buffer = self._buffer.removeprefix("\n")
            self._skips_newline = False
        before, tag, after = self._split_at(_END_THINK)
        self._think(before)
        self._buffer = after
        if tag:
            self._enter(_Region.BOUNDARY)
        return bool(tag)

    def _in_text(self) -> bool:
        if not self._parse_tools:
            self._say(self._buffer)
            self._buffer = ""
            return False
        before, tag, after = self._split_at(OPEN)
        self._say(before)
        self._buffer = after
        if tag:
            self._enter(_Region.TOOL_CALL, space=tag.removesuffix(OPEN))
        return bool(tag)

    def _split_at(self, tag: str) -> tuple[str, str, str]:
        """Cut the buffer at a tag, a newline before it included; or at what might become one."""
        start = self._buffer.find(tag)
        if start >= 0:
            end = start + len(tag)
            if self._buffer[:start].endswith("\n"):
                start -= 1
            return self._buffer[:start], self._buffer[start:end], self._buffer[end:]
        n_held = 0 if self._is_final else _n_held("\n" + tag, tag, text=self._buffer)
        cut = len(self._buffer) - n_held
        return self._buffer[:cut], "", self._buffer[cut:]

    def _in_tool_call(self) -> bool:
        position = 0
        while item := self._item_at(position):
            position += len(item)
            rest = self._scanner.feed(item)
            if self._scanner.is_done:
                self._leave_tool_call(rest + self._buffer[position:])
                return True
        self._buffer = self._buffer[position:]
        self._deltas += self._scanner.take()
        return False

    def _item_at(self, position: int) -> str:
        """A character or the closing tag; empty where the tag may still be incomplete."""
        possible_tag = self._buffer[position : position + len(CLOSE)]
        if possible_tag == CLOSE:
            return CLOSE
        if CLOSE.startswith(possible_tag) and not self._is_final:
            return ""
        return possible_tag[:1]

    def _leave_tool_call(self, rest: str) -> None:
        self._deltas += self._scanner.take()
        self._buffer = rest
        self._region = _Region.BOUNDARY
        if self._scanner.n_calls == self.n_calls:
            self._say(self._before_call + OPEN)
            self._region = _Region.TEXT
        self.n_calls = self._scanner.n_calls

    def _enter(self, region: _Region, *, space: str = "") -> None:
        self._region = region
        if region is _Region.REASONING:
            self._skips_newline = True
            self._needs_break = self._has_reasoning
        elif region is _Region.TOOL_CALL:
            self._before_call = space
            self._scanner = CallScanner(self.n_calls, self._new_id)

    def _think(self, text: str) -> None:
        if text:
            self._deltas.append(ReasoningDelta("\n" + text if self._needs_break else text))
            self._has_reasoning = True
            self._needs_break = False

    def _say(self, text: str) -> None:
        if text:
            self._deltas.append(TextDelta(text))


def _n_held(*tags: str, text: str) -> int:
    """Length of the longest end of `text` that a tag begins with."""
    longest = min(len(text), max(map(len, tags)) - 1)
    ends = (n for n in range(longest, 0, -1) if any(tag.startswith(text[-n:]) for tag in tags))
    return next(ends, 0)
