"""Where answers come from: a model in this process, or a server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

from qwenkit.chat.events import ChatEvent
from qwenkit.chat.remote import RemoteServer
from qwenkit.cli.chat.session import AnswerOptions
from qwenkit.errors import UnknownModel
from qwenkit.feedback.records import Rating, ToolRun, as_json

_SENT = ("answer_id", "thread_id", "source", "thumb", "scale", "comment", "edited", "retracted")


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
        *,
        thread_id: str | None = None,
    ) -> AsyncGenerator[ChatEvent, None]:
        """Answer a conversation; closing the iterator cancels the request.

        Args:
            thread_id: The conversation, for a log that is kept here.
        """

    async def rate(self, rating: Rating) -> None:
        """Note what the reader thinks of an answer.

        Raises:
            LogUnwritable: It can't be noted here.
            RemoteError: The server did not take it.
        """

    def keep(self, run: ToolRun) -> None:
        """Note a run of a tool, where answers are noted here as well."""

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
        *,
        thread_id: str | None = None,  # noqa: ARG002
    ) -> AsyncGenerator[ChatEvent, None]:
        """Answer a conversation; closing the iterator cancels the request.

        The conversation is named only with a rating: some servers refuse metadata.
        """
        body: dict[str, Any] = {"model": self.name, "messages": list(messages)}
        offered = {"tools": list(tools)} if tools else {}
        return self._server.stream_chat(body | options.as_request() | offered)

    async def rate(self, rating: Rating) -> None:
        """Send a rating to a server that is qwenkit's.

        Raises:
            RemoteUnreachable: It does not answer.
            RemoteError: It did not take it.
        """
        said = as_json(rating)
        fields = {name: said[name] for name in _SENT if said[name] not in (None, False)}
        await self._server.call("POST", "/v1/feedback", fields)

    def keep(self, run: ToolRun) -> None:
        """Do nothing: the log is the server's."""

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
