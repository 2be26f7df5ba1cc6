"""Answers that call tools of MCP servers are recorded round by round, and `ask` of ours as well."""

import json
import sys
from pathlib import Path

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.chat.completion import ChatOptions, prepare_chat
from qwenkit.feedback.records import hash_prompt

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
PROGRAM = Path(__file__).parents[2] / "mcp" / "plain_server.py"
LOOK = '<tool_call>\n{"name": "variable", "arguments": {"name": "MOOD"}}\n</tool_call>'
MCP = {"type": "mcp", "server_label": "tools"}


@pytest.fixture
def backend():
    answers = {
        "": "<think>\n\n</think>\n\nI do not know.",
        "hello": "<think>\nA greeting.\n</think>\n\nHello there!",
        "mood?": f"<think>\nLook it up.\n</think>\n\nLet me see.\n{LOOK}",
        "sunny": "<think>\nNow I know.\n</think>\n\nIt is sunny.",
    }
    return ScriptedBackend(answers, n_slots=4, n_ctx=32768)


@pytest.fixture
def app(make_app, tmp_path):
    servers = {
        "tools": {
            "command": sys.executable,
            "args": [str(PROGRAM)],
            "env": {"MOOD": "sunny"},
            "alwaysAllow": ["variable"],
            "disabledTools": ["folder"],
        }
    }
    config = tmp_path / "mcp.json"
    config.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
    return make_app(mcp_config=config)


@pytest.fixture
async def client(app, run):
    async with run(app) as client:
        await app.state.mcp.settled()
        yield client


@pytest.mark.parametrize("stream", [False, True])
async def test_every_round_is_an_answer_to_its_own_prompt(client, ask, log, events, stream):
    body = ask("mood?", tools=[MCP], stream=stream, metadata={"thread_id": "t1"})
    reply = await client.post(CHAT, json=body)
    sent = events(reply.text)[0] if stream else reply.json()
    first, last = sorted(log.answers(), key=lambda each: len(each.messages))
    assert (first.id, last.id) == (f"{sent['id']}:round-1", sent["id"])
    assert first.answer.content == "Let me see."
    assert [each.name for each in first.answer.tool_calls] == ["variable"]
    assert (first.finish_reason, last.finish_reason) == ("tool_calls", "stop")
    assert last.answer.content == "It is sunny."
    assert [each["role"] for each in last.messages] == ["user", "assistant", "tool"]
    model = client.state.serving.model
    for each in (first, last):
        again = prepare_chat(model, each.messages, each.tools, ChatOptions())
        assert hash_prompt(again.prompt.text) == each.prompt_hash


async def test_a_tool_that_ran_belongs_to_the_round_that_called_it(client, ask, log):
    await client.post(CHAT, json=ask("mood?", tools=[MCP], metadata={"thread_id": "t1"}))
    (ran,) = log.tool_runs()
    first = min(log.answers(), key=lambda each: len(each.messages))
    assert (ran.answer_id, ran.id) == (first.id, first.answer.tool_calls[0].id)
    assert (ran.name, json.loads(ran.arguments), ran.result) == (
        "variable",
        {"name": "MOOD"},
        "sunny",
    )
    assert (ran.approved, ran.is_error, ran.thread_id) == (None, False, "t1")
    assert ran.duration_s > 0


async def test_rounds_that_are_not_to_be_stored_leave_nothing(client, ask, log, drained):
    await client.post(CHAT, json=ask("mood?", tools=[MCP], store=False))
    await drained(client)
    assert log.records() == []


async def test_the_answer_can_be_rated_by_the_id_that_the_client_has(client, ask):
    sent = (await client.post(CHAT, json=ask("mood?", tools=[MCP]))).json()
    reply = await client.post("/v1/feedback", json={"answer_id": sent["id"], "thumb": "up"})
    assert reply.status_code == 201


async def test_what_another_client_asks_over_mcp_is_recorded_and_can_be_rated(client, app, log):
    async with (
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as http,
        Client(streamable_http_client("http://127.0.0.1:8000/mcp", http_client=http)) as mcp,
    ):
        result = await mcp.call_tool("ask", {"question": "hello"})
    (record,) = log.answers()
    assert (record.source, record.answer.content) == ("mcp", "Hello there!")
    rating = {"answer_id": result.structured_content["id"], "thumb": "up"}
    assert record.id == rating["answer_id"]
    assert (await client.post("/v1/feedback", json=rating)).status_code == 201
