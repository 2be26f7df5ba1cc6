"""What is measured: a server behind a URL, or an engine in this process."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from qwenkit.bench.record import Record
from qwenkit.chat.remote import RemoteServer
from qwenkit.engine.request import (
    Finished,
    GenerationRequest,
    PromptReady,
    SamplingParams,
    Token,
)
from qwenkit.errors import RemoteError

if TYPE_CHECKING:
    from qwenkit.engine.engine import Engine

Endpoint: TypeAlias = Literal["completions", "chat"]

QWEN3_SAMPLING = SamplingParams(temperature=0.6, top_p=0.95, top_k=20)
"""What Qwen advises for answers with thinking."""
GREEDY = SamplingParams(temperature=0.0)


class Target(Protocol):
    """Something that generates text and can be measured."""

    @property
    def name(self) -> str:
        """What it is called in reports."""

    async def generate(self, prompt: str, *, max_tokens: int, record: Record) -> None:
        """Generate exactly so many tokens, whatever they are, and note in the record when."""

    async def count_tokens(self, text: str) -> int:
        """Tokens that a prompt of this text has."""


@dataclass(frozen=True, slots=True)
class ServerTarget:
    """A model of an OpenAI-compatible server.

    Args:
        server: Where to send requests.
        model: The model's name there.
        endpoint: Which of the two APIs to use.
        sampling: How tokens are drawn.
    """

    server: RemoteServer
    model: str
    endpoint: Endpoint = "completions"
    sampling: SamplingParams = QWEN3_SAMPLING

    @property
    def name(self) -> str:
        """The server's address."""
        return self.server.url

    async def count_tokens(self, text: str) -> int:
        """Tokens of a prompt, as the server counts them."""
        record = Record()
        await self.generate(text, max_tokens=1, record=record)
        return record.n_prompt

    async def generate(self, prompt: str, *, max_tokens: int, record: Record) -> None:
        """Send a request and note when its pieces come.

        Raises:
            RemoteError: The server answers with an error, or tells no token counts.
        """
        record.sent = time.perf_counter()
        async with self.server.post(self._path, self._body(prompt, max_tokens)) as payloads:
            async for payload in payloads:
                if payload != b"[DONE]":
                    note_chunk(json.loads(payload), time.perf_counter(), record)
        self._check(record)

    def _check(self, record: Record) -> None:
        if not record.n_prompt:
            raise RemoteError(f"`{self.name}` tells no token counts in its streams", status=200)
        if not record.pieces:
            raise RemoteError(f"`{self.name}` generated no text", status=200)

    @property
    def _path(self) -> str:
        return "completions" if self.endpoint == "completions" else "chat/completions"

    def _body(self, prompt: str, max_tokens: int) -> dict[str, Any]:
        text = {"prompt": prompt}
        messages = {"messages": [{"role": "user", "content": prompt}]}
        return {
            "model": self.model,
            **(text if self.endpoint == "completions" else messages),
            "max_tokens": max_tokens,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "top_k": self.sampling.top_k,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


def note_chunk(chunk: Mapping[str, Any], now: float, record: Record) -> None:
    """Note in a record what a chunk of a stream brought.

    Raises:
        RemoteError: It brought an error.
    """
    if "error" in chunk:
        raise RemoteError(f"the server answered: {chunk['error']}", status=500)
    for choice in chunk.get("choices") or ():
        # A token may be half a character and bring no text; that the answer ended says as much.
        if _brings_text(choice) or (choice.get("finish_reason") and not record.pieces):
            record.pieces.append(now)
    if usage := chunk.get("usage"):
        record.n_prompt = usage["prompt_tokens"]
        record.n_completion = usage["completion_tokens"]
        record.n_cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0


def _brings_text(choice: Mapping[str, Any]) -> bool:
    delta = choice.get("delta") or choice
    fields = ("text", "content", "reasoning_content", "reasoning", "tool_calls")
    return any(delta.get(name) for name in fields)


@dataclass(frozen=True, slots=True)
class EngineTarget:
    """An engine in this process, without HTTP.

    Args:
        engine: A started engine.
        name: What it is called in reports.
        sampling: How tokens are drawn.
    """

    engine: Engine
    name: str = "in process"
    sampling: SamplingParams = QWEN3_SAMPLING

    async def count_tokens(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._encode(text))

    async def generate(self, prompt: str, *, max_tokens: int, record: Record) -> None:
        """Generate and note when tokens come."""
        request = GenerationRequest(
            prompt=self._encode(prompt),
            max_tokens=max_tokens,
            sampling=self.sampling,
            ignore_eos=True,
        )
        record.sent = time.perf_counter()
        async with aclosing(self.engine.stream(request)) as events:
            async for event in events:
                match event:
                    case Token():
                        record.pieces.append(time.perf_counter())
                    case PromptReady(n_prompt, n_cached):
                        record.n_prompt, record.n_cached = n_prompt, n_cached
                    case Finished(n_tokens=n_tokens):
                        record.n_completion = n_tokens

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.engine.tokenizer.encode(text))
