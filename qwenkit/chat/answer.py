"""The engine's events become a chat's: text is parsed, log-probabilities are sorted. Pure.

A token's log-probabilities are passed on where the token is part of the answer's text; not for the
thinking, tool calls, tags, and the blank lines that belong to the format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qwenkit.chat.events import (
    ChatDone,
    ChatEvent,
    ChatFinish,
    ChatStarted,
    ChoiceDelta,
    ChoiceDone,
    Timings,
    Usage,
)
from qwenkit.chat.parser import StreamParser
from qwenkit.engine.request import (
    Event,
    Finished,
    FinishReason,
    Logprobs,
    PromptReady,
    RequestDone,
    Token,
)


class Answer:
    """Follows one request.

    Args:
        parsers: One for each choice.
        eos_tokens: Tokens that end a text and are not part of it.
    """

    def __init__(self, parsers: Sequence[StreamParser], eos_tokens: frozenset[int]) -> None:
        self._eos_tokens = eos_tokens
        self._parsers = parsers
        self._undecided: list[list[Logprobs]] = [[] for _ in parsers]
        self._n_prompt = self._n_cached = self._n_completion = self._n_reasoning = 0

    def follow(self, event: Event) -> Iterator[ChatEvent]:
        """The chat events that an engine event means."""
        match event:
            case Token():
                yield from self._token(event)
            case PromptReady(n_prompt, n_cached):
                self._n_prompt, self._n_cached = n_prompt, n_cached
                yield ChatStarted(n_prompt, n_cached)
            case Finished():
                yield from self._finish(event)
            case RequestDone(queue_s, prefill_s, decode_s):
                yield ChatDone(self._usage(), Timings(queue_s, prefill_s, decode_s))

    def _token(self, token: Token) -> Iterator[ChatEvent]:
        deltas = tuple(self._parsers[token.choice].feed(token.text))
        logprobs = self._text_logprobs(token)
        for earlier in logprobs[:-1]:
            yield ChoiceDelta(token.choice, (), earlier)
        newest = logprobs[-1] if logprobs else None
        if deltas or newest is not None:
            yield ChoiceDelta(token.choice, deltas, newest)

    def _text_logprobs(self, token: Token) -> list[Logprobs]:
        """Of this token and of those before it that turn out to be text only now."""
        parser, undecided = self._parsers[token.choice], self._undecided[token.choice]
        if token.logprobs is None or token.id in self._eos_tokens:
            return []
        if parser.in_text:
            decided = [*undecided, token.logprobs]
            undecided.clear()
            return decided
        if parser.holds_text:
            undecided.append(token.logprobs)
        else:
            undecided.clear()
        return []

    def _finish(self, finished: Finished) -> Iterator[ChatEvent]:
        parser = self._parsers[finished.choice]
        deltas = (*parser.feed(finished.text), *parser.flush())
        if deltas:
            yield ChoiceDelta(finished.choice, deltas)
        self._n_completion += finished.n_tokens
        self._n_reasoning += finished.n_thinking
        finish = ChatFinish(finished.reason.value)
        if finished.reason is FinishReason.STOP and parser.n_calls:
            finish = ChatFinish.TOOL_CALLS
        n_tokens, n_thinking = finished.n_tokens, finished.n_thinking
        yield ChoiceDone(finished.choice, finish, n_tokens, n_thinking, finished.stop)

    def _usage(self) -> Usage:
        return Usage(self._n_prompt, self._n_cached, self._n_completion, self._n_reasoning)
