"""A run of a dataset: a model answers every item, and Langfuse sets run beside run.

Knows where answers come from only as a function.

    item ─▶ a conversation ─▶ the model's answer ─▶ compared with the expected one
                                   │                    │
                                   ▼                    ▼
                          a trace of the run         its scores
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from qwenkit.chat.events import ChatEvent
from qwenkit.chat.result import ChatResult, collect
from qwenkit.errors import EngineError, InvalidRequest
from qwenkit.feedback.langfuse.client import LangfuseClient, Refused
from qwenkit.feedback.langfuse.observations import Labels
from qwenkit.feedback.langfuse.run_record import Run, RunRecord, Verdict
from qwenkit.feedback.records import (
    AnswerText,
    Call,
    Durations,
    Interaction,
    TokenCounts,
    now,
)
from qwenkit.models.progress import ProgressFactory, silent

Json: TypeAlias = Mapping[str, Any]
Messages: TypeAlias = Sequence[dict[str, Any]]
Ask: TypeAlias = Callable[[Messages, Messages], AsyncGenerator[ChatEvent, None]]
"""Answers a conversation that may use tools."""

NO_CONVERSATION = "its input is no conversation"
N_TOGETHER = 4


@dataclass(slots=True, kw_only=True)
class RunReport:
    """What a run came to.

    Args:
        n_answers: Items that were answered.
        n_completion: Tokens that were generated for them.
        similarities: Of each answer to the one expected, 0 to 1, where one is.
        n_exact: Answers that are the one expected.
        left_out: Items that were not answered, by the reason.
        refused: Scores that Langfuse did not take.
    """

    n_answers: int = 0
    n_completion: int = 0
    similarities: list[float] = field(default_factory=list)
    n_exact: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    refused: list[Refused] = field(default_factory=list)

    @property
    def mean_similarity(self) -> float | None:
        """Of all answers to the ones expected; None where none is."""
        found = self.similarities
        return sum(found) / len(found) if found else None

    def count(self, answer: Interaction, verdict: Verdict) -> None:
        """Add an answer."""
        self.n_answers += 1
        self.n_completion += answer.usage.completion
        self.n_exact += verdict.is_exact
        self.refused += verdict.refused
        if verdict.similarity is not None:
            self.similarities.append(verdict.similarity)


async def run_dataset(
    client: LangfuseClient,
    ask: Ask,
    run: Run,
    *,
    labels: Labels,
    n_together: int = N_TOGETHER,
    progress: ProgressFactory = silent,
) -> RunReport:
    """Have a model answer a dataset's items, and record it as a run.

    Args:
        client: The project.
        ask: The model.
        run: Which dataset, and what the run is called.
        labels: What every observation carries.
        n_together: Items that are answered at once.
        progress: Counts items.

    Raises:
        InvalidSettings: Langfuse refuses the keys.
        RemoteError: There is no such dataset, or Langfuse or the model's server refuses.
        RemoteUnreachable: One of them does not answer.
    """
    dataset = await asyncio.to_thread(client.dataset, run.dataset)
    items = await asyncio.to_thread(lambda: list(client.items(run.dataset)))
    record = RunRecord(client, run, labels, str(dataset["id"]))
    report = RunReport()
    turns = asyncio.Semaphore(n_together)
    with progress(f"Run {run.name}", total=len(items), unit="items") as advance:

        async def answer(item: Json) -> None:
            async with turns:
                await _answer(item, ask, run.model, record, report)
                advance(1)

        await _all_of(answer(item) for item in items)
    return report


def conversation_of(given: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]] | None:
    """The messages and the tools that an item's input is; None where it is no conversation."""
    if isinstance(given, Mapping):
        found = conversation_of(given.get("messages"))
        return None if found is None else (found[0], list(given.get("tools") or ()))
    if isinstance(given, str) and given:
        return [{"role": "user", "content": given}], []
    if isinstance(given, list) and given and all(_is_message(each) for each in given):
        return [dict(each) for each in given], []
    return None


async def _all_of(doing: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all; the first failure ends the others and is raised by itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in doing:
                group.create_task(each)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures


async def _answer(item: Json, ask: Ask, model: str, record: RunRecord, report: RunReport) -> None:
    asked = conversation_of(item.get("input"))
    if asked is None:
        report.left_out[NO_CONVERSATION] += 1
        return
    answer_id, created_at = f"run-{secrets.token_hex(12)}", now()
    began, began_ns = time.perf_counter(), time.time_ns()
    try:
        async with aclosing(ask(*asked)) as events:
            result = await collect(events)
    except (InvalidRequest, EngineError) as exc:
        report.left_out[type(exc).__name__] += 1
        await asyncio.to_thread(record.failure, item, answer_id, exc, began_ns)
        return
    answer = _interaction(
        result,
        id=answer_id,
        request_id=answer_id,
        created_at=created_at,
        model=model,
        messages=tuple(asked[0]),
        tools=tuple(asked[1]),
        total_s=time.perf_counter() - began,
    )
    report.count(answer, await asyncio.to_thread(record.answer, item, answer, began_ns))


def _interaction(result: ChatResult, *, total_s: float, **facts: Any) -> Interaction:
    """An answer as a record. The prompt as it was rendered is known only where the model is."""
    choice, usage, timings = result.choices[0], result.usage, result.timings
    return Interaction(
        source="api",
        prompt_hash="",
        finish_reason=choice.finish.value,
        usage=TokenCounts(
            prompt=usage.n_prompt,
            cached=usage.n_cached,
            completion=usage.n_completion,
            reasoning=usage.n_reasoning,
        ),
        answer=AnswerText(
            content=choice.text,
            reasoning_content=choice.reasoning or None,
            tool_calls=tuple(
                Call(id=each.id, name=each.name, arguments=each.arguments)
                for each in choice.tool_calls
            ),
        ),
        timings=Durations(
            queue_s=timings.queue_s,
            prefill_s=timings.prefill_s,
            decode_s=timings.decode_s,
            total_s=total_s,
        ),
        **facts,
    )


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("role"), str)
