"""Conversations in OpenAI's format, checked and brought into one form. Knows no template.

Clients differ: content may be a string, null or a list of parts; reasoning comes under three names
or as a `<think>` block in front of the content; arguments come as JSON text or as an object. Past
this module there is one form. Every complaint names its place (`messages[2].content[0]`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from qwenkit.errors import InvalidMessages

JsonValue = Any
_MAX_DEPTH = 100
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
_MEDIA_PARTS = (
    "image",
    "image_url",
    "input_image",
    "audio",
    "input_audio",
    "video",
    "video_url",
    "file",
)


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call in an earlier answer.

    Args:
        name: The tool's name.
        arguments: A JSON object; the text itself where it was none.
        id: The caller's id.
    """

    name: str
    arguments: JsonValue
    id: str = ""

    def as_template_value(self) -> dict[str, JsonValue]:
        """As Hugging Face templates expect it."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"type": "function", "id": self.id, "function": function}


@dataclass(frozen=True, slots=True)
class Message:
    """One message in the one form.

    Args:
        role: Who speaks.
        content: The text; empty when there was none.
        reasoning: An assistant's thinking; None when the message says nothing of it.
        tool_calls: An assistant's calls.
        tool_call_id: The call that a tool's message answers.
        name: The speaker's or the tool's name.
    """

    role: Role
    content: str = ""
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    def as_template_value(self) -> dict[str, JsonValue]:
        """As Hugging Face templates expect it: fields without a value are absent."""
        optional = {
            "reasoning_content": self.reasoning,
            "tool_calls": [call.as_template_value() for call in self.tool_calls] or None,
            "tool_call_id": self.tool_call_id,
            "name": self.name,
        }
        present = {key: value for key, value in optional.items() if value is not None}
        return {"role": self.role.value, "content": self.content, **present}


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call.

    Args:
        name: Its name.
        parameters: JSON schema of its arguments; any object when empty.
        definition: The whole definition as the client gave it; what the template shows.
        strict: Whether a schema that can't be enforced in full is refused.
    """

    name: str
    parameters: Mapping[str, JsonValue]
    definition: Mapping[str, JsonValue]
    strict: bool = False


def parse_messages(messages: Sequence[Any]) -> tuple[Message, ...]:
    """Check a conversation and bring it into the one form; a `Message` is in it already.

    Raises:
        InvalidMessages: Something is wrong; `param` names the place.
    """
    if not _is_list(messages):
        raise InvalidMessages("messages must be a list", param="messages")
    if not messages:
        raise InvalidMessages("the conversation is empty", param="messages")
    return tuple(_message(message, f"messages[{i}]") for i, message in enumerate(messages))


def parse_tools(tools: Sequence[Any]) -> tuple[Tool, ...]:
    """Check tool definitions; a `Tool` is taken as it is.

    Raises:
        InvalidMessages: Something is wrong; `param` names the place.
    """
    if not _is_list(tools):
        raise InvalidMessages("tools must be a list", param="tools")
    parsed = tuple(_tool(tool, f"tools[{i}]") for i, tool in enumerate(tools))
    names = [tool.name for tool in parsed]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise InvalidMessages(
                f"two tools are named {name!r}", param=f"tools[{i}].function.name"
            )
    return parsed


def check_text(value: JsonValue, path: str) -> None:
    """Refuse what UTF-8 can't carry, and nesting without end, anywhere in a JSON value.

    Raises:
        InvalidMessages: A string holds a lone surrogate, or the value nests too deeply.
    """
    for place, text in _strings(value, path, 0):
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidMessages(
                f"{place} holds half of a surrogate pair, which is no character", param=place
            ) from None


