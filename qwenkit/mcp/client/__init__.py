"""Uses other MCP servers: their list, the connections to them, and their tools."""

from qwenkit.mcp.client.connections import McpConnections
from qwenkit.mcp.client.results import ToolResult
from qwenkit.mcp.client.status import ServerStatus
from qwenkit.mcp.client.tools import McpTool

__all__ = ["McpConnections", "McpTool", "ServerStatus", "ToolResult"]
