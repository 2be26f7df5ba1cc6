"""Tools in Anthropic's format, as OpenAI's. Pure.

Offered are tools with an `input_schema`, which the client runs, and tools of MCP servers of this
server's, which are run here. Tools that only Anthropic runs or describes are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from qwenkit.chat.completion import NamedTool
from qwenkit.chat.constraint import ToolChoice
from qwenkit.errors import InvalidMessages, InvalidRequest
from qwenkit.server.anthropic.schema import JsonObject
from qwenkit.server.anthropic.schema import ToolChoice as ChoiceIn
from qwenkit.server.openai.mcp_tools import ChosenTools


def tool_entries(tools: Sequence[JsonObject] | None) -> list[JsonObject]:
    """The tools as `/v1/chat/completions` takes them, in order.

    Raises:
        InvalidMessages: One can't be offered; `param` names it.
    """
    return [_entry(tool, f"tools[{i}]") for i, tool in enumerate(tools or ())]


def places(tools: Sequence[JsonObject] | None) -> list[int]:
    """Where each function that `choose_tools` passes on stands among the tools given."""
    return [i for i, tool in enumerate(tools or ()) if tool.get("type") != "mcp_toolset"]


def tool_choice(choice: ChoiceIn | None) -> ToolChoice:
    """Which tools may or must be called.

    Raises:
        InvalidRequest: A name is needed.
    """
    if choice is None or choice.type == "auto":
        return "auto"
    if choice.type == "tool":
        if choice.name is None:
            raise InvalidRequest("a tool's name is needed", param="tool_choice.name")
        return NamedTool(choice.name)
    return "required" if choice.type == "any" else "none"


def _entry(tool: JsonObject, place: str) -> JsonObject:
    kind = tool.get("type")
    if kind == "mcp_toolset":
        return _toolset(tool, place)
    if kind not in (None, "custom"):
        raise InvalidMessages(
            f"{kind!r} is no type of tool that is known here",
            param=f"{place}.type",
            hint="offer a tool with an input_schema, or a MCP server's by mcp_toolset",
        )
    return {"type": "function", "function": _function(tool, place)}


def _function(tool: JsonObject, place: str) -> JsonObject:
    name, schema = tool.get("name"), tool.get("input_schema")
    if not isinstance(name, str) or not name:
        raise InvalidMessages("a tool needs a name", param=f"{place}.name")
    if not isinstance(schema, Mapping):
        where = f"{place}.input_schema"
        raise InvalidMessages(f"{where} must be a JSON schema", param=where)
    function = {"name": name, "description": tool.get("description"), "parameters": schema}
    if tool.get("strict") is True:
        function["strict"] = True
    return {key: value for key, value in function.items() if value is not None}


def _toolset(tool: JsonObject, place: str) -> JsonObject:
    server = tool.get("mcp_server_name")
    if not isinstance(server, str):
        raise InvalidMessages(
            "a toolset needs a MCP server's name", param=f"{place}.mcp_server_name"
        )
    entry: JsonObject = {"type": "mcp", "server_label": server}
    configs = tool.get("configs") or {}
    if not isinstance(configs, Mapping):
        raise InvalidMessages("configs must be an object", param=f"{place}.configs")
    if not _is_on(tool.get("default_config")):
        entry["allowed_tools"] = [name for name, each in configs.items() if _is_on(each)]
    return entry


def _is_on(config: Any) -> bool:
    return not (isinstance(config, Mapping) and config.get("enabled") is False)


def without_switched_off(chosen: ChosenTools, tools: Sequence[JsonObject] | None) -> ChosenTools:
    """The chosen tools, but for those that a toolset's `configs` switch off."""
    off = {
        (tool.get("mcp_server_name"), name)
        for tool in tools or ()
        if tool.get("type") == "mcp_toolset"
        for name, config in (tool.get("configs") or {}).items()
        if not _is_on(config)
    }
    kept = tuple(each for each in chosen.ours if (each.server, each.own_name) not in off)
    gone = {each.name for each in chosen.ours} - {each.name for each in kept}
    functions = [each for each in chosen.functions if each["function"].get("name") not in gone]
    return replace(chosen, functions=functions, ours=kept)
