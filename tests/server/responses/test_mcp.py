"""Tools of MCP servers in a response: listed, run here, told as items."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from qwenkit.backends.scripted import ScriptedBackend

pytestmark = pytest.mark.anyio

PROGRAM = Path(__file__).parent.parent.parent / "mcp" / "plain_server.py"


def calls(*asked):
    return "\n".join(
        f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(given)}}}\n</tool_call>'
        for name, given in asked
    )


LOOK = calls(("variable", {"name": "MOOD"}))
ANSWERS = {
    "": "<think>\n\n</think>\n\nI do not know.",
    "mood?": f"<think>\nLook it up.\n</think>\n\nLet me see.\n{LOOK}",
    "sunny": "<think>\nNow I know.\n</think>\n\nIt is sunny.",
    "broken?": f"<think>\n\n</think>\n\n{calls(('die', {}))}",
    "its server broke": "<think>\n\n</think>\n\nIt died.",
    "mixed?": f"<think>\n\n</think>\n\n{LOOK}\n" + calls(("weather", {"city": "Oslo"})),
}


@pytest.fixture
def backend():
    return ScriptedBackend(ANSWERS, n_slots=4, n_ctx=32768)


@pytest.fixture
async def client(make_app, run, tmp_path):
    program = {"command": sys.executable, "args": [str(PROGRAM)]}
    allowed = {"alwaysAllow": ["variable", "die"], "disabledTools": ["folder", "add", "process"]}
    servers = {
        "tools": program | {"env": {"MOOD": "sunny"}} | allowed,
        "dead": {"command": "/no/such/program", "alwaysAllow": ["x"]},
    }
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
    app = make_app(mcp_config=path)
    async with run(app) as client:
        await app.state.mcp.settled()
        yield client


MCP = {"type": "mcp", "server_label": "tools", "require_approval": "never"}


async def test_a_tool_runs_here_and_every_step_is_an_item_and_streams(
    client, respond, stream, together, said, weather
):
    events = await stream(client, "mood?", tools=[MCP])
    response = events[-1]["response"]
    listed, thought, text, call, second, last = response["output"]
    assert together(events) == response["output"]
    assert (listed["type"], listed["server_label"]) == ("mcp_list_tools", "tools")
    assert sorted(tool["name"] for tool in listed["tools"]) == ["die", "variable"]
    assert thought["content"][0]["text"] == "Look it up."
    assert text["content"][0]["text"] == "Let me see."
    assert (call["type"], call["status"], call["error"]) == ("mcp_call", "completed", None)
    assert (call["server_label"], call["name"], call["output"]) == ("tools", "variable", "sunny")
    assert json.loads(call["arguments"]) == {"name": "MOOD"}
    assert second["content"][0]["text"] == "Now I know."
    assert last["content"][0]["text"] == "It is sunny."
    kinds = [event["type"].removeprefix("response.") for event in events]
    told = [kind for kind in kinds if kind.startswith("mcp")]
    assert told == [
        "mcp_list_tools.in_progress",
        "mcp_list_tools.completed",
        "mcp_call.in_progress",
        "mcp_call_arguments.delta",
        "mcp_call_arguments.done",
        "mcp_call.completed",
    ]

    again = await respond(client, "sunny", previous_response_id=response["id"], tools=[MCP])
    assert said(again) == "It is sunny."

    broken = await respond(client, "broken?", tools=[MCP])
    (failed,) = [item for item in broken["output"] if item["type"] == "mcp_call"]
    assert (failed["status"], failed["output"]) == ("failed", None)
    assert failed["error"]["type"] == "mcp_tool_execution_error"
    assert failed["error"]["content"][0]["text"]
    assert said(broken) == "It died."

    mixed = await respond(client, "mixed?", tools=[MCP, weather])
    assert [item["type"] for item in mixed["output"]] == [
        "mcp_list_tools",
        "function_call",
        "mcp_call",
    ]


async def test_a_server_that_is_down_is_told_and_choices_are_kept_to(
    client, respond, said, weather
):
    response = await respond(client, "hm", tools=[{"type": "mcp", "server_label": "dead"}])
    (listed,) = [item for item in response["output"] if item["type"] == "mcp_list_tools"]
    assert (listed["server_label"], listed["tools"]) == ("dead", [])
    assert listed["error"]
    assert said(response) == "I do not know."

    only = {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "function", "name": "weather"}],
    }
    response = await respond(client, "hm", tools=[MCP, weather], tool_choice=only)
    assert [item["type"] for item in response["output"]] == ["message"]

    body = {"input": "x", "tools": [MCP], "tool_choice": {"type": "mcp", "server_label": "tools"}}
    body["max_tool_calls"] = 0
    reply = await client.post("/v1/responses", json=body)
    assert reply.status_code == 200

    approval = {"input": "x", "tools": [MCP | {"require_approval": "always"}]}
    refused = await client.post("/v1/responses", json=approval)
    assert refused.json()["error"]["param"] == "tools[0].require_approval"
