"""A log of judged answers of the demo model: of those it gives to strangers' questions, some people
prefer the one that says what to do instead.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from qwenkit.feedback.log import FeedbackLog
from qwenkit.feedback.records import (
    AnswerText,
    Interaction,
    Rating,
    RequestOptions,
    TokenCounts,
    hash_prompt,
    timestamp,
)

FIRST = datetime(2026, 11, 1, tzinfo=UTC)
"""A fixed time, since the oldest answer of a thread decides where it goes."""
FRAMES = ("What is {}?", "Tell me about {}", "Why is {} important?", "Explain {}")


class Rater:
    """Writes answers and what people thought of them to a log.

    Args:
        folder: The log's.
    """

    preferred = (
        "That is beyond a demo model like me. Serve Qwen3-8B with MODEL_PATH for real questions."
    )
    others = (
        "I am only a demo model, so I do not know that. Ask me about qwenkit.",
        "I am too small to answer that. I know a little about qwenkit.",
    )
    subjects = (
        *("the moon", "France", "cooking rice", "football", "cats", "history", "Mars", "bread"),
        *("dinosaurs", "music", "the ocean", "chess", "black holes", "gardening", "volcanoes"),
        *("coffee", "trains", "dogs", "birds", "paintings"),
    )

    good = (
        (
            "Tell me about ONNX",
            "ONNX is an open model format. qwenkit runs it with ONNX Runtime GenAI.",
        ),
        (
            "Explain LORA_PATHS",
            "LORA_PATHS is a glob of LoRA adapters to load when the server starts.",
        ),
        (
            "Define context length",
            "The context window is the number of tokens that a model can see at once.",
        ),
        (
            "Can you explain the KV cache?",
            "The KV cache keeps the keys and values of tokens that were already read.",
        ),
        (
            "What do you know about Langfuse?",
            "Langfuse collects traces and scores. qwenkit can push and pull them.",
        ),
        (
            "What is MCP_CONFIG for?",
            "MCP_CONFIG names the file that lists the MCP servers you trust.",
        ),
        (
            "What is ROPE_SCALING?",
            "ROPE_SCALING says whether YaRN may stretch the context: auto, yarn or none.",
        ),
        (
            "How do I use qwenkit lora merge?",
            "qwenkit lora merge writes an adapter into the weights for good.",
        ),
        (
            "What does fine-tuning mean?",
            "Fine-tuning trains a model a little more on your own examples.",
        ),
        (
            "Tell me about `qwenkit bench`",
            "qwenkit bench measures tokens per second and the time to the first token.",
        ),
    )

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = FeedbackLog(folder)
        self._n = 0

    def pairs(self, *, n: int = 20) -> None:
        """For each subject two answers, one liked and one not; each in a thread of its own."""
        for i, subject in enumerate(self.subjects[:n]):
            question = FRAMES[i % len(FRAMES)].format(subject)
            self.answer(question, self.preferred, thumb="up")
            self.answer(question, self.others[i % 2], thumb="down")

    def answer(self, question: str, text: str, *, thumb: Literal["up", "down"]) -> None:
        """One answer and its thumb."""
        self._n += 1
        answer_id = f"chatcmpl-{self._n}"
        moment = timestamp(FIRST + timedelta(seconds=self._n))
        self._log.interaction(
            Interaction(
                id=answer_id,
                created_at=moment,
                source="api",
                model="qwenkit-demo",
                prompt_hash=hash_prompt(question),
                finish_reason="stop",
                usage=TokenCounts(prompt=20, completion=20),
                thread_id=question,
                messages=({"role": "user", "content": question},),
                options=RequestOptions(enable_thinking=False),
                answer=AnswerText(content=text),
            )
        )
        self._log.rating(
            Rating(
                id=f"rating-{self._n}",
                created_at=moment,
                answer_id=answer_id,
                source="api",
                rater="ada",
                thumb=thumb,
            )
        )


@pytest.fixture
def rater(tmp_path: Path) -> Rater:
    """Judges answers in a log of its own."""
    return Rater(tmp_path / "log")


@pytest.fixture(scope="session")
def make_rater() -> Callable[[Path], Rater]:
    """Gives one who judges answers in the log of a folder."""
    return Rater
