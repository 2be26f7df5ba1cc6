"""Tools of MCP servers as tools of the agent. Knows the connections' face; no protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qwenkit.agent.tools.base import AgentTool, Run, ToolOutput, ToolSource
from qwenkit.chat.messages import JsonValue

if TYPE_CHECKING:
    from qwenkit.mcp.client import McpConnections
    from qwenkit.mcp.client.tools import McpTool


def mcp_tools(connections: McpConnections, *, timeout_s: float | None = None) -> ToolSource:
    """A source of whatever tools the connected servers have.

    Args:
        timeout_s: Seconds that a call may take; None leaves it to the connections.
    """

    def tools() -> list[AgentTool]:
        return [_tool(connections, tool, timeout_s) for tool in connections.tools()]

    return tools


def _tool(connections: McpConnections, tool: McpTool, timeout_s: float | None) -> AgentTool:
    return AgentTool(
        name=tool.name,
        description=tool.description,
        parameters=tool.parameters,
        run=_run(connections, tool.name, timeout_s),
        allowed=tool.allowed,
        origin=tool.server,
    )


def _run(connections: McpConnections, name: str, timeout_s: float | None) -> Run:
    async def run(arguments: Mapping[str, JsonValue]) -> ToolOutput:
        result = await connections.call(name, arguments, timeout_s=timeout_s)
        return ToolOutput(result.text, is_error=result.is_error, artifact=result.structured)

    return run
