"""A program that speaks MCP of 2025 over stdio without any SDK: it starts at once, and can die."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

TOOLS = [
    {
        "name": "add",
        "description": "Add two numbers.",
        "inputSchema": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
        "annotations": {"readOnlyHint": True, "title": "Sum"},
    },
    {
        "name": "variable",
        "description": "What an environment variable holds.",
        "inputSchema": {"type": "object", "properties": {"name": {"type": "string"}}},
    },
    {"name": "folder", "description": "The folder.", "inputSchema": {"type": "object"}},
    {"name": "process", "description": "The process.", "inputSchema": {"type": "object"}},
    {"name": "die", "description": "End in mid-call.", "inputSchema": {"type": "object"}},
    {
        "name": "die_once",
        "description": "End in mid-call, but only where there is no mark.",
        "inputSchema": {"type": "object", "properties": {"mark": {"type": "string"}}},
        "annotations": {"readOnlyHint": True},
    },
]


def call(name: str, given: dict[str, Any]) -> str:
    match name:
        case "add":
            return str(given["a"] + given["b"])
        case "variable":
            return os.environ.get(given["name"], "")
        case "folder":
            return str(Path.cwd())
        case "process":
            return str(os.getpid())
        case "die_once" if Path(given["mark"]).exists():
            return "alive"
        case "die_once":
            Path(given["mark"]).touch()
    print("I am dying", file=sys.stderr, flush=True)
    os._exit(3)


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    match method:
        case "initialize":
            return {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {"listChanged": True}},
                "serverInfo": {"name": "plain-tools", "version": "1.2.3"},
            }
        case "tools/list":
            return {"tools": TOOLS}
        case "tools/call":
            text = call(params["name"], params.get("arguments") or {})
            return {"content": [{"type": "text", "text": text}]}
    raise NotImplementedError(method)


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            reply["result"] = answer(request["method"], request.get("params") or {})
        except NotImplementedError:
            reply["error"] = {"code": -32601, "message": "no such method"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
