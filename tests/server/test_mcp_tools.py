"""Tools of MCP servers in `/v1/chat/completions`: asked for, run here, told to the client."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.errors import InvalidSettings

pytestmark = pytest.mark.anyio

PROGRAM = Path(__file__).parent.parent / "mcp" / "plain_server.py"
CHAT = "/v1/chat/completions"


def calls(*asked: tuple[str, dict[str, Any]]) -> str:
    return "\n".join(
        f'<tool_call>\n{{"name": "{name}", "arguments": {json.dumps(given)}}}\n</tool_call>'
        for name, given in asked
    )


LOOK = calls(("variable", {"name": "MOOD"}))
ADD = calls(("add", {"a": 20, "b": 3}))
WEATHER = calls(("weather", {"city": "Oslo"}))
ANSWERS = {
    "": "<think>\n\n</think>\n\nI do not know.",
    "mood?": f"<think>\nLook it up.\n</think>\n\nLet me see.\n{LOOK}",
    "sunny": "<think>\nNow I know.\n</think>\n\nIt is sunny.",
    "look?": f"<think>\n\n</think>\n\n{LOOK}",
    "long?": f"<think>\n\n</think>\n\n{calls(('variable', {'name': 'LONG'}))}",
    "xxxx": "<think>\n\n</think>\n\nThat was long.",
    "both?": f"<think>\n\n</think>\n\n{LOOK}\n{ADD}",
    "23": "<think>\n\n</think>\n\nSunny, and 23.",
    "mixed?": f"<think>\n\n</think>\n\n{LOOK}\n{WEATHER}",
    "again?": f"<think>\n\n</think>\n\n{calls(('variable', {'name': 'AGAIN'}))}",
    "broken?": f"<think>\n\n</think>\n\n{calls(('die', {}))}",
    "its server broke": "<think>\n\n</think>\n\nIt died.",
}
HIDDEN = ["add", "variable", "process", "die", "die_once"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    program = {"command": sys.executable, "args": [str(PROGRAM)]}
    servers = {
        "tools": program
        | {
            "env": {"MOOD": "sunny", "AGAIN": "again?", "LONG": "x" * 20_000},
            "alwaysAllow": ["variable", "add", "die"],
            "disabledTools": ["folder"],
        },
        "asking": program | {"disabledTools": HIDDEN},
        "dead": {"command": "/no/such/program", "alwaysAllow": ["x"]},
        "off": {"command": "x", "disabled": True},
    }
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
    return path


@pytest.fixture
async def client(
    make_app: Callable[..., Any], run: Callable[..., Any], config: Path
) -> AsyncIterator[Any]:
    async with connected(make_app, run, config) as client:
        yield client


@asynccontextmanager
async def connected(
    make_app: Callable[..., Any], run: Callable[..., Any], config: Path
) -> AsyncIterator[Any]:
    app = make_app(mcp_config=config)
    async with run(app) as client:
        await app.state.mcp.settled()
        yield client


@pytest.fixture
def backend(tmp_path: Path) -> ScriptedBackend:
    hang = calls(("hang", {"started": str(tmp_path / "started")}))
    answers = ANSWERS | {"hang?": f"<think>\n\n</think>\n\n{hang}"}
    return ScriptedBackend(answers, n_slots=4, n_ctx=32768)


def mcp(label: str = "tools", **fields: Any) -> dict[str, Any]:
    return {"type": "mcp", "server_label": label, **fields}


async def test_a_tool_that_is_asked_for_runs_here_and_the_answer_goes_on(client, ask):
    reply = (await client.post(CHAT, json=ask("mood?", tools=[mcp()]))).json()
    choice = reply["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] == "Let me see.\n\nIt is sunny."
    assert choice["message"]["reasoning_content"] == "Look it up.\n\nNow I know."
    assert "tool_calls" not in choice["message"]
    (call,) = choice["message"]["mcp_calls"]
    assert call.pop("id").startswith("call_")
    assert call == {
        "index": 0,
        "type": "mcp_call",
        "server_label": "tools",
        "name": "variable",
        "arguments": '{"name": "MOOD"}',
        "status": "completed",
        "output": "sunny",
        "error": None,
    }


async def test_a_stream_tells_a_call_when_it_begins_and_when_it_has_ended(client, ask, events):
    body = ask("mood?", tools=[mcp()], stream=True, stream_options={"include_usage": True})
    *chunks, done = events((await client.post(CHAT, json=body)).text)
    deltas = [each["choices"][0]["delta"] for each in chunks if each["choices"]]
    assert done == "[DONE]"
    assert "".join(delta.get("content") or "" for delta in deltas) == "Let me see.\n\nIt is sunny."
    assert not any("tool_calls" in delta for delta in deltas)
    told = [delta["mcp_calls"][0] for delta in deltas if "mcp_calls" in delta]
    assert [each["status"] for each in told] == ["in_progress", "completed"]
    assert told[0]["id"] == told[1]["id"]
    assert "output" not in told[0]
    assert [delta["role"] for delta in deltas if "role" in delta] == ["assistant"]
    finishes = [each["choices"][0]["finish_reason"] for each in chunks if each["choices"]]
    assert [finish for finish in finishes if finish] == ["stop"]


async def test_the_answer_without_streaming_is_the_streams_sum(client, ask, events):
    body = ask("mood?", tools=[mcp()])
    whole = (await client.post(CHAT, json=body)).json()
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, _ = events((await client.post(CHAT, json=body | options)).text)
    message = whole["choices"][0]["message"]
    deltas = [each["choices"][0]["delta"] for each in chunks if each["choices"]]
    for field in ("content", "reasoning_content"):
        assert "".join(delta.get(field) or "" for delta in deltas) == message[field]
    usage = chunks[-1]["usage"]
    assert usage["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert usage["prompt_tokens"] == whole["usage"]["prompt_tokens"]


async def test_several_calls_of_a_round_are_all_run(client, ask):
    reply = (await client.post(CHAT, json=ask("both?", tools=[mcp()]))).json()
    message = reply["choices"][0]["message"]
    assert [call["output"] for call in message["mcp_calls"]] == ["sunny", "23"]
    assert message["content"] == "Sunny, and 23."


async def test_a_clients_own_tool_is_left_to_the_client(client, ask, weather_tool):
    body = ask("mixed?", tools=[weather_tool, mcp()])
    choice = (await client.post(CHAT, json=body)).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    (theirs,) = choice["message"]["tool_calls"]
    (ours,) = choice["message"]["mcp_calls"]
    assert (theirs["function"]["name"], ours["output"]) == ("weather", "sunny")


async def test_an_answer_that_is_sent_back_keeps_what_its_tools_said(client, ask, weather_tool):
    tools = [weather_tool, mcp()]
    body = ask("mixed?", tools=tools)
    message = (await client.post(CHAT, json=body)).json()["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "cold"}
    body["messages"] += [message, result]
    prompt = (await client.post("/apply-template", json=body | {"tools": [weather_tool]})).json()
    reply = (await client.post(CHAT, json=body)).json()
    assert "sunny" not in json.dumps(prompt)  # a route that runs no tools reads no calls of ours
    assert reply["choices"][0]["message"]["content"] == "It is sunny."


async def test_a_server_that_has_just_died_is_back_for_the_next_request(client, ask):
    await client.post(CHAT, json=ask("broken?", tools=[mcp()]))
    message = (await client.post(CHAT, json=ask("mood?", tools=[mcp()]))).json()["choices"][0][
        "message"
    ]
    assert "mcp_unavailable" not in message
    assert message["content"].endswith("It is sunny.")


async def test_a_result_that_would_fill_the_context_is_cut(client, ask, backend):
    message = (await client.post(CHAT, json=ask("long?", tools=[mcp()]))).json()["choices"][0][
        "message"
    ]
    (call,) = message["mcp_calls"]
    assert "[cut: 3616 of 20000 characters are left out]" in call["output"]
    assert message["content"]


async def test_a_call_that_fails_is_told_to_the_model_and_to_the_client(client, ask):
    message = (await client.post(CHAT, json=ask("broken?", tools=[mcp()]))).json()["choices"][0][
        "message"
    ]
    (call,) = message["mcp_calls"]
    assert (call["status"], call["output"]) == ("failed", None)
    assert "broke" in call["error"]
    assert message["content"] == "It died."


@pytest.mark.parametrize("limit", [0, 1, 2])
async def test_a_model_that_calls_without_end_is_stopped_at_the_limit(client, ask, limit):
    body = ask("again?", tools=[mcp()], max_tool_calls=limit)
    reply = (await client.post(CHAT, json=body)).json()
    choice = reply["choices"][0]
    assert len(choice["message"].get("mcp_calls", ())) == limit
    assert choice["finish_reason"] == "stop"


async def test_without_a_limit_of_its_own_a_request_has_ours(client, ask):
    choice = (await client.post(CHAT, json=ask("again?", tools=[mcp()]))).json()["choices"][0]
    assert len(choice["message"]["mcp_calls"]) == 16


async def test_max_tokens_holds_for_all_rounds_together(client, ask):
    reply = (await client.post(CHAT, json=ask("again?", tools=[mcp()], max_tokens=300))).json()
    assert reply["usage"]["completion_tokens"] <= 300
    assert reply["choices"][0]["finish_reason"] == "length"


async def test_a_call_that_is_required_is_required_once(client, ask):
    body = ask("look?", tools=[mcp()], tool_choice="required")
    message = (await client.post(CHAT, json=body)).json()["choices"][0]["message"]
    assert message["mcp_calls"]
    assert message["content"].endswith("It is sunny.")


async def test_a_tool_of_ours_may_be_named_as_the_one_to_call(client, ask):
    choice = {"type": "mcp", "server_label": "tools", "name": "variable"}
    body = ask("look?", tools=[mcp()], tool_choice=choice)
    message = (await client.post(CHAT, json=body)).json()["choices"][0]["message"]
    assert [call["name"] for call in message["mcp_calls"]] == ["variable"]


async def test_a_server_that_is_down_is_told_and_hurts_nothing(client, ask, events):
    tools = [mcp("dead"), mcp()]
    reply = (await client.post(CHAT, json=ask("mood?", tools=tools))).json()
    message = reply["choices"][0]["message"]
    (down,) = message["mcp_unavailable"]
    assert down["server_label"] == "dead"
    assert down["error"]
    assert message["content"].endswith("It is sunny.")
    streamed = events((await client.post(CHAT, json=ask("hm", tools=tools, stream=True))).text)
    told = [
        each["choices"][0]["delta"]["mcp_unavailable"]
        for each in streamed
        if each != "[DONE]" and "mcp_unavailable" in each["choices"][0]["delta"]
    ]
    assert told == [[down]]


@pytest.mark.parametrize(
    ("entry", "param", "status"),
    [
        ({"type": "mcp"}, "tools[0].server_label", 400),
        (mcp(5), "tools[0].server_label", 400),
        (mcp("nobody"), "tools[0].server_label", 404),
        (mcp("off"), "tools[0].server_label", 400),
        (mcp("asking"), "tools[0]", 400),
        (mcp("asking", allowed_tools=["folder"]), "tools[0].allowed_tools", 400),
        (mcp(allowed_tools=["nothing"]), "tools[0].allowed_tools", 400),
        (mcp(allowed_tools="add"), "tools[0].allowed_tools", 400),
        (mcp(allowed_tools={"names": []}), "tools[0].allowed_tools", 400),
        (mcp(require_approval="always"), "tools[0].require_approval", 400),
        (mcp(server_url="http://127.0.0.1/"), "tools[0].server_url", 400),
        (mcp(headers={"A": "b"}), "tools[0].headers", 400),
        (mcp(authorization="b"), "tools[0].authorization", 400),
    ],
)
async def test_an_entry_that_cannot_be_is_named(client, ask, entry, param, status):
    reply = await client.post(CHAT, json=ask("mood?", tools=[entry]))
    assert reply.status_code == status
    assert reply.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "allowed", [["variable"], {"tool_names": ["variable"]}, ["add", "variable"]]
)
async def test_a_request_may_take_some_of_a_servers_tools(client, ask, allowed):
    tools = [mcp(allowed_tools=allowed, require_approval="never")]
    reply = await client.post(CHAT, json=ask("mood?", tools=tools))
    assert reply.json()["choices"][0]["message"]["mcp_calls"]


async def test_more_entries_than_there_can_be_servers_are_refused(client, ask):
    reply = await client.post(CHAT, json=ask("mood?", tools=[mcp()] * 101))
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "tools[100]"


async def test_only_what_changes_nothing_can_be_asked_for(client, ask):
    tools = [mcp(allowed_tools={"read_only": True})]
    choice = {"type": "mcp", "server_label": "tools", "name": "variable"}
    reply = await client.post(CHAT, json=ask("mood?", tools=tools, tool_choice=choice))
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "tool_choice"


async def test_a_name_that_is_taken_twice_is_refused(client, ask, weather_tool):
    twin = {"type": "function", "function": {"name": "add", "parameters": {}}}
    reply = await client.post(CHAT, json=ask("mood?", tools=[twin, mcp()]))
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "tools[0].function.name"


async def test_several_answers_cannot_run_tools(client, ask):
    reply = await client.post(CHAT, json=ask("mood?", tools=[mcp()], n=2))
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "n")


async def test_users_may_list_the_tools_and_admins_the_servers(make_app, run, config):
    app = make_app(mcp_config=config, api_keys="u", admin_api_keys="a")
    async with run(app, Authorization="Bearer u") as client:
        await app.state.mcp.settled()
        listed = (await client.get("/v1/mcp/tools")).json()["servers"]
        refused = await client.get("/admin/mcp/servers")
        admin = {"Authorization": "Bearer a"}
        servers = (await client.get("/admin/mcp/servers", headers=admin)).json()["servers"]
    assert [each["name"] for each in listed] == ["tools", "asking", "dead"]
    tools = {tool["name"]: tool for tool in listed[0]["tools"]}
    assert tools["add"]["allowed"]
    assert tools["add"]["read_only"]
    assert not tools["process"]["allowed"]
    assert refused.status_code == 403
    states = {each["name"]: each["state"] for each in servers}
    assert states["tools"] == "connected"
    assert states["off"] == "disabled"
    assert "/no/such/program" in next(each for each in servers if each["name"] == "dead")["reason"]


async def test_a_configuration_with_mistakes_keeps_the_server_from_starting(make_app, tmp_path):
    path = tmp_path / "mcp.json"
    path.write_text('{"mcpServers": {"a": {}}}', encoding="utf-8")
    with pytest.raises(InvalidSettings) as caught:
        make_app(mcp_config=path)
    assert "mcpServers.a" in caught.value.message


async def test_a_server_that_stops_does_not_wait_for_a_tool(make_app, run, tmp_path, ask):
    slow = PROGRAM.with_name("tool_server.py")
    servers = {"slow": {"command": sys.executable, "args": [str(slow)], "alwaysAllow": ["hang"]}}
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
    app = make_app(mcp_config=config)
    async with run(app) as client, asyncio.timeout(30):
        await app.state.mcp.settled()
        body = ask("hang?", tools=[mcp("slow")])
        asking = asyncio.create_task(client.post(CHAT, json=body))
        while not (tmp_path / "started").exists():
            await asyncio.sleep(0.005)
        await app.state.serving.drain(0)
        await app.state.mcp.stop()
        assert (await asking).status_code == 503


async def test_what_a_program_wrote_before_it_failed_is_for_admins(make_app, run, tmp_path, ask):
    program = {"command": sys.executable, "args": ["-c", "import sys; sys.exit('key abc')"]}
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": {"bad": program}}), encoding="utf-8")
    app = make_app(mcp_config=config)
    async with run(app) as client:
        await app.state.mcp.settled()
        told = await client.post(CHAT, json=ask("hm", tools=[mcp("bad")]))
        (server,) = (await client.get("/admin/mcp/servers")).json()["servers"]
    assert told.json()["choices"][0]["message"]["mcp_unavailable"]
    assert "abc" not in told.text
    assert "abc" in server["reason"]
