from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.chat.completion import ChatModel
from qwenkit.chat.template import ChatTemplate
from qwenkit.engine.engine import Engine
from qwenkit.errors import InvalidSettings
from qwenkit.server.app import create_app
from qwenkit.settings import LangfuseSpec, Settings

pytestmark = pytest.mark.anyio

SUM = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "17*23"}}\n</tool_call>'
ANSWERS = {
    "": "<think>\n\n</think>\n\nI do not know.",
    "hello": "<think>\nA greeting.\n</think>\n\nHello there!",
    "sum": f"<think>\n\n</think>\n\n{SUM}",
    "391": "<think>\n\n</think>\n\nIt is 391.",
}


def load(spec: Any, *, name: str | None, progress: Any, observer: Any) -> ChatModel:
    backend = ScriptedBackend(ANSWERS, n_slots=4, n_ctx=8192)
    template = ChatTemplate(None, control_tokens=tuple(backend.tokenizer.control_tokens))
    return ChatModel(name or "scripted", Engine(backend, observer=observer).start(), template)


@pytest.fixture
def make_app(spec: LangfuseSpec, tmp_path: Path) -> Callable[..., FastAPI]:
    def make(**settings: Any) -> FastAPI:
        given = {
            "qwenkit_home": tmp_path / "home",
            "log_dir": tmp_path / "logs",
            "langfuse_api_key": f"{spec.public_key}:{spec.secret_key}",
            "langfuse_base_url": spec.base_url,
            "langfuse_tracing_environment": "testing",
            "langfuse_flush_interval": 0.02,
            "agent_allowed_tools": ("*",),
        }
        merged = Settings(_env_file=None, **given | settings)
        return create_app(merged, load=load, fits=lambda *_: True)

    return make


