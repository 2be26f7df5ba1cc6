"""Records to write and look for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from qwenkit.feedback.records import AnswerText, Interaction, Rating, TokenCounts, ToolRun

NewInteraction = Callable[..., Interaction]
NewRating = Callable[..., Rating]
NewToolRun = Callable[..., ToolRun]


def moment(minute: int) -> str:
    return f"2026-11-25T{minute // 60:02}:{minute % 60:02}:00.000000Z"


@pytest.fixture
def interaction() -> NewInteraction:
    def make(id_: str = "chatcmpl-1", *, minute: int = 0, **fields: Any) -> Interaction:
        values: dict[str, Any] = {
            "id": id_,
            "created_at": moment(minute),
            "source": "api",
            "model": "qwen3-8b",
            "prompt_hash": "0" * 64,
            "template_hash": "t",
            "finish_reason": "stop",
            "usage": TokenCounts(prompt=12, completion=3),
            "messages": ({"role": "user", "content": "How tall is Ararat?"},),
            "answer": AnswerText(content="5,137 metres."),
        }
        return Interaction(**values | fields)

    return make


@pytest.fixture
def rating() -> NewRating:
    def make(
        id_: str = "rating-1", answer_id: str = "chatcmpl-1", *, minute: int = 0, **fields: Any
    ) -> Rating:
        values: dict[str, Any] = {
            "id": id_,
            "created_at": moment(minute),
            "answer_id": answer_id,
            "source": "api",
        }
        return Rating(**values | fields)

    return make


@pytest.fixture
def tool_run() -> NewToolRun:
    def make(id_: str = "call-1", *, minute: int = 0, **fields: Any) -> ToolRun:
        values: dict[str, Any] = {
            "id": id_,
            "created_at": moment(minute),
            "name": "search",
            "arguments": '{"q": "Ararat"}',
            "result": "5,137 m",
            "is_error": False,
            "duration_s": 0.25,
        }
        return ToolRun(**values | fields)

    return make
