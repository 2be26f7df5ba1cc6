"""LangChain's tools, and plain functions, as tools of the agent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, tool
from langchain_core.utils.function_calling import convert_to_openai_tool

from qwenkit.agent.tools.base import AgentTool, ToolOutput
from qwenkit.chat.messages import JsonValue


def from_langchain(given: BaseTool | Callable[..., Any], *, allowed: bool = False) -> AgentTool:
    """A LangChain tool, or a function with a docstring, as a tool of the agent."""
    made = given if isinstance(given, BaseTool) else tool(given)
    function = convert_to_openai_tool(made)["function"]

    async def run(arguments: Mapping[str, JsonValue]) -> ToolOutput:
        call = {"name": made.name, "args": dict(arguments), "id": "call", "type": "tool_call"}
        result = await made.ainvoke(call)
        if not isinstance(result, ToolMessage):
            return ToolOutput(_text(result))
        is_error = result.status == "error"
        return ToolOutput(_text(result.content), is_error=is_error, artifact=result.artifact)

    return AgentTool(
        name=made.name,
        description=function.get("description", ""),
        parameters=function.get("parameters") or {"type": "object", "properties": {}},
        run=run,
        allowed=allowed,
        origin="LangChain",
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
