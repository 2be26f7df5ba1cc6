"""The log over MCP: of a server that was asked, and of that server seen from another program."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from qwenkit.chat.remote import RemoteServer
from qwenkit.errors import RemoteError
from qwenkit.feedback.datasets.options import ExportOptions
from qwenkit.feedback.query import Query
from qwenkit.mcp.server.feedback_log import RemoteFeedback

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:8000/mcp"


async def test_what_was_asked_over_mcp_is_found_over_mcp(
    make_app: Callable[..., Any], run: Callable[..., Any]
) -> None:
    app = make_app()
    async with (
        run(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as http,
        Client(streamable_http_client(URL, http_client=http)) as client,
    ):
        asked = await client.call_tool("ask", {"question": "hello"})
        await app.state.recorder.written(list)
        found = await client.call_tool("search_feedback", {"text": "hello"})

    (answer,) = found.structured_content["answers"]
    assert answer["id"] == asked.structured_content["id"]
    assert answer["answer"] == "Hello there!"


@pytest.fixture
def served(make_app: Callable[..., Any], run: Callable[..., Any]) -> Callable[..., Any]:
    """A server that was asked and rated, as another program reaches it."""

    @asynccontextmanager
    async def served(key: str = "admin-key") -> AsyncIterator[tuple[RemoteFeedback, str]]:
        app = make_app(api_keys="user-key", admin_api_keys="admin-key")
        transport = httpx.ASGITransport(app)
        async with (
            run(app),
            RemoteServer("http://127.0.0.1:8000", api_key=key, transport=transport) as server,
        ):
            body = {"messages": [{"role": "user", "content": "hello"}], "model": "scripted"}
            answer = await server.call("POST", "/v1/chat/completions", body)
            await app.state.recorder.written(list)
            rated = {"answer_id": answer["id"], "thumb": "up", "comment": "good & kind"}
            await server.call("POST", "/v1/feedback", rated)
            yield RemoteFeedback(server), answer["id"]

    return served


async def test_another_servers_log_is_read_over_its_api(served) -> None:
    async with served() as (feedback, answer_id):
        page = await feedback.search(Query(thumb="up", text="hello", rated=True, limit=1))
        answer = await feedback.answer(answer_id)
        days = await feedback.days(5)
        rows = await feedback.rows(ExportOptions(format="kto", validation_share=0.0), 10)
        unknown = await feedback.answer("chatcmpl-/?unknown")

    assert page.next_cursor is None
    assert page.items == (answer,)
    assert answer is not None
    assert answer.ratings[0].comment == "good & kind"
    assert [n_answers for _, n_answers in days] == [1]
    assert len(rows) == 1
    assert unknown is None


async def test_another_servers_log_is_for_its_admins(served) -> None:
    async with served(key="user-key") as (feedback, _):
        with pytest.raises(RemoteError) as caught:
            await feedback.search(Query())
        with pytest.raises(RemoteError):
            await feedback.rows(ExportOptions(format="kto", validation_share=0.0), 10)

    assert caught.value.status == 403
