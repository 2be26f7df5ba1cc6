"""LangChain's messages become a conversation in OpenAI's format. Pure.

What a text model can't read is replaced by a note in its place, so that a picture sent once does
not end the conversation; a tool call that was never answered gets an answer that says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from qwenkit.errors import InvalidMessages

NOT_RUN = "This tool call was not run."
_TEXT_TYPES = ("text", "text-plain", "input_text", "output_text")
_UNSEEN_TYPES = (
    "reasoning",
    "thinking",
    "tool_call",
    "tool_use",
    "non_standard",
    "tool_call_chunk",
)


def to_openai(messages: Sequence[BaseMessage]) -> tuple[dict[str, Any], ...]:
    """The conversation as `/v1/chat/completions` takes it.

    Raises:
        InvalidMessages: There is a message of a kind that no model reads.
    """
    conversation: list[dict[str, Any]] = []
    open_calls: dict[str, str] = {}
    for message in messages:
        if not isinstance(message, ToolMessage):
            conversation += _not_run(open_calls)
            open_calls = {}
        converted = _message(message)
        conversation.append(converted)
        open_calls |= {
            call["id"]: call["function"]["name"] for call in converted.get("tool_calls", ())
        }
        open_calls.pop(converted.get("tool_call_id", ""), None)
    return (*conversation, *_not_run(open_calls))


def text_of(message: BaseMessage) -> str:
    """A message's text, with a note for every part that is none."""
    content = message.content
    if isinstance(content, str):
        return content
    return "".join(map(_part, content))


def reasoning_of(message: AIMessage) -> str:
    """The thinking that came with an answer; empty when there was none."""
    reasoning = message.additional_kwargs.get("reasoning_content")
    if isinstance(reasoning, str):
        return reasoning
    blocks = message.content_blocks if isinstance(message.content, list) else []
    return "".join(
        str(block.get("reasoning", "")) for block in blocks if block["type"] == "reasoning"
    )


def _not_run(open_calls: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {"role": "tool", "tool_call_id": call_id, "name": name, "content": NOT_RUN}
        for call_id, name in open_calls.items()
    ]


def _message(message: BaseMessage) -> dict[str, Any]:
    match message:
        case SystemMessage():
            return {"role": "system", "content": text_of(message)}
        case HumanMessage():
            return {"role": "user", "content": text_of(message)}
        case AIMessage():
            return _assistant(message)
        case ToolMessage():
            named = {"name": message.name} if message.name else {}
            return {
                "role": "tool",
                "tool_call_id": message.tool_call_id,
                "content": text_of(message),
                **named,
            }
        case ChatMessage():
            return {"role": message.role, "content": text_of(message)}
    raise InvalidMessages(f"a message of type {message.type!r} can't be read", param="messages")


def _assistant(message: AIMessage) -> dict[str, Any]:
    converted: dict[str, Any] = {"role": "assistant", "content": text_of(message)}
    if reasoning := reasoning_of(message):
        converted["reasoning_content"] = reasoning
    calls = [
        _call(call["id"], call["name"], json.dumps(call["args"], ensure_ascii=False))
        for call in message.tool_calls
    ]
    calls += [
        _call(call["id"], call["name"] or "", call["args"] or "")
        for call in message.invalid_tool_calls
    ]
    if calls:
        converted["tool_calls"] = calls
    return converted


def _call(call_id: str | None, name: str, arguments: str) -> dict[str, Any]:
    return {
        "id": call_id or "",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _part(part: str | dict[str, Any]) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type", "text")
    if kind in _TEXT_TYPES:
        return str(part.get("text", ""))
    if kind in _UNSEEN_TYPES:
        return ""
    return _left_out(part, str(kind))


def _left_out(part: Mapping[str, Any], kind: str) -> str:
    metadata = part.get("metadata")
    details = metadata if isinstance(metadata, Mapping) else {}
    name = details.get("filename") or details.get("name") or ""
    mime = part.get("mimeType") or part.get("mime_type") or kind
    return f"[attachment {f'{name} ' if name else ''}({mime}) left out: this model reads text only]"
