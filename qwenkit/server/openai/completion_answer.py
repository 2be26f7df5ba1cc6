"""Turns the engine's events into `/v1/completions`' answers, whole or in chunks. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from qwenkit.chat.events import Timings, Usage
from qwenkit.engine.request import (
    Event,
    Finished,
    Logprobs,
    PromptReady,
    RequestDone,
    Token,
)
from qwenkit.server.openai.wire import (
    Envelope,
    finite,
    timings_json,
    to_json,
    token_text,
    usage_json,
)


@dataclass(frozen=True, slots=True)
class Echo:
    """What to say of the prompt before its answer.

    Args:
        text: The prompt's text, or nothing.
        first: Its first token's text, which has no log-probability.
    """

    text: str = ""
    first: str = ""


@dataclass(slots=True)
class LegacyLogprobs:
    """Log-probabilities in columns, as the older API has them.

    Args:
        offset: Where the next token begins in the choice's text.
    """

    offset: int = 0
    tokens: list[str] = field(default_factory=list)
    logprobs: list[float | None] = field(default_factory=list)
    top: list[dict[str, float] | None] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    def add_first(self, text: str) -> None:
        """Add the prompt's first token, which nothing predicts."""
        self._add(text, None, None)

    def add(self, logprobs: Logprobs) -> None:
        """Add a token."""
        top = {token_text(each): finite(each.logprob) for each in logprobs.top}
        chosen = logprobs.chosen
        self._add(token_text(chosen), finite(chosen.logprob), top)

    def _add(self, text: str, logprob: float | None, top: dict[str, float] | None) -> None:
        self.tokens.append(text)
        self.logprobs.append(logprob)
        self.top.append(top)
        self.offsets.append(self.offset)
        self.offset += len(text)

    def take(self) -> dict[str, Any] | None:
        """The columns so far, which are then empty; None when nothing was added."""
        if not self.tokens:
            return None
        columns = {
            "tokens": self.tokens,
            "token_logprobs": self.logprobs,
            "top_logprobs": self.top,
            "text_offset": self.offsets,
        }
        self.tokens, self.logprobs, self.top, self.offsets = [], [], [], []
        return columns


@dataclass(slots=True)
class _Choice:
    text: str = ""
    logprobs: LegacyLogprobs = field(default_factory=LegacyLogprobs)
    finish: str | None = None

    def take(self, index: int) -> dict[str, Any]:
        """What has come since the last time, as an element of `choices`."""
        text, self.text = self.text, ""
        return {
            "text": text,
            "index": index,
            "logprobs": self.logprobs.take(),
            "finish_reason": self.finish,
        }


class CompletionAnswer:
    """Gathers an answer; `feed` it every event, then take it whole or change by change.

    Args:
        envelope: What every object repeats.
        n: Choices of each prompt.
        echoes: For each prompt, what to say of it.
    """

    def __init__(self, envelope: Envelope, *, n: int, echoes: list[Echo]) -> None:
        self._envelope = envelope.fields()
        self._n = n
        self._echoes = echoes
        self._choices = [_Choice() for _ in range(n * len(echoes))]
        self._usage = Usage(0, 0, 0, 0)
        self._timings: Timings | None = None

    def feed(self, prompt: int, event: Event) -> list[int]:
        """Take in an event of a prompt and return the indexes of the choices it changed."""
        match event:
            case Token(choice, _, text, logprobs):
                return self._extend(prompt * self._n + choice, text, logprobs)
            case Finished(choice, reason, text, n_tokens, _, n_thinking):
                index = prompt * self._n + choice
                self._choices[index].text += text
                self._choices[index].finish = reason.value
                self._count(0, 0, n_tokens, n_thinking)
                return [index]
            case PromptReady(n_prompt, n_cached, logprobs):
                self._count(n_prompt, n_cached, 0, 0)
                return self._echo(prompt, logprobs)
            case RequestDone(queue_s, prefill_s, decode_s):
                self._timings = Timings(queue_s, prefill_s, decode_s)
                return []

    def _extend(self, index: int, text: str, logprobs: Logprobs | None) -> list[int]:
        choice = self._choices[index]
        choice.text += text
        if logprobs is not None:
            choice.logprobs.add(logprobs)
        return [index] if text or logprobs else []

    def _echo(self, prompt: int, logprobs: tuple[Logprobs | None, ...]) -> list[int]:
        echo = self._echoes[prompt]
        if not echo.text:
            return []
        indexes = list(range(prompt * self._n, (prompt + 1) * self._n))
        for choice in (self._choices[index] for index in indexes):
            choice.text = echo.text
            for each in logprobs:
                choice.logprobs.add(each) if each else choice.logprobs.add_first(echo.first)
        return indexes

    def _count(self, n_prompt: int, n_cached: int, n_completion: int, n_reasoning: int) -> None:
        self._usage = Usage(
            self._usage.n_prompt + n_prompt,
            self._usage.n_cached + n_cached,
            self._usage.n_completion + n_completion,
            self._usage.n_reasoning + n_reasoning,
        )

    def whole(self) -> dict[str, Any]:
        """The answer of a request that did not stream."""
        choices = [choice.take(index) for index, choice in enumerate(self._choices)]
        return self._envelope | {"choices": choices} | self._totals()

    def chunk(self, index: int, *, with_usage: bool) -> bytes:
        """What has changed in a choice, as a server-sent event."""
        choice = self._choices[index].take(index)
        usage = {"usage": None} if with_usage else {}
        return _event(self._envelope | {"choices": [choice]} | usage)

    def usage_chunk(self) -> bytes:
        """The token counts at the end, as a server-sent event."""
        return _event(self._envelope | {"choices": []} | self._totals())

    def _totals(self) -> dict[str, Any]:
        totals: dict[str, Any] = {"usage": usage_json(self._usage)}
        # Those of several prompts at once would add up to more than the time that passed.
        if self._timings is not None and len(self._echoes) == 1:
            totals["timings"] = timings_json(self._usage, self._timings)
        return totals


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {to_json(value)}\n\n".encode()
