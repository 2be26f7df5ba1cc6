"""Takes down a chat's answer, which may come in rounds. Knows captures and the recorder; no HTTP.

Every round is an answer of its own, to a prompt of its own: the conversation, what was called so
far, and what came of it. The last one has the id that the client knows; those before it have that
id, `:round-` and a number. Runs of tools belong to the round that called them.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from qwenkit.chat.completion import ChatModel, OnPrepared
from qwenkit.chat.events import ChatDone, ChatEvent
from qwenkit.feedback.capture import Asked, ChatCapture, following
from qwenkit.feedback.records import Record, ToolRun, now, timestamp
from qwenkit.mcp.rounds import RoundEvent, ToolEnded
from qwenkit.server.recording import Recorder, recorded

Start: TypeAlias = Callable[[OnPrepared | None], AsyncGenerator[ChatEvent]]
"""Begins an answer; the argument is told what the engine gets."""


class ChatRecord:
    """Takes down one chat request.

    Args:
        recorder: Keeps it.
        asked: Whose it is; None keeps nothing.
        model: Who answers.
    """

    def __init__(self, recorder: Recorder, asked: Asked | None, model: ChatModel) -> None:
        self._recorder = recorder
        self._asked = asked
        self._model = model
        self._round: _Round | None = None
        self._n_rounds = 0

    def answer(self, start: Start) -> AsyncGenerator[ChatEvent]:
        """An answer in one round."""
        if self._asked is None:
            return start(None)
        capture = ChatCapture(self._asked, self._model)
        return recorded(start(capture.begin), capture, self._recorder)

    def round(self, start: Start) -> AsyncGenerator[ChatEvent]:
        """One round of an answer; the one before was not the last."""
        if self._asked is None:
            return start(None)
        self._end_round()
        asked = self._asked
        if self._n_rounds:
            asked = replace(asked, created_at=now(), began=time.perf_counter())
        self._round = _Round(ChatCapture(asked, self._model))
        return self._round.follow(start)

    async def rounds(self, events: AsyncGenerator[RoundEvent]) -> AsyncGenerator[RoundEvent]:
        """All rounds, recorded before the last event is passed on; or when they are cut off."""
        try:
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, ToolEnded):
                        self._follow_tool(event)
                    elif isinstance(event, ChatDone) and self._round is not None:
                        last, self._round = self._round, None
                        await self._recorder.written(last.records)
                    yield event
        finally:
            if self._round is not None:
                self._recorder.submit(self._round.records)

    def _follow_tool(self, ended: ToolEnded) -> None:
        if self._round is not None and ended.took_s is not None:
            self._round.tools.append(_tool_run(ended, ended.took_s))

    def _end_round(self) -> None:
        if self._round is not None:
            self._n_rounds += 1
            self._round.rename(f"{self._round.capture.asked.id}:round-{self._n_rounds}")
            self._recorder.submit(self._round.records)


class _Round:
    def __init__(self, capture: ChatCapture) -> None:
        self.capture = capture
        self.tools: list[ToolRun] = []

    def rename(self, answer_id: str) -> None:
        # What is regenerated is the answer as a whole, which the last round stands for.
        self.capture.asked = replace(self.capture.asked, id=answer_id, parent_id=None)

    def follow(self, start: Start) -> AsyncGenerator[ChatEvent]:
        return following(start(self.capture.begin), self.capture)

    def records(self) -> Sequence[Record]:
        asked = self.capture.asked
        ids: dict[str, Any] = {
            "answer_id": asked.id,
            "request_id": asked.request_id,
            "thread_id": asked.thread_id,
        }
        return [*self.capture.records(), *(replace(each, **ids) for each in self.tools)]


def _tool_run(ended: ToolEnded, took_s: float) -> ToolRun:
    return ToolRun(
        id=ended.started.id,
        created_at=timestamp(datetime.now(UTC) - timedelta(seconds=took_s)),
        name=ended.started.tool.name,
        arguments=ended.started.arguments,
        result=ended.result.text,
        is_error=ended.result.is_error,
        duration_s=round(took_s, 6),
    )
