"""What Continue's `config.yaml` says of a qwenkit server. Pure; knows Continue's schema and habits.

The schema is that of npm's `@continuedev/config-yaml`; what Continue sends for which entry was read
in its source (`core/llm/llms/OpenAI.ts`, `core/autocomplete`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from qwenkit.ide.served import Served

NAME = "qwenkit"
SECRET = "QWENKIT_API_KEY"  # noqa: S105 - the name of a variable
SECRET_REFERENCE = f"${{{{ secrets.{SECRET} }}}}"
DEFAULTS = {"name": "Main Config", "version": "1.0.0", "schema": "v1"}
"""What Continue wants at the top of the file, where nothing else stands there."""

FIM_TEMPLATE = "<|fim_prefix|>{{{prefix}}}<|fim_suffix|>{{{suffix}}}<|fim_middle|>"
"""Qwen's marks. Continue would take StarCoder's for a name with `qwen` in it."""
FIM_MAX_TOKENS = 256
FIM_DEBOUNCE_MS = 250
EMBED_CHUNK = 512
EMBED_BATCH = 32
MAX_ANSWER = 8192
CHAT_ONLY = ("gpt", "o")
"""Continue sends models whose names begin so no raw prompt, and completion needs one."""
PORT_WITHOUT_COMPLETIONS = ":1337"


class McpTransport(StrEnum):
    """How Continue reaches the server's MCP tools."""

    HTTP = "http"
    STDIO = "stdio"
    NONE = "none"


def config(served: Served, *, with_key: bool, mcp: McpTransport) -> dict[str, Any]:
    """The entries for a server, to be merged into a `config.yaml`.

    Args:
        served: The model, and what its server can do.
        with_key: Requests need a key; the entries then refer to the secret of that name.
        mcp: How to reach the MCP server, or not to.
    """
    key = {"apiKey": SECRET_REFERENCE} if with_key else {}
    entries = {"models": [entry | key for entry in _models(served)]}
    if mcp is not McpTransport.NONE:
        entries["mcpServers"] = [_mcp_server(served, mcp, with_key=with_key)]
    return entries


def left_out(served: Served) -> list[str]:
    """What a server's model can't be used for in Continue, a sentence each."""
    return [why for why in (_no_completion(served), *_unable(served)) if why]


def _models(served: Served) -> Iterator[dict[str, Any]]:
    yield _chat(served)
    yield _edit(served)
    if not _no_completion(served):
        yield _autocomplete(served)
    if served.embeds:
        yield _embeddings(served)
    if served.reranks:
        yield _rerank(served)


def _entry(served: Served, name: str, model: str, *roles: str) -> dict[str, Any]:
    return {
        "name": name,
        "provider": "openai",
        "model": model,
        "apiBase": served.url,
        "roles": list(roles),
    }


def _chat(served: Served) -> dict[str, Any]:
    return _entry(served, NAME, served.model, "chat") | {
        "contextLength": served.n_ctx,
        "capabilities": ["tool_use"],
        # Continue keeps this much of the context free, and fails where nothing is left.
        "defaultCompletionOptions": {"maxTokens": _answer_tokens(served)},
    }


def _edit(served: Served) -> dict[str, Any]:
    """Edits come back at once: the model does not think about them first."""
    return _entry(served, f"{NAME} edit", served.model, "edit", "apply", "summarize") | {
        "contextLength": served.n_ctx,
        "defaultCompletionOptions": {"maxTokens": _answer_tokens(served)},
        "requestOptions": _extra({"chat_template_kwargs": {"enable_thinking": False}}),
    }


def _autocomplete(served: Served) -> dict[str, Any]:
    return _entry(served, f"{NAME} autocomplete", served.model, "autocomplete") | {
        "contextLength": served.n_ctx,
        "useLegacyCompletionsEndpoint": True,
        "defaultCompletionOptions": {"maxTokens": min(FIM_MAX_TOKENS, _answer_tokens(served))},
        "promptTemplates": {"autocomplete": FIM_TEMPLATE},
        "autocompleteOptions": {"debounceDelay": FIM_DEBOUNCE_MS},
        # What is asked at every pause in typing is nothing that somebody rates.
        "requestOptions": _extra({"store": False}),
    }


def _embeddings(served: Served) -> dict[str, Any]:
    return _entry(served, f"{NAME} embeddings", served.base, "embed") | {
        "embedOptions": {"maxChunkSize": EMBED_CHUNK, "maxBatchSize": EMBED_BATCH}
    }


def _rerank(served: Served) -> dict[str, Any]:
    # Continue's OpenAI provider wants the scores in `data`; the one for vLLM reads `results`.
    entry = _entry(served, f"{NAME} rerank", served.base, "rerank")
    return entry | {"provider": "vllm"}


def _answer_tokens(served: Served) -> int:
    return max(1, min(MAX_ANSWER, served.n_ctx // 4))


def _extra(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"extraBodyProperties": dict(body)}


def _mcp_server(served: Served, mcp: McpTransport, *, with_key: bool) -> dict[str, Any]:
    if mcp is McpTransport.HTTP:
        key = {"apiKey": SECRET_REFERENCE} if with_key else {}
        return {"name": NAME, "type": "streamable-http", "url": f"{served.root}/mcp"} | key
    env = {"env": {"OPENAI_API_KEY": SECRET_REFERENCE}} if with_key else {}
    # An editor that was started from a desktop does not have the environment's programs on its
    # PATH.
    args = ["-m", "qwenkit", "mcp", "serve", "--url", served.url]
    return {"name": NAME, "command": sys.executable, "args": args} | env


def _no_completion(served: Served) -> str:
    if not served.fills_in:
        return "no autocompletion: the model has no tokens for a gap in a text"
    if served.model.startswith(CHAT_ONLY):
        return (
            f"no autocompletion: Continue takes `{served.model}` for a chat model of OpenAI's by "
            "the beginning of its name"
        )
    if PORT_WITHOUT_COMPLETIONS in served.url:
        return "no autocompletion: Continue takes a server at port 1337 for one without it"
    return ""


def _unable(served: Served) -> Iterator[str]:
    if not served.embeds:
        yield "no embeddings: the server's runtime makes none"
    if not served.reranks:
        yield "no reranking: the server has no `/v1/rerank`"
