"""Tools of MCP servers in `/v1/messages`: asked for, run here, told in blocks of their own."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from qwenkit.backends.scripted import ScriptedBackend

pytestmark = pytest.mark.anyio

PROGRAM = Path(__file__).parents[2] / "mcp" / "plain_server.py"
LOOK = '<tool_call>\n{"name": "variable", "arguments": {"name": "MOOD"}}\n</tool_call>'
ANSWERS = {
    "": "<think>\n\n</think>\n\nI do not know.",
    "mood?": f"<think>\nLook it up.\n</think>\n\nLet me see.\n{LOOK}",
    "sunny": "<think>\nNow I know.\n</think>\n\nIt is sunny.",
    "and so?": "<think>\n\n</think>\n\nTake a hat.",
}


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend(ANSWERS, n_slots=4, n_ctx=32768)


@pytest.fixture
async def client(
    make_app: Callable[..., Any], run: Callable[..., Any], tmp_path: Path
) -> AsyncIterator[Any]:
    program = {"command": sys.executable, "args": [str(PROGRAM)], "env": {"MOOD": "sunny"}}
    servers = {
        "tools": program | {"alwaysAllow": ["variable", "add"], "disabledTools": ["folder"]},
        "dead": {"command": "/no/such/program", "alwaysAllow": ["x"]},
    }
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
    app = make_app(mcp_config=path)
    async with run(app) as client:
        await app.state.mcp.settled()
        yield client


def asked(text: str, toolset: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "model": "scripted",
        "max_tokens": 2000,
        "messages": [{"role": "user", "content": text}],
        "tools": [{"type": "mcp_toolset", "mcp_server_name": "tools", **toolset}],
        **fields,
    }


async def test_a_tool_runs_here_and_the_answer_goes_on(client):
    body = asked("mood?", {}, thinking={"type": "adaptive"})
    message = (await client.post("/v1/messages", json=body)).json()
    call, result = message["content"][2:4]
    call_id = call.pop("id")
    assert call == {
        "type": "mcp_tool_use",
        "name": "variable",
        "server_name": "tools",
        "input": {"name": "MOOD"},
    }
    assert result == {
        "type": "mcp_tool_result",
        "tool_use_id": call_id,
        "is_error": False,
        "content": [{"type": "text", "text": "sunny"}],
    }
    said = [each.get("thinking", each.get("text")) for each in message["content"]]
    assert said == ["Look it up.", "Let me see.", None, None, "Now I know.", "It is sunny."]
    assert message["stop_reason"] == "end_turn"


async def test_what_ran_here_may_be_sent_back(client):
    body = asked("mood?", {}, thinking={"type": "adaptive"})
    message = (await client.post("/v1/messages", json=body)).json()
    body["messages"] += [
        {"role": "assistant", "content": message["content"]},
        {"role": "user", "content": "and so?"},
    ]
    later = (await client.post("/v1/messages", json=body)).json()
    assert later["content"] == [{"type": "text", "text": "Take a hat."}]


@pytest.mark.parametrize(
    ("toolset", "n_tools"),
    [
        ({}, 2),
        ({"configs": {"add": {"enabled": False}}}, 1),
        ({"default_config": {"enabled": False}, "configs": {"add": {"enabled": True}}}, 1),
    ],
)
async def test_a_toolset_says_which_tools_are_on(client, toolset, n_tools):
    counts = []
    for tools in ([], asked("?", toolset)["tools"], asked("?", {})["tools"]):
        body = asked("hello", {}) | {"tools": tools}
        answer = await client.post("/v1/messages/count_tokens", json=body)
        counts.append(answer.json()["input_tokens"])
    none, some, both = counts
    assert none < some
    assert (some == both) is (n_tools == 2)


@pytest.mark.parametrize(
    ("toolset", "kind", "place"),
    [
        ({"mcp_server_name": "other"}, "not_found_error", "tools.0.mcp_server_name: "),
        ({"mcp_server_name": "dead"}, "invalid_request_error", "tools: "),
        ({"mcp_server_name": 5}, "invalid_request_error", "tools.0.mcp_server_name: a toolset "),
        (
            {"default_config": {"enabled": False}, "configs": {"process": {}}},
            "invalid_request_error",
            "tools.0.configs: ",
        ),
        ({"configs": 5}, "invalid_request_error", "tools.0.configs: "),
    ],
)
async def test_what_cant_be_used_is_refused(client, toolset, kind, place):
    answer = await client.post("/v1/messages", json=asked("mood?", toolset))
    error = answer.json()["error"]
    assert error["type"] == kind
    assert error["message"].startswith(place)
