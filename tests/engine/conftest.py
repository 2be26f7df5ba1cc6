"""An engine over scripted answers, and short ways to ask it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.engine.engine import Engine
from qwenkit.engine.request import (
    Event,
    Finished,
    GenerationRequest,
    PromptReady,
    RequestDone,
    SamplingParams,
    Token,
)

GREEDY = SamplingParams(temperature=0)


@dataclass
class Answer:
    events: list[Event] = field(default_factory=list)

    @property
    def ready(self) -> PromptReady:
        return next(e for e in self.events if isinstance(e, PromptReady))

    def tokens(self, choice: int = 0) -> list[int]:
        return [e.id for e in self.events if isinstance(e, Token) and e.choice == choice]

    def text(self, choice: int = 0) -> str:
        parts = [e for e in self.events if isinstance(e, Token | Finished) and e.choice == choice]
        return "".join(part.text for part in parts)

    def finished(self, choice: int = 0) -> Finished:
        return next(e for e in self.events if isinstance(e, Finished) and e.choice == choice)

    @property
    def done(self) -> RequestDone:
        last = self.events[-1]
        assert isinstance(last, RequestDone)
        return last


def request(engine: Engine, prompt: str, **fields: Any) -> GenerationRequest:
    tokens = tuple(engine.tokenizer.encode(prompt, special=True))
    fields.setdefault("sampling", GREEDY)
    return GenerationRequest(prompt=tokens, **fields)


async def ask(engine: Engine, prompt: str, **fields: Any) -> Answer:
    answer = Answer()
    async for event in engine.stream(request(engine, prompt, **fields)):
        answer.events.append(event)
    return answer


@pytest.fixture
def start_engine() -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def start(backend: ScriptedBackend, **options: Any) -> Engine:
        engine = Engine(backend, **options).start()
        engines.append(engine)
        return engine

    yield start
    for engine in engines:
        engine.close()
