"""Conversations in Anthropic's format, as messages in OpenAI's. Pure.

    system, [{role, content blocks}, …] ─▶ system, user, assistant, tool, …

Turns of one role that follow each other become one. An assistant's blocks become its text, its
reasoning and its calls; a tool's result becomes a message of the tool's. Blocks of text begin a
line of their own, but for an assistant's, which go on where the one before ended. Every complaint
names its place (`messages[2].content[0]`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from qwenkit.errors import InvalidMessages
from qwenkit.server.anthropic.schema import JsonObject, MessageIn
from qwenkit.server.anthropic.signature import is_altered

_BILLING = "x-anthropic-billing-header:"
_RESULTS = ("tool_result", "mcp_tool_result")

Block = tuple[str, JsonObject]
"""A content block and its place."""


def chat_messages(
    messages: Sequence[MessageIn], system: str | Sequence[JsonObject] | None
) -> list[JsonObject]:
    """The conversation as `stream_chat` takes it.

    Raises:
        InvalidMessages: Something is wrong; `param` names the place.
    """
    if not messages:
        raise InvalidMessages("the conversation is empty", param="messages")
    conversation = list(_system(() if system is None else _blocks(system, "system")))
    names: dict[str, str] = {}
    for role, blocks in _turns(messages):
        if role == "assistant":
            conversation += _assistant(blocks, names)
        elif role == "user":
            conversation += _user(blocks, names)
        else:
            conversation += _system(blocks)
    _check_calls_are_answered(conversation, f"messages[{len(messages) - 1}]")
    return conversation


def ends_with_a_result(messages: Sequence[MessageIn]) -> bool:
    """Whether the last thing said is what a tool answered."""
    content = messages[-1].content if messages else ""
    return not isinstance(content, str) and any(each.get("type") in _RESULTS for each in content)


def _turns(messages: Sequence[MessageIn]) -> Iterator[tuple[str, list[Block]]]:
    placed = [(each.role, each.content, f"messages[{i}]") for i, each in enumerate(messages)]
    for role, turn in groupby(placed, key=lambda each: each[0]):
        blocks: list[Block] = []
        for _, content, place in turn:
            found = _blocks(content, f"{place}.content")
            if not found:
                raise InvalidMessages(f"{place} has no content", param=f"{place}.content")
            blocks += found
        yield role, blocks


def _blocks(content: str | Sequence[JsonObject], place: str) -> list[Block]:
    if isinstance(content, str):
        return [(place, {"type": "text", "text": content})]
    return [(f"{place}[{i}]", block) for i, block in enumerate(content)]


def _system(blocks: Sequence[Block]) -> Iterator[JsonObject]:
    texts = [_without_billing(_text(block, place)) for place, block in blocks]
    if text := "\n".join(each for each in texts if each):
        yield {"role": "system", "content": text}


def _without_billing(text: str) -> str:
    # Claude Code's first line, whose checksum differs with every request: no prompt would begin
    # as an earlier one did, and the whole of it would be computed again.
    if not text.startswith(_BILLING):
        return text
    return text.partition("\n")[2]


def _user(blocks: Sequence[Block], names: Mapping[str, str]) -> Iterator[JsonObject]:
    texts: list[str] = []
    for place, block in blocks:
        if block.get("type") == "tool_result":
            yield from _said(texts)
            texts = []
            yield _result(block, place, names)
        else:
            texts.append(_readable(block, place))
    yield from _said(texts)


def _said(texts: Sequence[str]) -> Iterator[JsonObject]:
    if texts:
        yield {"role": "user", "content": "\n".join(texts)}


@dataclass(slots=True)
class _Answer:
    """An assistant's message that is being put together."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[JsonObject] = field(default_factory=list)

    def as_message(self) -> Iterator[JsonObject]:
        message: JsonObject = {"role": "assistant", "content": "".join(self.texts)}
        if self.thoughts:
            message["reasoning_content"] = "\n\n".join(self.thoughts)
        if self.calls:
            message["tool_calls"] = self.calls
        if self.texts or self.thoughts or self.calls:
            yield message


