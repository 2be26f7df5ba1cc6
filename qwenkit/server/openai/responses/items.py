"""The items that an answer is made of while it is written. Pure; knows no order and no numbers.

    opening ─▶ feed, feed, … ─▶ closing

Each of these says what a stream tells, and `json` what the item is now. What is told is an event's
name without `response.`, and its fields without those that all events of an item have.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from qwenkit.engine.request import Logprobs
from qwenkit.server.openai.chat_answer import logprobs_json

JsonObject: TypeAlias = dict[str, Any]
Told: TypeAlias = tuple[str, JsonObject]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


def item_id(prefix: str) -> str:
    """A fresh id of an item (`msg_…`)."""
    return f"{prefix}_{uuid.uuid4().hex}"


@dataclass(frozen=True, slots=True)
class ToolName:
    """A tool as the client knows it.

    Args:
        name: What the client calls it.
        namespace: The group that the client put it in.
        custom: Whether it takes a text instead of a JSON object.
    """

    name: str
    namespace: str | None = None
    custom: bool = False


class Item(Protocol):
    """An item that is being written."""

    @property
    def id(self) -> str:
        """Unique."""

    def opening(self) -> Iterator[Told]:
        """That it begins."""

    def closing(self, status: ItemStatus) -> Iterator[Told]:
        """That it has ended."""

    def json(self, status: ItemStatus) -> JsonObject:
        """What there is of it."""


class ReasoningItem:
    """The thinking.

    Args:
        summarised: Give it as the summary, too.
    """

    def __init__(self, *, summarised: bool) -> None:
        self.id = item_id("rs")
        self._summarised = summarised
        self._pieces: list[str] = []

    def opening(self) -> Iterator[Told]:
        """See `Item`."""
        yield "output_item.added", {"item": self._json("in_progress", [], [])}
        if self._summarised:
            yield "reasoning_summary_part.added", {"summary_index": 0, "part": _summary("")}
        yield "content_part.added", {"content_index": 0, "part": _thought("")}

    def feed(self, text: str) -> Iterator[Told]:
        """A piece more."""
        self._pieces.append(text)
        yield "reasoning_text.delta", {"content_index": 0, "delta": text}
        if self._summarised:
            yield "reasoning_summary_text.delta", {"summary_index": 0, "delta": text}

    def closing(self, status: ItemStatus) -> Iterator[Told]:
        """See `Item`."""
        text = "".join(self._pieces)
        yield "reasoning_text.done", {"content_index": 0, "text": text}
        yield "content_part.done", {"content_index": 0, "part": _thought(text)}
        if self._summarised:
            yield "reasoning_summary_text.done", {"summary_index": 0, "text": text}
            yield "reasoning_summary_part.done", {"summary_index": 0, "part": _summary(text)}
        yield "output_item.done", {"item": self.json(status)}

    def json(self, status: ItemStatus) -> JsonObject:
        """See `Item`."""
        text = "".join(self._pieces)
        return self._json(status, [_thought(text)], [_summary(text)] if self._summarised else [])

    def _json(
        self, status: ItemStatus, content: list[JsonObject], summary: list[JsonObject]
    ) -> JsonObject:
        return {
            "id": self.id,
            "type": "reasoning",
            "status": status,
            "summary": summary,
            "content": content,
            "encrypted_content": None,
        }


class MessageItem:
    """The answer's text."""

    def __init__(self) -> None:
        self.id = item_id("msg")
        self._pieces: list[str] = []
        self._logprobs: list[JsonObject] = []

    def opening(self) -> Iterator[Told]:
        """See `Item`."""
        yield "output_item.added", {"item": self._json("in_progress", [])}
        yield "content_part.added", {"content_index": 0, "part": self._part()}

    def feed(self, text: str, logprobs: Sequence[Logprobs]) -> Iterator[Told]:
        """A piece more, and the log-probabilities of its tokens where they are asked for."""
        told = logprobs_json(logprobs)["content"] if logprobs else []
        self._pieces.append(text)
        self._logprobs += told
        yield "output_text.delta", {"content_index": 0, "delta": text, "logprobs": told}

    def closing(self, status: ItemStatus) -> Iterator[Told]:
        """See `Item`."""
        text = "".join(self._pieces)
        done = {"content_index": 0, "text": text, "logprobs": self._logprobs}
        yield "output_text.done", done
        yield "content_part.done", {"content_index": 0, "part": self._part()}
        yield "output_item.done", {"item": self.json(status)}

    def json(self, status: ItemStatus) -> JsonObject:
        """See `Item`."""
        return self._json(status, [self._part()])

    def _json(self, status: ItemStatus, content: list[JsonObject]) -> JsonObject:
        message = {"id": self.id, "type": "message", "role": "assistant"}
        return message | {"status": status, "content": content}

    def _part(self) -> JsonObject:
        return {
            "type": "output_text",
            "text": "".join(self._pieces),
            "annotations": [],
            "logprobs": [*self._logprobs],
        }


