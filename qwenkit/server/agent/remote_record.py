"""Takes down answers that another server gives the agent. Knows events; no template and no weights.

What the other server makes of a conversation is not known. Its prompts are told from each other by
what it was sent: the same messages, tools and thinking switch are taken to be the same prompt.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from qwenkit.agent.answers import AnswerEvent, Answering, Choice, Question, RemoteAnswers
from qwenkit.chat.completion import NamedTool
from qwenkit.chat.events import ChatDone, ChatStarted, ChoiceDelta, ChoiceDone, Delta, Usage
from qwenkit.feedback.capture import Asked, answer_text
from qwenkit.feedback.records import (
    Durations,
    FinishReason,
    Interaction,
    JsonValue,
    RequestOptions,
    TokenCounts,
    hash_prompt,
)
from qwenkit.server.agent.record import AgentRecord


class RecordedAnswers:
    """Another server's answers, taken down.

    Args:
        answers: Where they come from.
        record: Takes them down.
    """

    def __init__(self, answers: RemoteAnswers, record: AgentRecord) -> None:
        self._answers = answers
        self._record = record

    async def stream(self, question: Question) -> AsyncGenerator[AnswerEvent, None]:
        """The answer as it is written; closing the generator cancels it.

        Raises:
            QwenkitError: As `RemoteAnswers.stream` raises it.
        """
        self._record.step()
        if self._record.wanted:
            capture = _RemoteCapture(self._record.asked(question, model=""), question)
            events = self._record.answer(self._answers.stream(question), capture)
        else:
            events = self._answers.stream(replace(question, store=not self._record.refused))
        async with aclosing(events):
            async for event in events:
                yield event


class _RemoteCapture:
    """Takes down one answer."""

    def __init__(self, asked: Asked, question: Question) -> None:
        self._asked = asked
        self._question = question
        self._started = False
        self._deltas: list[tuple[Delta, ...]] = []
        self._finish: FinishReason = "cancelled"
        self._usage = Usage(0, 0, 0, 0)
        self._durations = Durations()

    def follow(self, event: AnswerEvent) -> None:
        match event:
            case ChoiceDelta(_, deltas):
                self._deltas.append(deltas)
            case Answering(model):
                self._asked = replace(self._asked, model=model)
            case ChatStarted():
                self._started = True
            case ChoiceDone(_, finish):
                self._finish = finish.value
            case ChatDone(usage, timings):
                self._usage = usage
                self._durations = Durations(
                    queue_s=timings.queue_s,
                    prefill_s=timings.prefill_s,
                    decode_s=timings.decode_s,
                    total_s=round(time.perf_counter() - self._asked.began, 6),
                )

    def records(self) -> list[Interaction]:
        if not self._started:
            return []
        asked, question, usage = self._asked, self._question, self._usage
        return [
            Interaction(
                id=asked.id,
                created_at=asked.created_at,
                source=asked.source,
                request_id=asked.request_id,
                thread_id=asked.thread_id,
                parent_id=asked.parent_id,
                user=asked.user,
                model=asked.model,
                prompt_hash=_prompt_hash(question),
                messages=question.messages,
                tools=question.tools,
                options=_options(question),
                sampling=dict(question.sampling),
                answer=answer_text(self._deltas),
                finish_reason=self._finish,
                usage=TokenCounts(
                    prompt=usage.n_prompt,
                    cached=usage.n_cached,
                    completion=usage.n_completion or len(self._deltas),
                    reasoning=usage.n_reasoning,
                ),
                timings=self._durations,
            )
        ]


def _prompt_hash(question: Question) -> str:
    sent = [question.messages, question.tools, question.thinking]
    return hash_prompt(json.dumps(sent, sort_keys=True, ensure_ascii=False))


def _options(question: Question) -> RequestOptions:
    return RequestOptions(
        enable_thinking=question.thinking,
        thinking_budget=question.thinking_budget,
        tool_choice=_spelled(question.tool_choice),
        max_tokens=question.max_tokens,
        stop=question.stop,
    )


def _spelled(choice: Choice) -> JsonValue:
    if isinstance(choice, NamedTool):
        return {"type": "function", "function": {"name": choice.name}}
    return choice
