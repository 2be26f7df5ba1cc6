"""Failures on Anthropic's routes have Anthropic's shape, wherever they come from."""

from __future__ import annotations

import threading
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

URL = "/v1/messages"
WEATHER = {
    "name": "weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


def asked(text: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "scripted", "max_tokens": 2000, "messages": messages, **fields}


async def _kind(request: Any) -> tuple[int, str]:
    answer = await request
    error = answer.json()
    assert error["type"] == "error"
    return answer.status_code, error["error"]["type"]


@pytest.mark.parametrize(
    ("fields", "kind", "begins"),
    [
        ({"model": "gpt"}, "not_found_error", "model: "),
        ({"model": None}, "invalid_request_error", "model: "),
        ({"max_tokens": None}, "invalid_request_error", "max_tokens: "),
        ({"max_tokens": -1}, "invalid_request_error", "max_tokens: "),
        ({"messages": []}, "invalid_request_error", "messages: "),
        ({"temperature": 200}, "invalid_request_error", "temperature is "),
        ({"stop_sequences": [""]}, "invalid_request_error", "stop_sequences: "),
        ({"tool_choice": {"type": "tool"}}, "invalid_request_error", "tool_choice.name: "),
        ({"tool_choice": {"type": "any"}}, "invalid_request_error", "tool_choice: "),
        ({"mcp_servers": [{"url": "http://x"}]}, "invalid_request_error", "mcp_servers: "),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            "invalid_request_error",
            "thinking.budget_tokens: ",
        ),
        (
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            "invalid_request_error",
            "tools.0.type: ",
        ),
        (
            {"tools": [WEATHER, {"name": "x"}]},
            "invalid_request_error",
            "tools.1.input_schema must be",
        ),
        ({"tools": [WEATHER, WEATHER]}, "invalid_request_error", "tools.1.name: "),
        (
            {"tools": [WEATHER, {"name": "b", "input_schema": {"type": "nonsense"}}]},
            "invalid_request_error",
            "tools.1.input_schema",
        ),
        (
            {"output_format": {"type": "json_schema", "schema": {"type": "nonsense"}}},
            "invalid_request_error",
            "output_config.format.schema: ",
        ),
        (
            {"messages": [{"role": "user", "content": 5}]},
            "invalid_request_error",
            "messages.0.content: ",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
            "invalid_request_error",
            "messages.0.content.0 is of type 'image'",
        ),
    ],
)
async def test_what_is_wrong_is_named(client, fields, kind, begins):
    answer = await client.post(URL, json=asked("hello", **fields))
    error = answer.json()
    assert error["type"] == "error"
    assert error["error"]["type"] == kind
    assert error["error"]["message"].startswith(begins)
    assert answer.headers["request-id"] == error["request_id"]
    assert answer.headers["x-request-id"] == error["request_id"]


async def test_a_prompt_that_is_too_long_says_so_in_anthropics_words(client):
    body = asked("x" * 9000)
    answer = await client.post(URL, json=body)
    n_prompt = (await client.post(f"{URL}/count_tokens", json=body)).json()["input_tokens"]
    message = answer.json()["error"]["message"]
    assert message.startswith(f"prompt is too long: {n_prompt} tokens > 8192 maximum")


async def test_failures_before_the_route_have_the_shape_too(make_app, run):
    async with run(make_app(api_keys="key", max_request_bytes=1024)) as client:
        assert await _kind(client.post(URL, json=asked("hello"))) == (
            401,
            "authentication_error",
        )
        client.headers["x-api-key"] = "key"
        assert await _kind(client.get(URL)) == (405, "invalid_request_error")
        assert await _kind(client.post(f"{URL}/batches", json={})) == (404, "not_found_error")
        assert await _kind(client.post(URL, content=b"{}")) == (415, "invalid_request_error")
        large = await _kind(client.post(URL, json=asked("x" * 1024)))
        assert large == (413, "request_too_large")
        other = await client.post("/v1/chat/completions", json={})
        assert "type" not in other.json()


async def test_a_host_that_is_not_ours_is_refused_in_that_shape(client):
    answer = client.post(URL, json=asked("hello"), headers={"host": "evil.example"})
    assert await _kind(answer) == (403, "permission_error")


async def test_a_model_that_is_loading_is_overloaded(make_app, run):
    gate = threading.Event()
    async with run(make_app(before_load=lambda: gate.wait(20)), wait=False) as client:
        answer = await client.post(URL, json=asked("hello"))
        gate.set()
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert answer.json()["error"]["type"] == "overloaded_error"


async def test_a_bug_is_told_by_an_id(make_app, run):
    app = make_app()
    async with run(app) as client:
        app.state.recorder = None
        answer = await client.post(URL, json=asked("hello"))
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "api_error"
    assert "internal error" in answer.json()["error"]["message"]
