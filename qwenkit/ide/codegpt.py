"""What to enter in the two programs called CodeGPT. Pure.

Neither has a file that another program could write. CodeGPT for VS Code keeps its connections in
the editor's own storage, and its source is closed: what is known of it is its documentation
(github.com/davila7/code-gpt-docs). CodeGPT for JetBrains, now ProxyAI, keeps them in the IDE's
settings and the key in the system's keychain; its fields were read in its source
(github.com/carlrobertoh/ProxyAI).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from qwenkit.ide.served import Served

ANY_KEY = "any text: the server wants no key"
YOUR_KEY = "your key"
VS_CODE_COMPLETES_NOT = (
    "CodeGPT for VS Code completes code with Ollama, Mistral or its own service only; for "
    "completions there, use Continue or llama.vscode beside it"
)
VS_CODE_BY_LM_STUDIO = (
    "if its Custom provider does not connect, serve at LM Studio's port "
    "(`qwenkit serve --port 1234`) and choose LM Studio"
)
MAX_CHAT_TOKENS = 4096
MAX_CODE_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Field:
    """One setting.

    Args:
        program: Whose it is.
        place: The page or tab.
        name: Its label.
        value: What to enter.
    """

    program: str
    place: str
    name: str
    value: str


def settings(served: Served, *, with_key: bool) -> list[Field]:
    """Every field to fill in, in the order in which one meets them."""
    key = YOUR_KEY if with_key else ANY_KEY
    return [*_vs_code(served, key), *_jetbrains(served, key)]


def notes(served: Served) -> list[str]:
    """What the fields can't say, a sentence each."""
    said = [VS_CODE_COMPLETES_NOT, VS_CODE_BY_LM_STUDIO]
    if not served.fills_in:
        said.append("no code completions: the model has no tokens for a gap in a text")
    return said


def chat_body(served: Served) -> dict[str, Any]:
    """The body of ProxyAI's chat requests; it puts the messages in the place of their name."""
    return {
        "model": served.model,
        "messages": "$OPENAI_MESSAGES",
        "stream": True,
        "max_tokens": min(MAX_CHAT_TOKENS, max(1, served.n_ctx // 4)),
    }


def code_body(served: Served) -> dict[str, Any]:
    """The body of its completions; it puts the text around the cursor in the places of names."""
    return {
        "model": served.model,
        "prompt": "$PREFIX",
        "suffix": "$SUFFIX",
        "stream": True,
        "temperature": 0.2,
        "max_tokens": MAX_CODE_TOKENS,
        "store": False,
    }


def _vs_code(served: Served, key: str) -> Iterator[Field]:
    program = "CodeGPT for VS Code"
    yield Field(program, "Provider", "Provider", "Custom")
    yield Field(program, "Set connection", "API Key", key)
    yield Field(program, "Set connection", "Custom Link", served.url)
    yield Field(program, "Model", "Model", served.model)


def _jetbrains(served: Served, key: str) -> Iterator[Field]:
    program = "ProxyAI for JetBrains"
    place = "Tools, ProxyAI, Providers, Custom OpenAI"
    yield Field(program, place, "Preset template", "OpenAI")
    yield Field(program, place, "API key", key)
    yield from _request(program, "Chat Completions", f"{served.url}/chat/completions")
    yield from _body(program, "Chat Completions", chat_body(served))
    if served.fills_in:
        yield from _request(program, "Code Completions", f"{served.url}/completions")
        yield from _body(program, "Code Completions", code_body(served))


def _request(program: str, place: str, url: str) -> Iterator[Field]:
    yield Field(program, place, "URL", url)
    yield Field(program, place, "Headers", "Authorization: Bearer $CUSTOM_SERVICE_API_KEY")


def _body(program: str, place: str, body: dict[str, Any]) -> Iterator[Field]:
    yield Field(program, place, "Body", json.dumps(body))
