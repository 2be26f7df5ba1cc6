"""The items of an answer that tell of MCP servers: their tools, and calls that ran here. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qwenkit.mcp.rounds import ToolEnded, ToolStarted
from qwenkit.server.openai.responses.items import ItemStatus, JsonObject, Told, item_id


class McpItem:
    """A call of a tool of an MCP server, which runs here.

    Args:
        started: Its beginning.
    """

    def __init__(self, started: ToolStarted) -> None:
        self.id = item_id("mcp")
        self._started = started
        self._ended: ToolEnded | None = None

    def opening(self) -> Iterator[Told]:
        """See `Item`."""
        arguments = self._started.arguments
        yield "output_item.added", {"item": self.json("in_progress") | {"arguments": ""}}
        yield "mcp_call.in_progress", {}
        yield "mcp_call_arguments.delta", {"delta": arguments}
        yield "mcp_call_arguments.done", {"arguments": arguments}

    def end(self, ended: ToolEnded) -> None:
        """Take note of what came of it."""
        self._ended = ended

    def closing(self, status: ItemStatus) -> Iterator[Told]:
        """See `Item`."""
        failed = self._ended is None or self._ended.result.is_error
        yield f"mcp_call.{'failed' if failed else 'completed'}", {}
        yield "output_item.done", {"item": self.json(status)}

    def json(self, status: ItemStatus) -> JsonObject:
        """See `Item`."""
        call: JsonObject = {
            "id": self.id,
            "type": "mcp_call",
            "status": status,
            "server_label": self._started.tool.server,
            "name": self._started.tool.name,
            "arguments": self._started.arguments,
            "approval_request_id": None,
            "output": None,
            "error": None,
        }
        if self._ended is None:
            return call
        text = self._ended.result.text
        if not self._ended.result.is_error:
            return call | {"output": text}
        content = [{"type": "text", "text": text}]
        error = {"type": "mcp_tool_execution_error", "content": content}
        return call | {"status": "failed", "error": error}


class McpListItem:
    """The tools of an MCP server that the model may call, or why there are none.

    Args:
        server: Its name.
        tools: By their names: description and JSON schema.
        error: What keeps the server from being used.
    """

    def __init__(
        self, server: str, tools: Sequence[Mapping[str, Any]], error: str | None = None
    ) -> None:
        self.id = item_id("mcpl")
        self._server = server
        self._tools = [dict(each) for each in tools]
        self._error = error

    def opening(self) -> Iterator[Told]:
        """See `Item`."""
        yield "output_item.added", {"item": self.json("in_progress") | {"tools": [], "error": None}}
        yield "mcp_list_tools.in_progress", {}

    def closing(self, status: ItemStatus) -> Iterator[Told]:
        """See `Item`."""
        yield f"mcp_list_tools.{'completed' if self._error is None else 'failed'}", {}
        yield "output_item.done", {"item": self.json(status)}

    def json(self, status: ItemStatus) -> JsonObject:  # noqa: ARG002
        """See `Item`."""
        return {
            "id": self.id,
            "type": "mcp_list_tools",
            "server_label": self._server,
            "tools": self._tools,
            "error": self._error,
        }
