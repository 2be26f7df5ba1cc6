"""How well texts answer a query, by Qwen3-Reranker's recipe. Knows its prompt; no HTTP.

The model is asked whether a document meets the query and may say yes or no; the score is yes's
share of the probability of the two. Everything up to the document is computed once for all of them.
Source: the model cards of Qwen/Qwen3-Reranker-0.6B, -4B and -8B. Weights trained for it are the
ones to use; any other Qwen3 gives an answer, only a worse one.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from qwenkit.backends.base import Tokenizer
from qwenkit.chat.completion import ChatModel
from qwenkit.engine.request import GenerationRequest, Logprobs, SamplingParams, Token
from qwenkit.errors import ContextOverflow, InvalidRequest

INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
_BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
_BEHIND = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
# Documents under way at once for each slot: one is computed, one waits to follow it.
_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Relevance:
    """What became of a query.

    Args:
        scores: One of each document, 0 to 1.
        n_prompt: Prompt tokens of all documents together.
    """

    scores: tuple[float, ...]
    n_prompt: int


async def score(
    model: ChatModel,
    query: str,
    documents: Sequence[str],
    *,
    instruction: str = INSTRUCTION,
    max_document_tokens: int | None = None,
) -> Relevance:
    """Score documents; cancelling takes back those that are not done.

    Args:
        instruction: What a document has to be good for.
        max_document_tokens: What a longer document is cut to; None cuts nothing.

    Raises:
        InvalidRequest: The vocabulary can't tell yes from no, or the query is empty.
        ContextOverflow: A document does not fit the context; `param` names it.
        EngineBusy: The queue is full.
        EngineStopped: The engine is shutting down.
        DecodeFailed: The runtime failed.
    """
    if not documents:
        return Relevance((), 0)
    if not query:
        raise InvalidRequest("the query is empty", param="query")
    tokenizer = model.engine.tokenizer
    answers = _yes_and_no(tokenizer)
    writer = _PromptWriter(tokenizer, query, instruction, max_document_tokens)
    # Tokenising many documents takes a while: it must not hold up the loop's other streams.
    prompts = await asyncio.to_thread(lambda: [writer.prompt(each) for each in documents])
    _check_fit(prompts, model.engine.capabilities.n_ctx)
    scores = [0.0] * len(prompts)
    left = iter(enumerate(prompts))
    n_workers = min(len(prompts), _AHEAD * model.engine.capabilities.n_slots)
    workers = [_work(model, left, answers, scores) for _ in range(n_workers)]
    await _together([asyncio.create_task(each) for each in workers])
    return Relevance(tuple(scores), sum(map(len, prompts)))


async def _together(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for all; the first failure, or being cancelled, ends the others."""
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _work(
    model: ChatModel,
    left: Iterator[tuple[int, tuple[int, ...]]],
    answers: tuple[int, int],
    scores: list[float],
) -> None:
    for index, prompt in left:
        request = GenerationRequest(
            prompt=prompt,
            max_tokens=1,
            sampling=SamplingParams(temperature=0.0),
            logprobs=0,
            logprobs_of=answers,
            adapter=model.adapter,
        )
        async with aclosing(model.engine.stream(request)) as events:
            async for event in events:
                if isinstance(event, Token) and event.logprobs is not None:
                    scores[index] = _share_of_yes(event.logprobs)


def _share_of_yes(logprobs: Logprobs) -> float:
    yes, no = logprobs.asked
    # Of two probabilities far below all others the quotient would be 0 / 0.
    return 1.0 / (1.0 + math.exp(min(no.logprob - yes.logprob, 700.0)))


def _yes_and_no(tokenizer: Tokenizer) -> tuple[int, int]:
    """Their tokens, or the first of each in a vocabulary that spells them out."""
    yes, no = (tokenizer.encode(word, special=False)[0] for word in ("yes", "no"))
    if yes == no:
        raise InvalidRequest("this model's vocabulary can't tell yes from no", param="model")
    return yes, no


def _check_fit(prompts: Sequence[tuple[int, ...]], n_ctx: int) -> None:
    for index, prompt in enumerate(prompts):
        if len(prompt) >= n_ctx:
            place = f"documents[{index}]"
            raise ContextOverflow(n_prompt=len(prompt), n_ctx=n_ctx, param=place)


class _PromptWriter:
    """Writes the prompts of one query.

    The three parts are tokenised by themselves, as the recipe does, and only in the template's own
    are control tokens recognised.
    """

    def __init__(
        self, tokenizer: Tokenizer, query: str, instruction: str, max_document_tokens: int | None
    ) -> None:
        self._tokenizer = tokenizer
        self._before = tokenizer.encode(_BEFORE, special=True)
        self._behind = tokenizer.encode(_BEHIND, special=True)
        self._question = f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: "
        self._most = max_document_tokens

    def prompt(self, document: str) -> tuple[int, ...]:
        """The tokens of a document's prompt."""
        text = self._question + self._cut(document)
        pair = self._tokenizer.encode(text, special=False)
        return (*self._before, *pair, *self._behind)

    def _cut(self, document: str) -> str:
        if self._most is None:
            return document
        tokens = self._tokenizer.encode(document, special=False) if document else []
        if len(tokens) <= self._most:
            return document
        kept = b"".join(map(self._tokenizer.piece, tokens[: self._most]))
        return kept.decode("utf-8", "ignore")
