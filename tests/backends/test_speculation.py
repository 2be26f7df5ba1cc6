"""Guesses verified by a real model: greedy answers are those of plain decoding, token for token."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwenkit.backends.llamacpp.backend import LlamaBackend
from qwenkit.backends.llamacpp.context import LlamaOptions
from qwenkit.engine.draft_model import DraftModel
from qwenkit.engine.engine import Engine
from qwenkit.engine.observer import SilentObserver
from qwenkit.engine.request import GenerationRequest, SamplingParams, Token
from qwenkit.engine.speculation import PromptLookup
from qwenkit.models.resolve import resolve

from .conftest import QUESTIONS

pytestmark = pytest.mark.anyio


class Counts(SilentObserver):
    drafted = accepted = 0

    def on_draft(self, n_drafted: int, n_accepted: int) -> None:
        self.drafted += n_drafted
        self.accepted += n_accepted


def load(path: Path) -> LlamaBackend:
    options = LlamaOptions(n_ctx=2048, n_slots=3, n_batch=256, n_threads=1, kv_type="f32")
    return LlamaBackend(path, content_id="demo", options=options)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with fewer bits: it mostly says the same, and not always."""
    return resolve(None, home=tmp_path_factory.mktemp("home"), dtype="q8_0").path


@pytest.fixture
def plain(demo_gguf: Path) -> Iterator[Engine]:
    engine = Engine(load(demo_gguf), drafters=()).start()
    yield engine
    engine.close()


async def says(engine: Engine, question: str) -> list[int]:
    text = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    request = GenerationRequest(
        prompt=tuple(engine.tokenizer.encode(text, special=True)),
        max_tokens=80,
        sampling=SamplingParams(temperature=0),
        ignore_eos=True,
    )
    return [event.id async for event in engine.stream(request) if isinstance(event, Token)]


@pytest.mark.parametrize("guesser", ["lookup", "draft", "both"])
async def test_greedy_answers_are_those_of_plain_decoding(
    plain: Engine, demo_gguf: Path, small: Path, guesser: str
) -> None:
    backend = load(demo_gguf)
    drafters: list[Any] = [PromptLookup()] if guesser != "draft" else []
    if guesser != "lookup":
        drafters.append(DraftModel(load(small), backend.tokenizer))
    counts = Counts()
    engine = Engine(backend, drafters=drafters, observer=counts).start()
    try:
        for question in QUESTIONS:
            assert await says(engine, question) == await says(plain, question)
        together = await asyncio.gather(*(says(engine, question) for question in QUESTIONS))
        assert together == [await says(plain, question) for question in QUESTIONS]
    finally:
        engine.close()
    assert 0 < counts.accepted <= counts.drafted
