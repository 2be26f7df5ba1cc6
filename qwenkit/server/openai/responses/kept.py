"""Responses as they are kept: whose they are, what was asked, what was answered. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from qwenkit.server.openai.responses.items import item_id

JsonObject: TypeAlias = dict[str, Any]

_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "mcp_call": "mcp",
    "mcp_list_tools": "mcpl",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResponse:
    """A response, and what it answered.

    Args:
        id: Its id.
        owner: Whose it is, as `caller_of` names a caller.
        previous_id: The response that it went on from.
        root_id: The first response of its conversation.
        response: As it was answered.
        items: What it was asked, beside what it went on from.
    """

    id: str
    owner: str
    previous_id: str | None
    root_id: str
    response: Mapping[str, Any]
    items: Sequence[Mapping[str, Any]]

    def said(self) -> list[Mapping[str, Any]]:
        """What it adds to its conversation."""
        return [*self.items, *self.response["output"]]


def items_of(given: str | Sequence[Mapping[str, Any]] | None) -> list[JsonObject]:
    """A request's input as a list of items."""
    if given is None:
        return []
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return [dict(each) for each in given]


def kept_items(items: Sequence[Mapping[str, Any]]) -> list[JsonObject]:
    """Items as they are listed: each with its own id and a type, a message's text in parts."""
    known: set[str] = set()
    return [_kept_item(each, known) for each in items]


def _kept_item(item: Mapping[str, Any], known: set[str]) -> JsonObject:
    kind = str(item.get("type", "message"))
    own_id = item.get("id")
    if not isinstance(own_id, str) or not own_id or own_id in known:
        own_id = item_id(_PREFIXES.get(kind, "item"))
    known.add(own_id)
    kept = {**item, "id": own_id, "type": kind}
    if kind != "message":
        return kept
    kept.setdefault("status", "completed")
    if isinstance(content := item.get("content"), str):
        kept["content"] = [_part(content, is_answer=item.get("role") == "assistant")]
    return kept


def _part(text: str, *, is_answer: bool) -> JsonObject:
    if is_answer:
        return {"type": "output_text", "text": text, "annotations": []}
    return {"type": "input_text", "text": text}
