"""A model of another server as the MCP server's host. Adapters can be loaded into qwenkit's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qwenkit.chat.remote import RemoteServer
from qwenkit.errors import UnknownModel
from qwenkit.mcp.server.asking import reply_of
from qwenkit.mcp.server.offer import OfferedModel, OnTokens, Question, Reply


class RemoteHost:
    """A model on a server.

    Args:
        server: Where it is.
    """

    def __init__(self, server: RemoteServer) -> None:
        self._server = server

    async def ask(self, question: Question, on_tokens: OnTokens) -> Reply:
        """The model's answer; cancelling it ends the request."""
        model = question.model or await self._first()
        body = {"model": model, "messages": question.messages(), **_options(question)}
        return await reply_of(self._server.stream_chat(body), model, on_tokens)

    async def models(self) -> tuple[OfferedModel, ...]:
        """The models that the server lists."""
        listed = (await self._server.call("GET", "/v1/models"))["data"]
        return tuple(_offered(each) for each in listed)

    async def load_adapter(self, name: str, path: Path, *, replace: bool) -> OfferedModel:
        """Load an adapter into a qwenkit server."""
        body = {"name": name, "path": str(path), "replace": replace}
        made = await self._server.call("POST", "/admin/adapters", body)
        return OfferedModel(
            name=made["name"],
            kind="adapter",
            description=f"LoRA of rank {made['rank']} on {', '.join(made['targets'])}",
            version=made["version"],
        )

    async def _first(self) -> str:
        names = await self._server.models()
        if not names:
            raise UnknownModel(f"`{self._server.url}` serves no model", param="model")
        return names[0]


def _options(question: Question) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if question.thinking is not None:
        options["chat_template_kwargs"] = {"enable_thinking": question.thinking}
    if question.max_tokens is not None:
        options["max_tokens"] = question.max_tokens
    if question.temperature is not None:
        options["temperature"] = question.temperature
    return options


def _offered(listed: dict[str, Any]) -> OfferedModel:
    meta = listed.get("meta") or {}
    return OfferedModel(
        name=str(listed["id"]),
        kind="adapter" if listed.get("parent") else "model",
        description=str(meta.get("description") or ""),
        version=str(meta.get("version") or ""),
        n_ctx=int(meta.get("n_ctx") or 0),
    )
