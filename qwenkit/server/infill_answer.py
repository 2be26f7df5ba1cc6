"""Turns the engine's events into `/infill`'s answers, whole or in chunks, in llama-server's words.

Pure but for the clock. Source: `tools/server/server-task.cpp` of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from qwenkit.chat.events import Timings, Usage
from qwenkit.engine.request import (
    Event,
    Finished,
    FinishReason,
    PromptReady,
    RequestDone,
    Token,
)
from qwenkit.server.line_limits import LineLimits
from qwenkit.server.openai.wire import timings_json, to_json


@dataclass(slots=True)
class _Choice:
    limits: LineLimits
    text: str = ""
    fresh: str = ""
    n_tokens: int = 0
    stop_type: str = "none"
    stopping_word: str = ""
    ended: bool = False

    def add(self, text: str) -> None:
        self.text += text
        self.fresh += text

    def end(self, stop_type: str, word: str = "") -> None:
        self.ended, self.stop_type, self.stopping_word = True, stop_type, word

    def take(self) -> str:
        fresh, self.fresh = self.fresh, ""
        return fresh


class InfillAnswer:
    """Gathers an answer; `feed` it every event until it is `cut_short` or they end, then take it.

    Args:
        model: The model's name.
        limits: Of each choice.
        truncated: Not all of the text around the gap went into the prompt.
        fields: What to answer with, `timings/prompt_n` and its like for nested ones; empty takes
            everything.
        clock: Tells seconds.
    """

    def __init__(
        self,
        model: str,
        limits: Sequence[LineLimits],
        *,
        truncated: bool,
        fields: Sequence[str] = (),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._model = model
        self._choices = [_Choice(each) for each in limits]
        self._truncated = truncated
        self._fields = fields
        self._clock = clock
        self._began = clock()
        self._ready: float | None = None
        self._prompt = (0, 0)
        self._timings: Timings | None = None

    @property
    def n(self) -> int:
        """How many choices there are."""
        return len(self._choices)

    @property
    def cut_short(self) -> bool:
        """Whether events may still come and none of them counts."""
        ended = all(choice.ended for choice in self._choices)
        return ended and any(choice.limits.done for choice in self._choices)

    def feed(self, event: Event) -> int | None:
        """Take in an event and return the index of the choice that it changed."""
        match event:
            case PromptReady(n_prompt, n_cached):
                self._prompt, self._ready = (n_prompt, n_cached), self._clock()
            case Token(choice, _, text):
                return self._extend(choice, text)
            case Finished(choice, reason, text, n_tokens, stop):
                return self._finish(choice, reason, text, n_tokens, stop)
            case RequestDone(queue_s, prefill_s, decode_s):
                self._timings = Timings(queue_s, prefill_s, decode_s)
        return None

    def whole(self) -> dict[str, Any] | list[dict[str, Any]]:
        """The answer of a request that did not stream: an object, or one for each choice."""
        answers = [self._whole(index) for index in range(len(self._choices))]
        return answers[0] if len(answers) == 1 else answers

    def chunk(self, index: int) -> bytes:
        """What has come to a choice, as a server-sent event."""
        choice = self._choices[index]
        return _event({"index": index, "content": choice.take(), "tokens": [], "stop": False})

    def last_chunk(self, index: int) -> bytes:
        """How a choice ended, as a server-sent event."""
        return _event(self._whole(index) | {"content": ""})

    def _extend(self, index: int, text: str) -> int | None:
        choice = self._choices[index]
        if choice.ended:
            return None
        choice.n_tokens += 1
        choice.add(choice.limits.feed(text))
        if choice.limits.done:
            choice.end("limit")
        return index if choice.fresh or choice.ended else None

    def _finish(
        self, index: int, reason: FinishReason, text: str, n_tokens: int, stop: str | None
    ) -> int | None:
        choice = self._choices[index]
        if choice.ended:
            return None
        choice.add(choice.limits.feed(text))
        choice.add(choice.limits.rest())
        choice.n_tokens = n_tokens
        if choice.limits.done or reason is FinishReason.LENGTH:
            choice.end("limit")
        else:
            choice.end("word" if stop is not None else "eos", stop or "")
        return index

    def _whole(self, index: int) -> dict[str, Any]:
        choice, (n_prompt, _) = self._choices[index], self._prompt
        answer = {
            "index": index,
            "content": choice.text,
            "tokens": [],
            "stop": True,
            "model": self._model,
            "tokens_predicted": choice.n_tokens,
            "tokens_evaluated": n_prompt,
            "tokens_cached": n_prompt + choice.n_tokens,
            "has_new_line": "\n" in choice.text,
            "truncated": self._truncated,
            "stop_type": choice.stop_type,
            "stopping_word": choice.stopping_word,
            "timings": self._times(choice.n_tokens),
        }
        return _chosen(answer, self._fields) if self._fields else answer

    def _times(self, n_tokens: int) -> dict[str, float]:
        n_prompt, n_cached = self._prompt
        return timings_json(Usage(n_prompt, n_cached, n_tokens, 0), self._timings or self._so_far())

    def _so_far(self) -> Timings:
        """Of a request that was ended here: the engine tells only those that end by themselves."""
        now = self._clock()
        ready = now if self._ready is None else self._ready
        return Timings(0.0, ready - self._began, now - ready)


def _chosen(answer: dict[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    chosen = {}
    for field in fields:
        value: Any = answer
        for key in field.split("/"):
            value = value.get(key, _MISSING) if isinstance(value, dict) else _MISSING
        if value is not _MISSING:
            chosen[field] = value
    return chosen


_MISSING = object()


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {to_json(value)}\n\n".encode()