class Running:
    """The application between its start and its end, and a client for it."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._life = app.router.lifespan_context(app)

    async def __aenter__(self) -> httpx.AsyncClient:
        await self._life.__aenter__()
        await self._app.state.serving.loaded()
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self._app), base_url="http://127.0.0.1:8000"
        )
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()
        await self._life.__aexit__(None, None, None)


def asking(text: str, **body: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **body}


async def test_an_answer_and_its_rating_are_in_langfuse_when_the_server_ends(
    make_app: Callable[..., FastAPI], langfuse: Any
) -> None:
    async with Running(make_app()) as client:
        body = asking("hello", user="ada", metadata={"thread_id": "thread-9"})
        answer = (await client.post("/v1/chat/completions", json=body)).json()
        given = {"answer_id": answer["id"], "thumb": "up", "comment": "nice"}
        assert (await client.post("/v1/feedback", json=given)).status_code == 201
    (generation,) = langfuse.observations("generation")
    assert generation.metadata("answer_id") == answer["id"]
    assert generation.attributes["session.id"] == "thread-9"
    assert generation.attributes["user.id"] == "ada"
    assert generation.json("output")["reasoning_content"] == "A greeting."
    (score,) = langfuse.scores.values()
    assert (score["observationId"], score["value"]) == (generation.id, 1)


async def test_choices_of_one_answer_are_one_trace(
    make_app: Callable[..., FastAPI], langfuse: Any
) -> None:
    async with Running(make_app()) as client:
        await client.post("/v1/chat/completions", json=asking("hello", n=2))
    assert len(langfuse.observations("generation")) == 2
    assert len({each.trace_id for each in langfuse.spans.values()}) == 1


async def test_a_run_of_the_agent_is_one_trace_with_its_steps_and_tools(
    make_app: Callable[..., FastAPI], langfuse: Any
) -> None:
    async with Running(make_app()) as client:
        thread = (await client.post("/agent/threads", json={})).json()["thread_id"]
        run = {"assistant_id": "agent", "input": asking("sum")}
        answer = await client.post(f"/agent/threads/{thread}/runs/wait", json=run, timeout=30)
        assert answer.status_code == 200
    generations, (tool,) = langfuse.observations("generation"), langfuse.observations("tool")
    assert len(generations) == 2
    assert {each.trace_id for each in generations} == {tool.trace_id}
    caller = min(generations, key=lambda each: each.start_ns)
    assert tool.parent_id == caller.id
    assert tool.attributes["langfuse.observation.output"] == "391"
    assert {each.attributes["session.id"] for each in (*generations, tool)} == {thread}


async def test_content_that_the_log_does_not_keep_does_not_go_to_langfuse(
    make_app: Callable[..., FastAPI], langfuse: Any
) -> None:
    async with Running(make_app(log_answers="metadata")) as client:
        await client.post("/v1/chat/completions", json=asking("hello"))
    (generation,) = langfuse.observations("generation")
    assert "hello" not in str(generation.attributes).lower()
    assert generation.json("usage_details")["total"] > 0


async def test_what_the_log_takes_out_does_not_go_to_langfuse(
    make_app: Callable[..., FastAPI], langfuse: Any
) -> None:
    async with Running(make_app(log_redact=("email",))) as client:
        await client.post("/v1/chat/completions", json=asking("hello from ada@example.com"))
    (generation,) = langfuse.observations("generation")
    assert "example.com" not in str(generation.attributes)


@pytest.mark.parametrize(
    ("settings", "body"),
    [
        ({"log_answers": "off"}, {}),
        ({"langfuse_tracing_enabled": False}, {}),
        ({"langfuse_api_key": None}, {}),
        ({}, {"store": False}),
    ],
)
async def test_nothing_is_sent_where_nothing_is_to_be(
    make_app: Callable[..., FastAPI],
    langfuse: Any,
    settings: dict[str, Any],
    body: dict[str, Any],
) -> None:
    async with Running(make_app(**settings)) as client:
        answer = await client.post("/v1/chat/completions", json=asking("hello", **body))
        assert answer.status_code == 200
    assert langfuse.requests == []


async def test_a_dead_langfuse_costs_an_answer_nothing_but_a_counter(
    make_app: Callable[..., FastAPI], langfuse: Any
) -> None:
    settings = {"langfuse_base_url": "http://127.0.0.1:9", "langfuse_flush_at": 1}
    app = make_app(**settings, langfuse_timeout=1.0)
    async with Running(app) as client:
        answer = await client.post("/v1/chat/completions", json=asking("hello"))
        assert answer.json()["choices"][0]["message"]["content"] == "Hello there!"
    page = app.state.serving.metrics.render().decode()
    assert 'qwenkit_langfuse_records_lost_total{reason="unreachable"} 1.0' in page


async def test_a_hanging_langfuse_does_not_hold_up_answers(
    make_app: Callable[..., FastAPI], langfuse: Any
) -> None:
    langfuse.open.clear()
    async with Running(make_app(langfuse_flush_at=1)) as client:
        for _ in range(5):
            answer = await client.post("/v1/chat/completions", json=asking("hello"), timeout=5)
            assert answer.status_code == 200
        langfuse.open.set()
    assert len(langfuse.spans) == 5


async def test_what_arrives_is_counted(make_app: Callable[..., FastAPI], langfuse: Any) -> None:
    app = make_app()
    async with Running(app) as client:
        await client.post("/v1/chat/completions", json=asking("hello"))
    assert "qwenkit_langfuse_records_sent_total 1.0" in app.state.serving.metrics.render().decode()


def test_half_of_the_keys_is_refused_before_anything_starts(
    make_app: Callable[..., FastAPI],
) -> None:
    with pytest.raises(InvalidSettings, match="LANGFUSE_SECRET_KEY"):
        make_app(langfuse_api_key=None, langfuse_public_key="pk-lf-1")


def test_the_settings_of_a_spec_are_read(spec: LangfuseSpec) -> None:
    settings = Settings(
        _env_file=None,
        langfuse_public_key=spec.public_key,
        langfuse_secret_key=spec.secret_key,
        langfuse_host=f"{spec.base_url}/",
        langfuse_release="2",
        langfuse_timeout=7,
    )
    made = settings.langfuse_spec()
    assert made is not None
    assert made == replace(
        LangfuseSpec(public_key=spec.public_key, secret_key=spec.secret_key),
        base_url=spec.base_url,
        release="2",
        timeout_s=7.0,
    )