def _assistant(blocks: Sequence[Block], names: dict[str, str]) -> Iterator[JsonObject]:
    answer = _Answer()
    for place, block in blocks:
        match block.get("type"):
            case "thinking":
                if thought := _thought(block, place):
                    answer.thoughts.append(thought)
            case "redacted_thinking":
                pass  # only who encrypted it can read it
            case "tool_use" | "mcp_tool_use":
                answer.calls.append(_call(block, place, names))
            case "mcp_tool_result":
                yield from answer.as_message()
                answer = _Answer()
                yield _result(block, place, names)
            case _:
                answer.texts.append(_text(block, place))
    yield from answer.as_message()


def _thought(block: JsonObject, place: str) -> str:
    thinking = _string(block, "thinking", place)
    signature = block.get("signature")
    if isinstance(signature, str) and is_altered(thinking, signature):
        raise InvalidMessages(
            "the thinking is not what its signature was given for",
            param=f"{place}.signature",
            hint="send thinking blocks back as they came, or leave them out",
        )
    return thinking


def _call(block: JsonObject, place: str, names: dict[str, str]) -> JsonObject:
    call_id, name = _string(block, "id", place), _string(block, "name", place)
    arguments = block.get("input")
    if not isinstance(arguments, dict):
        raise InvalidMessages(f"{place}.input must be an object", param=f"{place}.input")
    names[call_id] = name
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def _result(block: JsonObject, place: str, names: Mapping[str, str]) -> JsonObject:
    call_id = _string(block, "tool_use_id", place)
    content = block.get("content") or ""
    if not isinstance(content, str | list):
        raise InvalidMessages(
            f"{place}.content must be a string or a list of content blocks",
            param=f"{place}.content",
        )
    parts = _blocks(content, f"{place}.content")
    text = "\n".join(_readable(part, where) for where, part in parts)
    if not text and block.get("is_error") is True:
        text = "the tool failed"
    named = {"name": names[call_id]} if call_id in names else {}
    return {"role": "tool", "tool_call_id": call_id, "content": text, **named}


def _readable(block: Any, place: str) -> str:
    """What a model that reads text sees of a block."""
    match block:
        case {"type": "document", "source": {"type": "text", "data": str(text)}}:
            return _titled(block, text)
        case {
            "type": "document",
            "source": {"type": "content", "content": str() | list() as parts},
        }:
            inner = _blocks(parts, f"{place}.source.content")
            return _titled(block, "\n".join(_text(part, where) for where, part in inner))
        case {"type": "search_result", "content": list() as parts}:
            inner = _blocks(parts, f"{place}.content")
            found = "\n".join(_text(part, where) for where, part in inner)
            return _titled(block, found)
        case {"type": "tool_reference", "tool_name": str(name)}:
            return name
    return _text(block, place)


def _titled(block: JsonObject, text: str) -> str:
    above = [block.get(name) for name in ("title", "source", "context")]
    return "\n".join([*(each for each in above if isinstance(each, str) and each), text])


def _text(block: Any, place: str) -> str:
    match block:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "text"}:
            raise InvalidMessages(f"{place}.text must be a string", param=f"{place}.text")
        case {"type": "image" | "document" as kind}:
            raise InvalidMessages(
                f"{place} is of type {kind!r}; this model reads text only", param=place
            )
        case {"type": str(kind)}:
            raise InvalidMessages(f"a block of type {kind!r} can't stand here", param=place)
    raise InvalidMessages(f"{place} must be a content block with a type", param=place)


def _string(block: JsonObject, key: str, place: str) -> str:
    value = block.get(key)
    if not isinstance(value, str):
        raise InvalidMessages(f"{place}.{key} must be a string", param=f"{place}.{key}")
    return value


def _check_calls_are_answered(conversation: Sequence[JsonObject], place: str) -> None:
    if conversation and conversation[-1].get("tool_calls"):
        raise InvalidMessages(
            "the conversation ends with calls of tools that nobody has answered",
            param=place,
            hint="send a tool_result block for each of them",
        )
