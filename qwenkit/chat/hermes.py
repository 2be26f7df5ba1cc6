"""Reads tool calls in Hermes' format, the one Qwen3 writes. Knows one block's body, nothing else.

    {"name": "…", "arguments": {…}}        between `<tool_call>` and `</tool_call>`

The body comes in *items*: one character each, or the whole closing tag. A call is announced when
its name is known, and its arguments are passed on as they come, character for character.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator

from qwenkit.chat.events import Delta, ToolCallDelta, ToolCallStarted

OPEN, CLOSE = "<tool_call>", "</tool_call>"

_SPACE = " \t\r\n"
_ARGUMENTS = ("arguments", "parameters")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}

_Write = Callable[[str], object]
_Steps = Generator[None, str, str]


class _Unexpected(Exception):
    """An item that can't stand where it stands."""

    def __init__(self, item: str) -> None:
        super().__init__(item)
        self.item = item


class CallScanner:
    """Reads one block.

    What models get wrong is borne: a missing or surplus brace, a missing closing tag, several
    calls in one block, arguments before the name, arguments as a string that holds an object.

    Args:
        index: Index of the block's first call.
        new_id: Makes a call's id.
    """

    def __init__(self, index: int, new_id: Callable[[], str]) -> None:
        self.n_calls = index
        self.is_done = False
        self._new_id = new_id
        self._deltas: list[Delta] = []
        self._name = ""
        self._read: list[str] = []
        self._arguments: list[str] = []
        self._has_arguments = False
        self._steps = self._block()
        next(self._steps)

    def feed(self, item: str) -> str:
        """Read one character, or `CLOSE`.

        Returns:
            Empty, or once the block is done the text that belongs to the answer after all: an
            item that can't be part of the block, or all of a call that has no name.
        """
        if not self._name:
            self._read.append(item)
        try:
            self._steps.send(item)
        except StopIteration as stop:
            rest = str(stop.value)
        except _Unexpected as unexpected:
            rest = self.unannounced or unexpected.item
            self._end_call()
        else:
            return ""
        self.is_done = True
        return "" if self._name and rest == CLOSE else rest

    @property
    def is_announced(self) -> bool:
        """Whether the name of the newest call is known."""
        return bool(self._name)

    @property
    def unannounced(self) -> str:
        """What was read of a call whose name isn't known yet."""
        return "" if self._name else "".join(self._read)

    def take(self) -> list[Delta]:
        """The deltas since the last time."""
        if self._name and self._arguments:
            self._deltas.append(ToolCallDelta(self.n_calls - 1, "".join(self._arguments)))
            self._arguments.clear()
        deltas, self._deltas = self._deltas, []
        return deltas

    def _block(self) -> _Steps:
        item = yield from _solid()
        if item != "{":
            raise _Unexpected(item)
        while item == "{":
            self._begin_call()
            yield from self._call()
            self._end_call()
            item = yield from _solid()
            while item == "}":
                item = yield from _solid()
        return item

    def _call(self) -> _Steps:
        item = yield from _solid()
        while item != "}":
            if item == ",":
                item = yield from _solid()
                continue
            key = yield from _string(item)
            colon = yield from _solid()
            if colon != ":":
                raise _Unexpected(colon)
            item = yield from self._member(key)
        if not self._name:
            raise _Unexpected(item)
        return item

    def _member(self, key: str) -> _Steps:
        item = yield from _solid()
        if key == "name" and not self._name:
            name = yield from _string(item)
            self._announce(name)
            return (yield from _solid())
        if key not in _ARGUMENTS or self._has_arguments:
            return (yield from _value(item, _ignore))
        if item != '"':
            return (yield from _value(item, self._write))
        yield from _string_of_json(self._write)
        return (yield from _solid())

    def _begin_call(self) -> None:
        self._deltas = self.take()
        if self._name:
            self._read = ["{"]
        self._name = ""
        self._has_arguments = False

    def _announce(self, name: str) -> None:
        if not name:
            raise _Unexpected('"')
        self._name = name
        self._deltas.append(ToolCallStarted(self.n_calls, self._new_id(), name))
        self.n_calls += 1

    def _write(self, text: str) -> None:
        self._arguments.append(text)
        self._has_arguments = True

    def _end_call(self) -> None:
        if self._name and not self._has_arguments:
            self._write("{}")


def _solid() -> _Steps:
    item = yield
    while item in _SPACE:
        item = yield
    return item


def _value(item: str, write: _Write) -> _Steps:
    """Pass on a JSON value that begins with `item`; returns the first solid item behind it."""
    depth = 0
    while True:
        if item == CLOSE:
            raise _Unexpected(item)
        if depth == 0 and (item in _SPACE or item in ",}"):
            return (yield from _solid()) if item in _SPACE else item
        write(item)
        if item == '"':
            yield from _rest_of_string(write)
        depth += (item in "{[") - (item in "}]")
        if depth == 0 and item in "}]":
            return (yield from _solid())
        item = yield


def _rest_of_string(write: _Write) -> _Steps:
    """Pass on a JSON string behind its opening quote, the closing one included."""
    return (yield from _string_from((yield), write))


def _string_from(item: str, write: _Write) -> _Steps:
    previous = ""
    while item != '"':
        _check_in_string(item, previous)
        write(item)
        if item == "\\":
            escaped = yield
            write(escaped)
        previous = item
        item = yield
    write(item)
    return item


def _check_in_string(item: str, previous: str) -> None:
    # JSON strings hold no raw newline: behind one the closing tag is meant, and the quote missing.
    if item == CLOSE and previous == "\n":
        raise _Unexpected(item)


def _string(item: str) -> _Steps:
    """Read a JSON string that begins with `item`."""
    if item != '"':
        raise _Unexpected(item)
    text = ['"']
    yield from _rest_of_string(text.append)
    try:
        value = str(json.loads("".join(text), strict=False))
        value.encode("utf-8")
    except ValueError:
        raise _Unexpected('"') from None
    return value


def _string_of_json(write: _Write) -> _Steps:
    """Pass on a string behind its opening quote: the object it holds, or else as it is written."""
    item = yield
    if item != "{":
        write('"')
        return (yield from _string_from(item, write))
    previous = ""
    while item != '"':
        _check_in_string(item, previous)
        write((yield from _escape()) if item == "\\" else item)
        previous = item
        item = yield
    return item


def _escape() -> _Steps:
    """Read an escape behind its backslash.

    Half a surrogate pair stays an escape: inside the inner JSON text it means the same there.
    """
    item = yield
    if item != "u":
        return _ESCAPES.get(item, "\\" + item)
    digits = ""
    for _ in range(4):
        digits += yield
    try:
        character = chr(int(digits, 16))
        character.encode("utf-8")
    except ValueError:
        return "\\u" + digits
    return character


def _ignore(text: str) -> None:
    """Write to nowhere."""
