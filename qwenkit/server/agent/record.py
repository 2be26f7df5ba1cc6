"""Takes down the agent's answers and the runs of its tools. Knows captures and the recorder."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

from qwenkit.agent.answers import AnswerEvent, Question
from qwenkit.agent.tools.base import ToolRan
from qwenkit.feedback.capture import Asked
from qwenkit.feedback.records import ToolRun, timestamp
from qwenkit.server.agent.run_facts import run_facts
from qwenkit.server.metrics.agent import AgentMeasures, ToolOutcome
from qwenkit.server.recording import Capture, Recorder, recorded
from qwenkit.server.tracing import request_id


class AgentRecord:
    """Takes down what the runs of one agent do.

    Args:
        recorder: Keeps it.
        measures: Counts it, whether it is kept or not.
    """

    def __init__(self, recorder: Recorder, measures: AgentMeasures) -> None:
        self._recorder = recorder
        self._measures = measures

    @property
    def wanted(self) -> bool:
        """Whether the run that this is called in is recorded."""
        return self._recorder.wants(run_facts().store)

    @property
    def refused(self) -> bool:
        """Whether the run that this is called in says that it is not to be recorded."""
        return run_facts().store is False

    def asked(self, question: Question, *, model: str) -> Asked:
        """Whose answer a question of the run's gets.

        Args:
            model: The served model's name.
        """
        facts = run_facts()
        return Asked(
            id=question.id,
            source="agent",
            model=model,
            request_id=request_id(),
            thread_id=facts.thread_id,
            parent_id=facts.take_parent(),
            user=facts.user,
        )

    def answer(
        self, events: AsyncGenerator[AnswerEvent], capture: Capture
    ) -> AsyncGenerator[AnswerEvent]:
        """An answer's events, recorded before the last one is passed on."""
        return recorded(events, capture, self._recorder)

    def step(self) -> None:
        """Count that a model is asked."""
        self._measures.on_step()

    def tool_ran(self, ran: ToolRan) -> None:
        """Record a call of a tool, and count it."""
        self._measures.on_tool(_outcome(ran), ran.took_s)
        if not self.wanted:
            return
        facts = run_facts()
        ended_at, request = datetime.now(UTC), request_id()
        self._recorder.submit(
            lambda: [
                ToolRun(
                    id=ran.id,
                    created_at=timestamp(ended_at - timedelta(seconds=ran.took_s)),
                    name=ran.name,
                    arguments=json.dumps(ran.arguments, ensure_ascii=False),
                    result=ran.output.text,
                    is_error=ran.output.is_error,
                    duration_s=round(ran.took_s, 6),
                    approved=ran.approved,
                    request_id=request,
                    thread_id=facts.thread_id,
                    answer_id=ran.answer_id,
                )
            ]
        )


def _outcome(ran: ToolRan) -> ToolOutcome:
    if ran.approved is False:
        return "rejected"
    return "error" if ran.output.is_error else "success"
