from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qwenkit.ide.continue_config import FIM_TEMPLATE, McpTransport, config, left_out
from qwenkit.ide.served import Served


def entries(served: Served, **options: Any) -> dict[str, Any]:
    return config(served, **{"with_key": False, "mcp": McpTransport.HTTP, **options})


def by_role(served: Served, **options: Any) -> dict[str, dict[str, Any]]:
    models = entries(served, **options)["models"]
    return {role: model for model in models for role in model["roles"]}


def test_every_role_of_continue_has_a_model(served: Callable[..., Served]) -> None:
    roles = by_role(served())
    assert set(roles) == {"chat", "edit", "apply", "summarize", "autocomplete", "embed", "rerank"}
    assert {model["apiBase"] for model in roles.values()} == {"http://127.0.0.1:8000/v1"}
    assert left_out(served()) == []


def test_the_model_thinks_in_chats_and_not_before_an_edit(served: Callable[..., Served]) -> None:
    roles = by_role(served())
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    assert roles["edit"]["requestOptions"]["extraBodyProperties"] == off
    assert "requestOptions" not in roles["chat"]


def test_completions_use_qwens_marks_and_are_not_kept(served: Callable[..., Served]) -> None:
    model = by_role(served())["autocomplete"]
    assert model["promptTemplates"] == {"autocomplete": FIM_TEMPLATE}
    assert model["useLegacyCompletionsEndpoint"] is True
    assert model["requestOptions"]["extraBodyProperties"] == {"store": False}


@pytest.mark.parametrize("n_ctx", [1, 512, 4096, 32_768, 1_000_000])
def test_an_answer_never_takes_the_context_that_the_question_needs(
    served: Callable[..., Served], n_ctx: int
) -> None:
    for role in ("chat", "edit", "autocomplete"):
        options = by_role(served(n_ctx=n_ctx))[role]["defaultCompletionOptions"]
        assert 1 <= options["maxTokens"] <= max(1, n_ctx // 2)


@pytest.mark.parametrize(
    ("changes", "role", "word"),
    [
        ({"fills_in": False}, "autocomplete", "tokens for a gap"),
        ({"model": "gpt-mine"}, "autocomplete", "`gpt-mine`"),
        ({"model": "office"}, "autocomplete", "`office`"),
        ({"url": "http://127.0.0.1:1337/v1"}, "autocomplete", "1337"),
        ({"embeds": False}, "embed", "embeddings"),
        ({"reranks": False}, "rerank", "/v1/rerank"),
    ],
)
def test_what_would_not_work_is_left_out_and_said(
    served: Callable[..., Served], changes: dict[str, Any], role: str, word: str
) -> None:
    changed = served(**changes)
    assert role not in by_role(changed)
    (said,) = left_out(changed)
    assert word in said


def test_an_adapter_chats_and_its_base_model_embeds(served: Callable[..., Served]) -> None:
    roles = by_role(served(model="mine"))
    assert roles["chat"]["model"] == roles["autocomplete"]["model"] == "mine"
    assert roles["embed"]["model"] == roles["rerank"]["model"] == "qwen3-8b"


def test_a_key_is_named_and_never_told(served: Callable[..., Served]) -> None:
    found = entries(served(), with_key=True)
    assert {model["apiKey"] for model in found["models"]} == {"${{ secrets.QWENKIT_API_KEY }}"}
    assert found["mcpServers"][0]["apiKey"] == "${{ secrets.QWENKIT_API_KEY }}"
    assert all("apiKey" not in model for model in entries(served())["models"])


def test_mcp_comes_over_http_by_a_program_or_not_at_all(served: Callable[..., Served]) -> None:
    (server,) = entries(served())["mcpServers"]
    assert server["url"] == "http://127.0.0.1:8000/mcp"
    (server,) = entries(served(), mcp=McpTransport.STDIO, with_key=True)["mcpServers"]
    assert server["args"][:4] == ["-m", "qwenkit", "mcp", "serve"]
    assert server["env"] == {"OPENAI_API_KEY": "${{ secrets.QWENKIT_API_KEY }}"}
    assert "mcpServers" not in entries(served(), mcp=McpTransport.NONE)
