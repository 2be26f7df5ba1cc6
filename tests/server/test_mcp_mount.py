"""The official client against `/mcp` of a server over a scripted model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp_types import PromptReference

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:8000/mcp"
KEYS = {"api_keys": "user-key", "admin_api_keys": "admin-key"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


@pytest.fixture
def connect(make_app: Callable[..., Any], run: Callable[..., Any]) -> Callable[..., Any]:
    """The official client of an application with these settings."""

    @asynccontextmanager
    async def connected(
        key: str = "", mode: str = "auto", app: Any = None, **settings: Any
    ) -> AsyncIterator[Client]:
        options = settings.pop("client", {})
        app = app or make_app(**settings)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with (
            run(app),
            httpx2.AsyncClient(transport=httpx2.ASGITransport(app), headers=headers) as http,
            Client(streamable_http_client(URL, http_client=http), mode=mode, **options) as client,
        ):
            yield client

    return connected


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_asks_the_model(connect, mode):
    async with connect(mode=mode) as client:
        result = await client.call_tool("ask", {"question": "hello"})
    assert not result.is_error
    assert result.content[0].text == "Hello there!"
    assert result.structured_content["reasoning"].strip() == "A greeting."
    assert result.structured_content["model"] == "scripted"
    assert result.structured_content["completion_tokens"] > 0


async def test_a_question_may_do_without_thinking_and_name_a_length(connect, backend):
    async with connect() as client:
        short = {"question": "count", "thinking": False, "max_tokens": 3, "temperature": 0}
        result = await client.call_tool("ask", short)
    assert result.structured_content["completion_tokens"] == 3
    assert result.structured_content["finish_reason"] == "length"
    assert result.structured_content["reasoning"] == ""


async def test_an_adapter_that_an_admin_loads_is_listed_and_answers(
    connect, write_adapter, adapters_dir
):
    path = write_adapter("parrot", "Polly!")
    async with connect("admin-key", lora_dirs=str(adapters_dir), **KEYS) as client:
        loaded = await client.call_tool("load_adapter", {"name": "parrot", "path": str(path)})
        listed = await client.call_tool("list_models", {})
        answer = await client.call_tool("ask", {"question": "hello", "model": "parrot"})
    assert not loaded.is_error
    assert [each["name"] for each in listed.structured_content["models"]] == ["scripted", "parrot"]
    assert answer.content[0].text == "Polly!"


async def test_an_adapter_from_elsewhere_is_refused(connect, write_adapter, tmp_path):
    path = write_adapter("stray", folder=tmp_path / "elsewhere")
    async with connect() as client:
        result = await client.call_tool("load_adapter", {"name": "stray", "path": str(path)})
    assert result.is_error


async def test_only_an_admin_sees_and_may_call_what_changes_the_server(connect):
    async with connect("user-key", **KEYS) as client:
        tools = await client.list_tools()
        with pytest.raises(MCPError):
            await client.call_tool("load_adapter", {"name": "x", "path": "/x"})
    assert [each.name for each in tools.tools] == ["ask", "list_models"]
    async with connect("admin-key", **KEYS) as client:
        tools = await client.list_tools()
    assert [each.name for each in tools.tools] == [
        "ask",
        "list_models",
        "load_adapter",
        "search_feedback",
        "export_feedback",
    ]


@pytest.mark.parametrize("key", ["", "wrong-key"])
async def test_without_a_right_key_nothing_answers(make_app, run, key):
    async with run(make_app(**KEYS)) as client:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        reply = await client.post("/mcp", json=INITIALIZE, headers=ACCEPT | headers)
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://192.0.2.1"}, 403),
        ({"Origin": "http://localhost:5173"}, 200),
        ({"Origin": "http://127.0.0.1:8000"}, 200),
        ({"Origin": "https://ui.example"}, 200),
        ({}, 200),
    ],
)
async def test_other_web_sites_are_kept_out(make_app, run, headers, status):
    async with run(make_app(cors_origins="https://ui.example")) as client:
        reply = await client.post("/mcp", json=INITIALIZE, headers=ACCEPT | headers)
    assert reply.status_code == status


@pytest.mark.parametrize(
    "arguments",
    [{}, {"question": ""}, {"question": 5}, {"question": "x", "max_tokens": 0}, {"qestion": "x"}],
)
async def test_wrong_arguments_are_told_to_the_model(connect, arguments):
    async with connect() as client:
        result = await client.call_tool("ask", arguments)
    assert result.is_error
    assert "question" in result.content[0].text or "max_tokens" in result.content[0].text


async def test_a_model_that_is_not_there_is_told_with_those_that_are(connect):
    async with connect() as client:
        result = await client.call_tool("ask", {"question": "hello", "model": "other"})
    assert result.is_error
    assert "scripted" in result.content[0].text


async def test_a_tool_or_prompt_or_document_that_is_not_there_is_a_protocol_error(connect):
    async with connect() as client:
        for wrong in (
            client.call_tool("nothing", {}),
            client.get_prompt("nothing"),
            client.get_prompt("second_opinion", {"question": "only"}),
            client.read_resource("qwenkit://guides/nothing"),
            client.read_resource("qwenkit://guides/../../pyproject"),
        ):
            with pytest.raises(MCPError):
                await wrong


async def test_the_guides_can_be_read(connect):
    async with connect() as client:
        listed = await client.list_resources()
        uris = [str(each.uri) for each in listed.resources]
        read = await client.read_resource("qwenkit://guides/mcp")
    assert "qwenkit://guides/mcp" in uris
    assert all(each.title and each.mime_type == "text/markdown" for each in listed.resources)
    assert read.contents[0].text.startswith("# ")


async def test_prompts_describe_themselves_and_hold_what_they_are_given(connect):
    async with connect() as client:
        listed = await client.list_prompts()
        got = await client.get_prompt("second_opinion", {"question": "2+2?", "answer": "five"})
    assert all(each.description for each in listed.prompts)
    assert all(arg.description for each in listed.prompts for arg in each.arguments)
    assert "2+2?" in got.messages[0].content.text
    assert "five" in got.messages[0].content.text


async def test_adapters_are_completed(connect, write_adapter, adapters_dir):
    write_adapter("parrot")
    write_adapter("poet")
    async with connect(lora_paths=str(adapters_dir)) as client:
        ref = PromptReference(type="ref/prompt", name="compare_adapter")
        some = await client.complete(ref, {"name": "adapter", "value": "pa"})
        none = await client.complete(ref, {"name": "question", "value": "pa"})
    assert some.completion.values == ["parrot"]
    assert none.completion.values == []


async def test_a_client_is_told_what_it_wants_to_hear(connect):
    told = []

    async def take(message):
        told.append(message.level)

    async with connect(mode="legacy", client={"logging_callback": take}) as client:
        await client.call_tool("ask", {"question": "hello"})
        with pytest.warns(MCPDeprecationWarning):
            await client.set_logging_level("info")
        await client.call_tool("ask", {"question": "hello"})
    assert told == ["info"]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_call_that_is_cancelled_frees_the_model(make_app, connect, mode):
    app = make_app()
    async with connect(mode=mode, app=app) as client:
        engine = (await app.state.serving.loaded()).engine
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call_tool, "ask", {"question": "long"})
            while not engine.snapshot().n_running:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        with anyio.fail_after(10):
            while engine.snapshot().n_running:
                await anyio.lowlevel.checkpoint()


async def test_a_server_that_stops_ends_its_sessions(make_app, run):
    app = make_app()
    async with run(app) as client:
        first = await client.post("/mcp", json=INITIALIZE, headers=ACCEPT)
        await app.state.mcp_mount.stop()
        later = await client.post("/mcp", json=INITIALIZE, headers=ACCEPT)
    assert (first.status_code, later.status_code) == (200, 503)
