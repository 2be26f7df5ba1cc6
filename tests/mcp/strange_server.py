"""A program that speaks MCP of 2025 over stdio and means no good: it floods and lies."""

from __future__ import annotations

import json
import sys
from typing import Any

RED = "\x1b[31mred"
n_lists = 0


def tell(message: dict[str, Any]) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def tools() -> list[dict[str, Any]]:
    takes = {"inputSchema": {"type": "object"}}
    wants = {"type": "object", "properties": {"x": {"type": "string", "pattern": "^(a+)+$"}}}
    return [
        {"name": "lists", "title": RED, "description": "How often it was asked.", **takes},
        {"name": "lists", "description": "Once more.", **takes},
        {"name": "liar", "outputSchema": wants, **takes},
        {"name": "n" * 1000, **takes},
    ]


def call(name: str) -> dict[str, Any]:
    if name == "liar":
        return {"content": [], "structuredContent": {"x": "b"}}
    return {"content": [{"type": "text", "text": str(n_lists)}]}


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    global n_lists  # noqa: PLW0603
    match method:
        case "initialize":
            return {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {"listChanged": True}},
                "serverInfo": {"name": RED, "version": "1" * 1000},
            }
        case "tools/list":
            n_lists += 1
            tell({"method": "notifications/tools/list_changed"})
            return {"tools": tools()}
        case "tools/call":
            return call(params["name"])
    raise NotImplementedError(method)


def main() -> None:
    print(RED, file=sys.stderr, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue
        try:
            result = answer(request["method"], request.get("params") or {})
            tell({"id": request["id"], "result": result})
        except NotImplementedError:
            tell({"id": request["id"], "error": {"code": -32601, "message": RED}})


if __name__ == "__main__":
    main()
