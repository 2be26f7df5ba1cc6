"""A model of this process as the MCP server's host. Loads it on a thread while clients connect."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Self

from qwenkit.chat.completion import ChatModel, ChatOptions, stream_chat
from qwenkit.engine.adapters import Adapter
from qwenkit.errors import InvalidRequest, UnknownModel
from qwenkit.feedback.capture import Asked, ChatCapture, following
from qwenkit.feedback.sinks import Sink
from qwenkit.mcp.server.asking import reply_of
from qwenkit.mcp.server.offer import OfferedModel, OnTokens, Question, Reply


class LocalHost:
    """A model that is loaded here. Use it as an async context manager.

    Args:
        load: Loads it; may take minutes.
        thinking_budget: Most thinking tokens of an answer; None is no limit.
        log: Keeps what is answered; None keeps nothing.
    """

    def __init__(
        self,
        load: Callable[[], ChatModel],
        *,
        thinking_budget: int | None = None,
        log: Sink | None = None,
    ) -> None:
        self._load = load
        self._loading: Future[ChatModel] = Future()
        self._budget = thinking_budget
        self._log = log

    async def __aenter__(self) -> Self:
        # A client that starts us would give up on a server that shakes hands minutes later.
        Thread(target=self._run, name="qwenkit-load", daemon=True).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._loading.done():
            self._loading.add_done_callback(_free)
        elif self._loading.exception() is None:
            await asyncio.to_thread(self._loading.result().engine.close)

    async def ask(self, question: Question, on_tokens: OnTokens) -> Reply:
        """The model's answer; cancelling it frees the model."""
        base = await self._model()
        model = _named(base, question.model)
        options = chat_options(question, self._budget)
        if self._log is None:
            events = stream_chat(model, question.messages(), (), options)
            return await reply_of(events, model.name, on_tokens)
        asked = Asked(id=f"chatcmpl-{uuid.uuid4().hex}", source="mcp", model=base.name)
        capture = ChatCapture(asked, model)
        events = stream_chat(model, question.messages(), (), options, on_prepared=capture.begin)
        try:
            reply = await reply_of(following(events, capture), model.name, on_tokens)
        finally:
            for record in capture.records():
                self._log.interaction(record)
        return replace(reply, id=asked.id)

    async def models(self) -> tuple[OfferedModel, ...]:
        """The model and its adapters."""
        return offered(await self._model())

    async def load_adapter(self, name: str, path: Path, *, replace: bool) -> OfferedModel:
        """Load an adapter under a name.

        Raises:
            InvalidRequest: The name is taken.
        """
        model = await self._model()
        taken = {model.name, *(each.name for each in model.engine.adapters.all())}
        if name == model.name or (name in taken and not replace):
            raise InvalidRequest(f"the name {name!r} is taken", param="name", hint="send replace")
        return offered_adapter(await model.engine.adapters.load(name, path))

    async def _model(self) -> ChatModel:
        return await asyncio.shield(asyncio.wrap_future(self._loading))

    def _run(self) -> None:
        try:
            self._loading.set_result(self._load())
        except BaseException as exc:  # handed to whoever asks
            self._loading.set_exception(exc)


def chat_options(question: Question, thinking_budget: int | None) -> ChatOptions:
    """What a question says beside its messages."""
    sampling = {} if question.temperature is None else {"temperature": question.temperature}
    return ChatOptions(
        enable_thinking=question.thinking,
        thinking_budget=thinking_budget,
        sampling=sampling,
        max_tokens=question.max_tokens,
    )


def offered(model: ChatModel) -> tuple[OfferedModel, ...]:
    """A model and the adapters of its engine."""
    base = OfferedModel(
        name=model.name,
        kind="model",
        description=model.engine.facts.description,
        n_ctx=model.engine.capabilities.n_ctx,
    )
    return base, *map(offered_adapter, model.engine.adapters.all())


def offered_adapter(adapter: Adapter) -> OfferedModel:
    """An adapter as others see it."""
    return OfferedModel(
        name=adapter.name,
        kind="adapter",
        description=f"LoRA of rank {adapter.rank} on {', '.join(adapter.targets)}",
        version=adapter.version,
    )


def _named(model: ChatModel, name: str | None) -> ChatModel:
    if name is None or name == model.name:
        return model
    known = {adapter.name: adapter for adapter in model.engine.adapters.all()}
    if name not in known:
        served = ", ".join((model.name, *known))
        raise UnknownModel(f"no model {name!r}; served: {served}", param="model")
    return model.with_adapter(known[name])


def _free(loading: Future[ChatModel]) -> None:
    if loading.exception() is None:
        loading.result().engine.close()
