"""Lets those who ask for answers watch how they are made. Knows a context variable; no watcher.

Every chat passes through `stream_chat`, whoever asked: a route, the agent, a client of MCP. What is
set here follows a request into every task that it starts.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol, TypeAlias

from qwenkit.chat.events import ChatEvent

if TYPE_CHECKING:
    from qwenkit.chat.completion import ChatModel, PreparedChat


class ChatWatch(Protocol):
    """Told of one answer; must return at once and never raise."""

    def on_begin(self) -> None:
        """It is begun."""
        ...

    def on_prepared(self, chat: PreparedChat) -> None:
        """The engine gets this."""
        ...

    def on_event(self, event: ChatEvent) -> None:
        """This has happened."""
        ...

    def on_end(self, error: BaseException | None) -> None:
        """The answer is over; an error is what ended it, cancelling included."""
        ...


NewWatch: TypeAlias = "Callable[[ChatModel], ChatWatch]"
_new_watch: ContextVar[NewWatch | None] = ContextVar("chat_watch", default=None)


def watch_chats(new_watch: NewWatch) -> None:
    """Have every chat watched that is begun in this context from now on."""
    _new_watch.set(new_watch)


def watch_of(model: ChatModel) -> ChatWatch | None:
    """Who watches an answer of a model that begins now, if anybody does."""
    new_watch = _new_watch.get()
    return None if new_watch is None else new_watch(model)


async def watched(events: AsyncGenerator[ChatEvent], watch: ChatWatch) -> AsyncGenerator[ChatEvent]:
    """A chat's events, told on the way."""
    error: BaseException | None = None
    watch.on_begin()
    try:
        async with aclosing(events):
            async for event in events:
                watch.on_event(event)
                yield event
    except BaseException as exc:
        error = exc
        raise
    finally:
        watch.on_end(error)
