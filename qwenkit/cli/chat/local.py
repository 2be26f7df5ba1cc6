"""Answers from a model in this process."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from qwenkit.chat.completion import ChatModel, ChatOptions, stream_chat
from qwenkit.chat.events import ChatEvent, ChatStarted
from qwenkit.chat.loading import load_chat_model
from qwenkit.cli import console
from qwenkit.cli.chat.session import AnswerOptions
from qwenkit.cli.failure import report
from qwenkit.cli.feedback.log import log_of
from qwenkit.errors import QwenkitError, UsageError
from qwenkit.feedback.capture import Asked, ChatCapture
from qwenkit.feedback.log import FeedbackLog
from qwenkit.feedback.records import Rating, ToolRun
from qwenkit.settings import Settings


class LocalSource:
    """A model that is loaded here.

    Args:
        settings: Which model, and how to load it.
        log: Where answers and ratings go; None keeps nothing.

    Raises:
        ModelError: It can't be loaded.
    """

    def __init__(self, settings: Settings, log: FeedbackLog | None = None) -> None:
        self._settings = settings
        self._log = log
        self._model = self._load(settings)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model.name

    @property
    def place(self) -> str:
        """What it is and that it runs here."""
        what = self._model.engine.facts.description
        demo = " (the small demo model: it knows qwenkit and little else)"
        return f"in this process: {what}{demo if self._settings.model_path is None else ''}"

    def answer(
        self,
        messages: Sequence[dict[str, Any]],
        options: AnswerOptions,
        tools: Sequence[dict[str, Any]] = (),
        *,
        thread_id: str | None = None,
    ) -> AsyncGenerator[ChatEvent, None]:
        """Answer a conversation; closing the iterator cancels the request."""
        asked = Asked(
            id=f"chat-{secrets.token_hex(12)}",
            source="terminal",
            model=self._model.name,
            thread_id=thread_id,
        )
        capture = ChatCapture(asked, self._model)
        events = stream_chat(
            self._model, messages, tools, self._options(options), on_prepared=capture.begin
        )
        return events if self._log is None else _logged(events, capture, self._log)

    async def rate(self, rating: Rating) -> None:
        """Append a rating to the log.

        Raises:
            LogUnwritable: It was not written.
            UsageError: There is no log.
        """
        if self._log is None:
            raise UsageError(
                "answers are not kept here, so they can't be rated",
                hint="set LOG_ANSWERS to full, or to metadata",
            )
        self._log.rating(rating)

    def keep(self, run: ToolRun) -> None:
        """Append a run of a tool to the log."""
        if self._log is not None:
            self._log.tool_run(run)

    async def switch(self, name: str) -> None:
        """Load another model; the one before goes only when that has worked."""
        settings = self._settings.model_copy(update={"model_path": name})
        replacement = await asyncio.to_thread(self._load, settings)
        self._model.engine.close()
        self._model, self._settings = replacement, settings

    async def close(self) -> None:
        """Free the model."""
        self._model.engine.close()
        if self._log is not None:
            self._log.close()

    def _options(self, options: AnswerOptions) -> ChatOptions:
        wanted = {
            "temperature": options.temperature,
            "top_p": options.top_p,
            "seed": options.seed,
        }
        return ChatOptions(
            enable_thinking=options.thinking,
            thinking_budget=self._settings.thinking_budget,
            sampling={name: value for name, value in wanted.items() if value is not None},
            max_tokens=options.max_tokens,
        )

    def _load(self, settings: Settings) -> ChatModel:
        name = settings.served_model_name if settings is self._settings else None
        return load_chat_model(settings.model_spec(), name=name, progress=console.progress)


def pruned_log(settings: Settings) -> FeedbackLog | None:
    """The log that the settings ask for, without what is too old; None where they want none.

    Raises:
        InvalidSettings: A pattern can't be used.
    """
    log = log_of(settings)
    if log is not None:
        try:
            log.prune()
        except QwenkitError as exc:
            report(exc)
    return log


async def _logged(
    events: AsyncGenerator[ChatEvent, None], capture: ChatCapture, log: FeedbackLog
) -> AsyncGenerator[ChatEvent, None]:
    """The same events, and the answer in the log when they end, wherever they do."""
    try:
        async with aclosing(events):
            async for event in events:
                capture.follow(event)
                if isinstance(event, ChatStarted):
                    event = replace(event, id=capture.asked.id)  # noqa: PLW2901
                yield event
    finally:
        for record in capture.records():
            log.interaction(record)