class CallItem:
    """A call that the client has to make.

    Args:
        call_id: What its output will be sent with.
        tool: What is called.
    """

    def __init__(self, call_id: str, tool: ToolName) -> None:
        self.id = item_id("fc")
        self._call_id = call_id
        self._tool = tool
        self._pieces: list[str] = []

    def opening(self) -> Iterator[Told]:
        """See `Item`."""
        yield "output_item.added", {"item": self.json("in_progress")}

    def feed(self, arguments: str) -> Iterator[Told]:
        """A piece more of its arguments."""
        self._pieces.append(arguments)
        yield "function_call_arguments.delta", {"delta": arguments}

    def closing(self, status: ItemStatus) -> Iterator[Told]:
        """See `Item`."""
        arguments = "".join(self._pieces)
        done = {"name": self._tool.name, "arguments": arguments}
        yield "function_call_arguments.done", done
        yield "output_item.done", {"item": self.json(status)}

    def json(self, status: ItemStatus) -> JsonObject:
        """See `Item`."""
        call = {
            "id": self.id,
            "type": "function_call",
            "status": status,
            "call_id": self._call_id,
            "name": self._tool.name,
            "arguments": "".join(self._pieces),
        }
        return call if self._tool.namespace is None else call | {"namespace": self._tool.namespace}


class CustomCallItem:
    """A call whose one argument is a text; told when it is whole, for it is written as JSON.

    Args:
        call_id: What its output will be sent with.
        tool: What is called.
    """

    def __init__(self, call_id: str, tool: ToolName) -> None:
        self.id = item_id("ctc")
        self._call_id = call_id
        self._tool = tool
        self._pieces: list[str] = []

    def opening(self) -> Iterator[Told]:
        """See `Item`."""
        yield "output_item.added", {"item": self._json("in_progress", "")}

    def feed(self, arguments: str) -> Iterator[Told]:
        """A piece more of its arguments."""
        self._pieces.append(arguments)
        return iter(())

    def closing(self, status: ItemStatus) -> Iterator[Told]:
        """See `Item`."""
        text = custom_input("".join(self._pieces))
        yield "custom_tool_call_input.delta", {"delta": text}
        yield "custom_tool_call_input.done", {"input": text}
        yield "output_item.done", {"item": self.json(status)}

    def json(self, status: ItemStatus) -> JsonObject:
        """See `Item`."""
        return self._json(status, custom_input("".join(self._pieces)))

    def _json(self, status: ItemStatus, text: str) -> JsonObject:
        call = {
            "id": self.id,
            "type": "custom_tool_call",
            "status": status,
            "call_id": self._call_id,
            "name": self._tool.name,
            "input": text,
        }
        return call if self._tool.namespace is None else call | {"namespace": self._tool.namespace}


def custom_input(arguments: str) -> str:
    """The text that a custom tool was called with; what was cut off stays as it was written."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    text = value.get("input") if isinstance(value, dict) else None
    return text if isinstance(text, str) else arguments


def _thought(text: str) -> JsonObject:
    return {"type": "reasoning_text", "text": text}


def _summary(text: str) -> JsonObject:
    return {"type": "summary_text", "text": text}
