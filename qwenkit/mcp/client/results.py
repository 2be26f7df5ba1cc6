"""What a tool call came to, as text for a model and as JSON for programs. Bounded in size.

A model reads text only: pictures and sounds become a line that says what they were.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qwenkit.chat.messages import JsonValue

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock

MAX_CHARACTERS = 40_000
"""About ten thousand tokens: a quarter of Qwen3-8B's own context."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a call came to.

    Args:
        text: For the model.
        structured: The same as JSON, where the server gives it and it is not too large.
        is_error: Whether the call failed; the text then says why.
    """

    text: str
    structured: JsonValue = None
    is_error: bool = False


def read_result(result: CallToolResult, *, max_characters: int = MAX_CHARACTERS) -> ToolResult:
    """A server's result in our form.

    Args:
        max_characters: Most of the text, and of the structured value as JSON.
    """
    texts = [_text(block) for block in result.content]
    structured = json.dumps(result.structured_content, ensure_ascii=False, default=str)
    has_structured = result.structured_content is not None
    if has_structured and not texts:
        texts = [structured]
    fits = has_structured and len(structured) <= max_characters
    return ToolResult(
        cut("\n".join(texts), max_characters),
        result.structured_content if fits else None,
        bool(result.is_error),
    )


def failed(why: str) -> ToolResult:
    """The result of a call that came to nothing."""
    return ToolResult(why, is_error=True)


def cut(text: str, limit: int) -> str:
    """A text's beginning; where something is left out, a line says how much."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n[cut: {len(text) - limit} of {len(text)} characters are left out]"


def _text(block: ContentBlock) -> str:
    match block.type:
        case "text":
            return block.text
        case "image" | "audio":
            return f"[{block.type}, {block.mime_type}, {_size(block.data)}]"
        case "resource_link":
            about = f": {block.description}" if block.description else ""
            return f"[{block.name}]({block.uri}){about}"
        case "resource":
            return _resource(block.resource)


def _resource(resource: Any) -> str:
    text = getattr(resource, "text", None)
    if isinstance(text, str):
        return text
    kind = resource.mime_type or "application/octet-stream"
    return f"[file {resource.uri}, {kind}, {_size(resource.blob)}]"


def _size(base64: str) -> str:
    return f"{len(base64) * 3 // 4:,} bytes"
