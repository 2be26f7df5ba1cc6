"""Answers from a model in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from qwenkit.chat.completion import ChatModel, ChatOptions, stream_chat
from qwenkit.chat.events import ChatEvent
from qwenkit.chat.loading import load_chat_model
from qwenkit.cli import console
from qwenkit.cli.chat.session import AnswerOptions
from qwenkit.settings import Settings


class LocalSource:
    """A model that is loaded here.

    Args:
        settings: Which model, and how to load it.

    Raises:
        ModelError: It can't be loaded.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
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
    ) -> AsyncGenerator[ChatEvent, None]:
        """Answer a conversation; closing the iterator cancels the request."""
        return stream_chat(self._model, messages, tools, self._options(options))

    async def switch(self, name: str) -> None:
        """Load another model; the one before goes only when that has worked."""
        settings = self._settings.model_copy(update={"model_path": name})
        replacement = await asyncio.to_thread(self._load, settings)
        self._model.engine.close()
        self._model, self._settings = replacement, settings

    async def close(self) -> None:
        """Free the model."""
        self._model.engine.close()

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
