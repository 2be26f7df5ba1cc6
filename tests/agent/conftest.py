"""A scripted model in this process, for the agent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.chat.completion import ChatModel
from qwenkit.chat.template import ChatTemplate
from qwenkit.engine.engine import Engine


def call(name: str, **arguments: Any) -> str:
    body = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>\n{body}\n</tool_call>"


ANSWERS = {
    "": "<think>\n\n</think>\n\nI do not know.",
    "hello": "<think>\nA greeting.\n</think>\n\nHello there!",
    "sum": f"<think>\nA tool knows.\n</think>\n\n{call('calculator', expression='17*23')}",
    "391": "<think>\n\n</think>\n\nIt is 391.",
    "weather": f"<think>\n\n</think>\n\n{call('weather', city='Oslo')}",
    "rain": "<think>\n\n</think>\n\nTake an umbrella.",
    "fails": f"<think>\n\n</think>\n\n{call('fails')}",
    "long": "<think>\n\n</think>\n\n" + "la " * 1000,
}


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend(ANSWERS, n_slots=2, n_ctx=8192)


@pytest.fixture
def start() -> Iterator[Callable[..., ChatModel]]:
    models: list[ChatModel] = []

    def start(backend: ScriptedBackend) -> ChatModel:
        template = ChatTemplate(None, control_tokens=tuple(backend.tokenizer.control_tokens))
        models.append(ChatModel("scripted", Engine(backend).start(), template))
        return models[-1]

    yield start
    for model in models:
        model.engine.close()


@pytest.fixture
def model(start: Callable[..., ChatModel], backend: ScriptedBackend) -> ChatModel:
    return start(backend)
