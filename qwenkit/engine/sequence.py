"""One choice of one request while it is computed: its tokens, and what each drawn one means.

Knows sampling, grammar, thinking and stops; no slots, no batches, no threads. `advance` takes a row
of logits and is the only place where a token is chosen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum, auto

import numpy as np

from qwenkit.backends.base import FloatArray, IntArray, Tokenizer
from qwenkit.engine.grammar import Matcher
from qwenkit.engine.observer import Outcome
from qwenkit.engine.request import (
    Event,
    Finished,
    FinishReason,
    GenerationRequest,
    Logprobs,
    Token,
)
from qwenkit.engine.sampling import Sampler, log_probabilities
from qwenkit.engine.text import TextStream
from qwenkit.errors import DecodeFailed


class Phase(Enum):
    """Where an answer stands with its thinking block."""

    UNDECIDED = auto()
    THINKING = auto()
    ANSWERING = auto()


class Sequence:
    """A prompt and the tokens generated after it.

    Args:
        request: What was asked for.
        choice: Which of its choices this is.
        n_ctx: Tokens the context holds.
        tokenizer: Gives tokens their bytes.
        sampler: Draws this choice's tokens.
        new_matcher: Makes a fresh matcher of the request's grammar.
    """

    def __init__(
        self,
        request: GenerationRequest,
        *,
        choice: int,
        n_ctx: int,
        tokenizer: Tokenizer,
        sampler: Sampler,
        new_matcher: Callable[[], Matcher] | None = None,
    ) -> None:
        self.request = request
        self.choice = choice
        self.n_prompt = len(request.prompt)
        room = n_ctx - self.n_prompt
        self._limit = room if request.max_tokens is None else min(request.max_tokens, room)
        self._tokens = np.empty(self.n_prompt + max(self._limit, 0), np.int32)
        self._tokens[: self.n_prompt] = request.prompt
        self.n_tokens = self.n_prompt
        self.n_computed = 0
        self.slot: int | None = None
        self.finished = False
        self._reason: FinishReason | None = None
        self._tokenizer = tokenizer
        self._sampler = sampler
        self._new_matcher = new_matcher
        self._matcher: Matcher | None = None
        self._text = TextStream(request.stop)
        self._forced: deque[int] = deque()
        self._phase = _first_phase(request)
        self._n_thinking = 0
        sampler.accept(request.prompt[-sampler.window :] if sampler.window else ())
        self._arm_if_answering()

    @property
    def outcome(self) -> Outcome:
        """How it ended, for the observer."""
        return "length" if self._reason is FinishReason.LENGTH else "stop"

    @property
    def tokens(self) -> IntArray:
        """Prompt and generated tokens; filled up to `n_tokens`."""
        return self._tokens

    @property
    def n_pending(self) -> int:
        """Tokens whose state is not computed yet."""
        return self.n_tokens - self.n_computed

    @property
    def n_generated(self) -> int:
        """Tokens generated so far."""
        return self.n_tokens - self.n_prompt

    @property
    def n_left(self) -> int:
        """Most tokens that may still be generated."""
        return self._limit - self.n_generated

    @property
    def needs_all_logits(self) -> bool:
        """Whether the logits of every prompt token are wanted, not only of the last one."""
        return self.request.prompt_logprobs and self.choice == 0 and not self.prompt_done

    @property
    def prompt_done(self) -> bool:
        """Whether the prompt is computed."""
        return self.n_computed >= self.n_prompt

    def draft(self, tokens: IntArray) -> int:
        """Put guessed tokens behind the last one, to be computed with it; returns how many fit."""
        n = max(0, min(len(tokens), self.n_left - 1))
        self._tokens[self.n_tokens : self.n_tokens + n] = tokens[:n]
        return n

    def advance(self, row: FloatArray) -> list[Event]:
        """Choose the next tokens from the logits after the last one; `row` is `[n_vocab]`.

        More than one comes of it when the thinking budget ends: the closing sentence follows at
        once, and is computed together with the next step.

        Raises:
            DecodeFailed: The logits are not numbers, or no token is possible.
            InvalidGrammar: The grammar met one of its limits.
        """
        events: list[Event] = []
        if self.n_left > 0:
            # Masks are written into the row; log-probabilities are of the row as it was.
            original = row.copy() if self.request.logprobs is not None else row
            events.append(self._take(self._draw(row), original))
            events += self._take_forced()
        if self._reason is None and self.n_left <= 0:
            self._reason = FinishReason.LENGTH
        if self._reason is not None:
            events.append(self._finish(self._reason))
        return events

    def close(self) -> None:
        """Free what the sampler holds."""
        self._sampler.close()

    def _draw(self, row: FloatArray) -> int:
        if not np.isfinite(row.max()):  # NaN wins any comparison
            raise DecodeFailed("the model computed logits that are not numbers")
        if self._budget_is_spent():
            return self._force_ending()
        if self.request.ignore_eos:
            row[list(self._tokenizer.eos_tokens)] = -np.inf
        token = self._sampler.draw(row)
        self._settle_phase(token)
        if self._matcher is None or self._matcher.allows(token):
            return token
        self._matcher.mask(row)
        return self._sampler.draw(row)

    def _settle_phase(self, token: int) -> None:
        """An answer that doesn't open a thinking block with its first token has none."""
        thinking = self.request.thinking
        if self._phase is Phase.UNDECIDED and thinking is not None and token != thinking.open:
            self._phase = Phase.ANSWERING
            self._arm_if_answering()

    def _take(self, token: int, row: FloatArray | None) -> Event:
        self._tokens[self.n_tokens] = token
        self.n_tokens += 1
        self._sampler.accept((token,))
        logprobs = self._logprobs(token, row)
        text = ""
        if self._ends_with(token):
            self._reason = FinishReason.STOP
        else:
            self._follow_grammar(token)
            text = self._add_text(token)
            self._follow_thinking(token)
        return Token(self.choice, token, text, logprobs)

    def _take_forced(self) -> Iterator[Event]:
        while self._forced and self._reason is None and self.n_left > 0:
            token = self._forced.popleft()
            if self._matcher is None or self._matcher.allows(token):
                yield self._take(token, None)

    def _ends_with(self, token: int) -> bool:
        if token in self.request.stop_tokens and self._phase is not Phase.THINKING:
            return True
        return token in self._tokenizer.eos_tokens and not self.request.ignore_eos

    def _add_text(self, token: int) -> str:
        stoppable = self._phase is Phase.ANSWERING
        text = self._text.feed(self._tokenizer.piece(token, special=False), stoppable=stoppable)
        if self._text.stopped_by is not None:
            self._reason = FinishReason.STOP
        return text

    def _follow_thinking(self, token: int) -> None:
        thinking = self.request.thinking
        if thinking is None:
            return
        if self._phase is Phase.THINKING:
            self._n_thinking += 1
            if token == thinking.close:
                self._phase = Phase.ANSWERING
                self._arm_if_answering()
        elif self._phase is Phase.UNDECIDED and token == thinking.open:
            self._phase = Phase.THINKING

    def _follow_grammar(self, token: int) -> None:
        grammar = self.request.grammar
        if grammar is None:
            return
        if self._matcher is None and self._phase is Phase.ANSWERING and token == grammar.trigger:
            self._matcher = self._fresh_matcher()
        if self._matcher is None:
            return
        self._matcher.accept(token)
        if self._matcher.complete:
            self._matcher = None
            if grammar.trigger is None:
                self._reason = FinishReason.STOP

    def _arm_if_answering(self) -> None:
        grammar = self.request.grammar
        if self._phase is Phase.ANSWERING and grammar is not None and grammar.trigger is None:
            self._matcher = self._fresh_matcher()

    def _fresh_matcher(self) -> Matcher | None:
        return self._new_matcher() if self._new_matcher is not None else None

    def _budget_is_spent(self) -> bool:
        thinking = self.request.thinking
        if thinking is None or thinking.budget is None or not thinking.ending:
            return False
        return self._phase is Phase.THINKING and self._n_thinking >= thinking.budget

    def _force_ending(self) -> int:
        if self.request.thinking is not None:
            self._forced.extend(self.request.thinking.ending)
        return self._forced.popleft()

    def _logprobs(self, token: int, row: FloatArray | None) -> Logprobs | None:
        if self.request.logprobs is None or row is None:
            return None
        return log_probabilities(
            row,
            token,
            n_top=self.request.logprobs,
            piece=self._tokenizer.piece,
            asked=self.request.logprobs_of,
        )

    def _finish(self, reason: FinishReason) -> Finished:
        self.finished = True
        return Finished(
            self.choice,
            reason,
            text=self._text.flush(),
            n_tokens=self.n_generated,
            stop=self._text.stopped_by,
            n_thinking=self._n_thinking,
        )


def _first_phase(request: GenerationRequest) -> Phase:
    thinking = request.thinking
    if thinking is None:
        return Phase.ANSWERING
    if thinking.inside:
        return Phase.THINKING
    return Phase.UNDECIDED if thinking.expected else Phase.ANSWERING
