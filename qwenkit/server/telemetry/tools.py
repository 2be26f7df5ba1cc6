"""Spans of tools and of the agent that calls them. Knows their names; no arguments, no results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from qwenkit.agent.tools.base import AgentTool, ToolOutput, ToolSource
from qwenkit.chat.messages import JsonValue
from qwenkit.mcp.client.calls import McpCall
from qwenkit.server.telemetry.spans import add_past, inside


def traced_tools(source: ToolSource) -> ToolSource:
    """A source of tools that run inside of spans, where something is traced."""

    def tools() -> Sequence[AgentTool]:
        return [_traced(each) for each in source()]

    return tools


def _traced(tool: AgentTool) -> AgentTool:
    async def run(arguments: Mapping[str, JsonValue]) -> ToolOutput:
        named = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool.name,
            "gen_ai.tool.type": "extension" if tool.origin else "function",
        }
        with inside(f"execute_tool {tool.name}", named) as span:
            output = await tool.run(arguments)
            if span is not None and output.is_error:
                span.fail("tool_error")
            return output

    return replace(tool, run=run)


def add_mcp_call(call: McpCall) -> None:
    """Add the span of an MCP call that is over."""
    add_past(
        f"tools/call {call.tool}",
        {
            "mcp.method.name": "tools/call",
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": call.tool,
            "qwenkit.mcp.server": call.server,
        },
        seconds=call.seconds,
        error=None if call.outcome == "success" else "tool_error",
        kind="client",
    )


def telling(*listeners: Callable[[McpCall], None]) -> Callable[[McpCall], None]:
    """Tells each of several."""

    def tell(call: McpCall) -> None:
        for listener in listeners:
            listener(call)

    return tell
