"""The served model as the agent's source of answers. Knows leases; no LangGraph.

Every model call leases the model anew: between two steps of a run the model may be replaced, and
while a person thinks about a tool call nothing is held.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from qwenkit.agent.answers import AnswerEvent, Question, answer
from qwenkit.chat.completion import ChatModel
from qwenkit.feedback.capture import ChatCapture
from qwenkit.server.agent.record import AgentRecord
from qwenkit.server.serving import Lease, Serving


class LeasedAnswers:
    """Answers by the model that is served at the moment, or by one of its adapters.

    Args:
        serving: The server's models.
        record: Takes the answers down.
    """

    def __init__(self, serving: Serving, record: AgentRecord) -> None:
        self._serving = serving
        self._record = record

    async def stream(self, question: Question) -> AsyncGenerator[AnswerEvent, None]:
        """The answer as it is written; closing the generator cancels it.

        Raises:
            NotReady: There is no model.
            UnknownModel: There is none of the name that the question asks for.
            QwenkitError: As `stream_chat` raises it.
        """
        self._record.step()
        async with self._serving.lease_when_open() as lease:
            model = lease.named(question.model)
            async with aclosing(self._answer(lease, model, question)) as events:
                async for event in events:
                    yield event

    def _answer(
        self, lease: Lease, model: ChatModel, question: Question
    ) -> AsyncGenerator[AnswerEvent, None]:
        budget = lease.limits.thinking_budget
        if not self._record.wanted:
            return answer(model, question, thinking_budget=budget)
        asked = self._record.asked(question, model=lease.model.name)
        capture = ChatCapture(asked, model)
        events = answer(model, question, thinking_budget=budget, on_prepared=capture.begin)
        return self._record.answer(events, capture)