def is_json(value: Any) -> bool:
    """Whether a value is made of JSON's types alone."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) for key in value) and all(map(is_json, value.values()))
    if isinstance(value, list | tuple):
        return all(map(is_json, value))
    return value is None or isinstance(value, str | int | float)


def _strings(value: JsonValue, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth > _MAX_DEPTH:
        raise InvalidMessages(f"{path} nests more than {_MAX_DEPTH} levels", param=path)
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield path, str(key)
            yield from _strings(item, f"{path}.{key}", depth + 1)
    elif _is_list(value):
        for i, item in enumerate(value):
            yield from _strings(item, f"{path}[{i}]", depth + 1)


def _message(message: Any, path: str) -> Message:
    if isinstance(message, Message):
        check_text(message.as_template_value(), path)
        return message
    if not isinstance(message, Mapping):
        raise InvalidMessages(f"{path} must be an object", param=path)
    check_text(message, path)
    role = _role(message, path)
    content = _content(message.get("content"), f"{path}.content")
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    if role is Role.ASSISTANT:
        reasoning, content = _reasoning(message, content, path)
        tool_calls = _tool_calls(message, path)
    elif role is not Role.TOOL and message.get("content") is None:
        raise InvalidMessages(f"{path} has no content", param=f"{path}.content")
    return Message(
        role=role,
        content=content,
        reasoning=reasoning,
        tool_calls=tool_calls,
        tool_call_id=_optional_text(message, "tool_call_id", path),
        name=_optional_text(message, "name", path),
    )


def _role(message: Mapping[str, Any], path: str) -> Role:
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidMessages(
            f"{role!r} is no role; there are {', '.join(_ROLES)}", param=f"{path}.role"
        )
    return _ROLES[role]


def _content(content: Any, path: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not _is_list(content):
        raise InvalidMessages(f"{path} must be a string or a list of parts", param=path)
    return "".join(_part(part, f"{path}[{i}]") for i, part in enumerate(content))


def _part(part: Any, path: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise InvalidMessages(f"{path} must be a part with a type", param=path)
    kind = part.get("type", "text")
    if kind in ("text", "input_text", "output_text", "refusal"):
        return _text(part, "refusal" if kind == "refusal" else "text", path)
    if kind in _MEDIA_PARTS:
        raise InvalidMessages(f"{path} is of type {kind!r}; this model reads text only", param=path)
    raise InvalidMessages(f"{kind!r} is no type of content", param=f"{path}.type")


def _reasoning(message: Mapping[str, Any], content: str, path: str) -> tuple[str | None, str]:
    for field in _REASONING_FIELDS:
        reasoning = _optional_text(message, field, path)
        if reasoning is not None:
            return reasoning, content
    if "</think>" not in content:
        return None, content
    # As Qwen3's template splits it, so that both ways of sending a turn render the same.
    before, *_, after = content.split("</think>")
    return before.rstrip("\n").split("<think>")[-1].lstrip("\n"), after.lstrip("\n")


def _tool_calls(message: Mapping[str, Any], path: str) -> tuple[ToolCall, ...]:
    legacy = message.get("function_call")
    if legacy is not None:
        return (_function_call(legacy, f"{path}.function_call", ""),)
    calls = message.get("tool_calls")
    if calls is None:
        return ()
    if not _is_list(calls):
        raise InvalidMessages(f"{path}.tool_calls must be a list", param=f"{path}.tool_calls")
    return tuple(_tool_call(call, f"{path}.tool_calls[{i}]") for i, call in enumerate(calls))


def _tool_call(call: Any, path: str) -> ToolCall:
    if not isinstance(call, Mapping):
        raise InvalidMessages(f"{path} must be an object", param=path)
    call_id = _optional_text(call, "id", path) or ""
    if "function" not in call:
        return _function_call(call, path, call_id)
    return _function_call(call["function"], f"{path}.function", call_id)


def _function_call(function: Any, path: str, call_id: str) -> ToolCall:
    if not isinstance(function, Mapping):
        raise InvalidMessages(f"{path} must be an object", param=path)
    name = _text(function, "name", path)
    return ToolCall(name, _arguments(function.get("arguments"), f"{path}.arguments"), call_id)


def _arguments(arguments: Any, path: str) -> JsonValue:
    if arguments is None or arguments == "":
        return {}
    if isinstance(arguments, Mapping):
        return dict(arguments)
    if not isinstance(arguments, str):
        raise InvalidMessages(f"{path} must be JSON text or an object", param=path)
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    if not isinstance(value, Mapping):
        return arguments
    check_text(value, path)
    return value


def _tool(tool: Any, path: str) -> Tool:
    if isinstance(tool, Tool):
        return tool
    if not isinstance(tool, Mapping):
        raise InvalidMessages(f"{path} must be an object", param=path)
    check_text(tool, path)
    if tool.get("type", "function") != "function":
        raise InvalidMessages(f"{tool['type']!r} is no type of tool", param=f"{path}.type")
    function = tool.get("function")
    if not isinstance(function, Mapping):
        raise InvalidMessages(f"{path}.function must be an object", param=f"{path}.function")
    name = _text(function, "name", f"{path}.function")
    if not name:
        raise InvalidMessages("a tool needs a name", param=f"{path}.function.name")
    _optional_text(function, "description", f"{path}.function")
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, Mapping):
        place = f"{path}.function.parameters"
        raise InvalidMessages(f"{place} must be a JSON schema", param=place)
    return Tool(name, parameters or {}, tool, function.get("strict") is True)


def _text(owner: Mapping[str, Any], key: str, path: str) -> str:
    value = owner.get(key)
    if not isinstance(value, str):
        raise InvalidMessages(f"{path}.{key} must be a string", param=f"{path}.{key}")
    return value


def _optional_text(owner: Mapping[str, Any], key: str, path: str) -> str | None:
    return None if owner.get(key) is None else _text(owner, key, path)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
