"""An MCP server, made with the SDK, that does what servers do, good and bad; a program on stdio."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ImageContent, TextContent, ToolAnnotations

server = MCPServer("test-tools", version="1.2.3")


@server.tool(annotations=ToolAnnotations(read_only_hint=True, title="Sum"))
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def fail(why: str) -> str:
    """Fail."""
    raise ValueError(why)


@server.tool()
async def hang(started: str = "", cancelled: str = "") -> str:
    """Never answer; leaves a file when it has begun, and one when it has been cancelled."""
    _mark(started)
    try:
        await asyncio.Event().wait()
    except BaseException:
        _mark(cancelled)
        raise
    return ""


def _mark(path: str) -> None:
    if path:
        Path(path).touch()


@server.tool()
def huge(n: int) -> str:
    """A long text."""
    return "x" * n


@server.tool(structured_output=False)
def picture() -> list[TextContent | ImageContent]:
    """A picture with words."""
    data = base64.b64encode(b"12345678").decode()
    return [
        TextContent(type="text", text="a red square"),
        ImageContent(type="image", data=data, mime_type="image/png"),
    ]


@server.tool()
async def grow(ctx: Context) -> str:
    """Get another tool and say so."""
    server.add_tool(lambda: "new", name="grown", description="New here.")
    await ctx.notify_tools_changed()
    if ctx.request_context.protocol_version < "2026":
        await ctx.session.send_tool_list_changed()
    return "grown"


@server.tool(name="odd name!")
def odd() -> str:
    """Has a name that no model can call."""
    return "odd"


if __name__ == "__main__":
    server.run("stdio")
