"""What Continue sends and reads, against the served demo model.

The bodies are those of Continue's source: chats, edits, embeddings and reranking go through
`packages/openai-adapters` (npm's 1.37.0, which `test_continue_node.py` runs), completions through
`core/llm/llms/OpenAI.ts`, with the prompt and the stops of `core/autocomplete/templating`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from qwenkit.chat.remote import RemoteServer
from qwenkit.ide.continue_config import FIM_TEMPLATE, McpTransport, config
from qwenkit.ide.served import Served, look


@pytest.fixture(scope="module")
def found(url: str, key: str) -> Served:
    async def ask() -> Served:
        async with RemoteServer(url, api_key=key) as server:
            return await look(server)

    return asyncio.run(ask())


@pytest.fixture
def model(found: Served) -> Any:
    models = config(found, with_key=True, mcp=McpTransport.HTTP)["models"]
    return {role: each for each in models for role in each["roles"]}.__getitem__


def chunks(client: httpx.Client, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    with client.stream("POST", path, json=body) as reply:
        assert reply.status_code == 200, reply.read()
        for line in reply.iter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                yield json.loads(line.removeprefix("data: "))


def chat_body(model: dict[str, Any], text: str, **more: Any) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "system", "content": "You are in chat mode."},
            {"role": "user", "content": text},
        ],
        "model": model["model"],
        "max_tokens": model["defaultCompletionOptions"]["maxTokens"],
        "stream": True,
        "stream_options": {"include_usage": True},
        **model.get("requestOptions", {}).get("extraBodyProperties", {}),
        **more,
    }


def deltas(found: Iterator[dict[str, Any]], field: str) -> str:
    choices = [choice for chunk in found for choice in chunk["choices"]]
    return "".join(choice["delta"].get(field) or "" for choice in choices)


def test_the_demo_model_is_found_with_all_it_can(found: Served, url: str) -> None:
    assert (found.url, found.model, found.n_ctx) == (f"{url}/v1", "qwenkit-demo", 4096)
    assert (found.fills_in, found.embeds) == (True, True)


def test_a_chat_streams_thoughts_and_an_answer(client: httpx.Client, model: Any) -> None:
    body = chat_body(model("chat"), "What is qwenkit?", temperature=0)
    got = list(chunks(client, "/v1/chat/completions", body))
    assert deltas(iter(got), "reasoning_content")
    assert "Qwen3" in deltas(iter(got), "content")
    assert got[-1]["usage"]["completion_tokens"] > 0


def test_a_chat_with_tools_calls_one(client: httpx.Client, model: Any) -> None:
    tool = {
        "type": "function",
        "function": {
            "name": "calculator",
            "description": "Calculate an arithmetic expression",
            "parameters": {
                "type": "object",
                "properties": {"expression": {"type": "string"}},
                "required": ["expression"],
            },
        },
    }
    more = {"tools": [tool], "parallel_tool_calls": False, "temperature": 0}
    body = chat_body(model("chat"), "What is 12 * 7?", **more)
    body["messages"].pop(0)
    calls = [
        call["function"]
        for chunk in chunks(client, "/v1/chat/completions", body)
        for choice in chunk["choices"]
        for call in choice["delta"].get("tool_calls") or ()
    ]
    assert calls[0]["name"] == "calculator"
    assert "expression" in json.loads("".join(call.get("arguments") or "" for call in calls))


def test_an_edit_does_not_think_first(client: httpx.Client, model: Any) -> None:
    got = list(chunks(client, "/v1/chat/completions", chat_body(model("edit"), "What is qwenkit?")))
    assert deltas(iter(got), "reasoning_content") == ""
    assert deltas(iter(got), "content")


def completion_body(model: dict[str, Any], before: str, after: str) -> dict[str, Any]:
    prompt = FIM_TEMPLATE.replace("{{{prefix}}}", f"\n{before}").replace("{{{suffix}}}", after)
    return {
        "model": model["model"],
        "max_tokens": model["defaultCompletionOptions"]["maxTokens"],
        "temperature": 0.01,
        "stream": True,
        "stop": ["/src/", "#- coding: utf-8", "```"],
        "prompt": prompt,
        **model["requestOptions"]["extraBodyProperties"],
    }


def test_a_completion_fills_the_gap_and_ends_there(client: httpx.Client, model: Any) -> None:
    before, after = "if x > 0:\n    print('posi", "else:\n    print('negative')"
    body = completion_body(model("autocomplete"), before, after)
    got = list(chunks(client, "/v1/completions", body))
    text = "".join(chunk["choices"][0]["text"] for chunk in got)
    assert got[-1]["choices"][0]["finish_reason"] == "stop"
    by_suffix = body | {"prompt": f"\n{before}", "suffix": after, "stream": False}
    whole = client.post("/v1/completions", json=by_suffix).json()["choices"][0]
    assert (whole["text"], whole["finish_reason"]) == (text, "stop")
    assert text


def test_embeddings_come_in_the_form_of_openais_sdk(client: httpx.Client, model: Any) -> None:
    body = {
        "model": model("embed")["model"],
        "input": ["one", "two"],
        "encoding_format": "base64",
    }
    data = client.post("/v1/embeddings", json=body).raise_for_status().json()["data"]
    vectors = [base64.b64decode(each["embedding"]) for each in data]
    for vector in vectors:
        numbers = struct.unpack(f"<{len(vector) // 4}f", vector)
        assert sum(each * each for each in numbers) == pytest.approx(1.0, abs=1e-3)


def test_scores_stand_where_continues_vllm_provider_reads_them(
    client: httpx.Client, found: Served, model: Any
) -> None:
    if not found.reranks:
        pytest.skip("this server has no /v1/rerank")
    documents = ["about cats", "qwenkit serves Qwen3", "about dogs"]
    entry = model("rerank")
    assert entry["provider"] == "vllm"
    body = {"model": entry["model"], "query": "What is qwenkit?", "documents": documents}
    answer = client.post("/v1/rerank", json=body).raise_for_status().json()
    results = sorted(answer["results"], key=lambda each: each["index"])
    assert [each["index"] for each in results] == [0, 1, 2]
    assert all(isinstance(each["relevance_score"], float) for each in results)


def test_the_mcp_server_takes_the_key_as_continue_sends_it(
    client: httpx.Client, found: Served
) -> None:
    (server,) = config(found, with_key=True, mcp=McpTransport.HTTP)["mcpServers"]
    body = {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "continue-client", "version": "1.0.0"},
        },
    }
    accept = {"Accept": "application/json, text/event-stream"}
    reply = client.post(server["url"], json=body, headers=accept)
    assert reply.status_code == 200
    assert "qwenkit" in reply.text
