"""Where answers come from: a model in this process, or a server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

from qwenkit.chat.events import ChatEvent
from qwenkit.chat.remote import RemoteServer
from qwenkit.cli.chat.session import AnswerOptions
from qwenkit.errors import UnknownModel


class AnswerSource(Protocol):
    """Something that answers conversations."""

    @property
    def name(self) -> str:
        """The model's name."""

    @property
    def place(self) -> str:
        """Where it runs, for people."""

    def answer(
        self,
        messages: Sequence[dict[str, Any]],
        options: AnswerOptions,
        tools: Sequence[dict[str, Any]] = (),
    ) -> AsyncGenerator[ChatEvent, None]:
        """Answer a conversation; closing the iterator cancels the request."""

    async def switch(self, name: str) -> None:
        """Let another model answer from now on."""

    async def close(self) -> None:
        """Free what it holds."""


class RemoteSource:
    """A model on an OpenAI-compatible server; `connect` makes one."""

    def __init__(self, server: RemoteServer, name: str) -> None:
        self._server = server
        self.name = name

    @classmethod
    async def connect(cls, url: str, *, api_key: str | None, model: str | None) -> RemoteSource:
        """Reach a server and choose the model: the one asked for, or the only one.

        Raises:
            RemoteUnreachable: It does not answer.
            UnknownModel: It has no such model, or several to choose from.
        """
        server = RemoteServer(url, api_key=api_key)
        source = cls(server, "")
        try:
            await source.switch(model or "")
        except BaseException:
            await server.close()
            raise
        return source

    @property
    def place(self) -> str:
        """The server's address."""
        return self._server.url

    def answer(
        self,
        messages: Sequence[dict[str, Any]],
        options: AnswerOptions,
        tools: Sequence[dict[str, Any]] = (),
    ) -> AsyncGenerator[ChatEvent, None]:
        """Answer a conversation; closing the iterator cancels the request."""
        body: dict[str, Any] = {"model": self.name, "messages": list(messages)}
        offered = {"tools": list(tools)} if tools else {}
        return self._server.stream_chat(body | options.as_request() | offered)

    async def switch(self, name: str) -> None:
        """Take another of the server's models.

        Raises:
            UnknownModel: It has no such model.
        """
        served = await self._server.models()
        if not name and len(served) == 1:
            name = served[0]
        if name not in served:
            asked = f"no model `{name}`" if name else "more than one model, or none"
            raise UnknownModel(
                f"`{self._server.url}` has {asked}",
                hint=f"it has {', '.join(served) or 'nothing to offer'}",
                param="model",
            )
        self.name = name

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()
