"""Serves one MCP client over stdin and stdout; the SDK keeps stray prints off the wire."""

from __future__ import annotations

from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server


async def serve_stdio(server: Server[Any]) -> None:
    """Answer until the client closes our stdin."""
    async with stdio_server() as (reading, writing):
        await server.run(reading, writing, server.create_initialization_options())
