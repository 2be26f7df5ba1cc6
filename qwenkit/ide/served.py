"""Finds out what a running server can do for an editor. Knows qwenkit's routes; no editor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qwenkit.chat.remote import RemoteServer
from qwenkit.errors import RemoteError, UnknownModel

FIM_MARKS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
RERANK = "/v1/rerank"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A model at a server, as an editor needs to know it.

    Args:
        url: Where `/v1` lies, with it.
        model: What requests call the model; an adapter's name where one was asked for.
        base: What they call the model without adapters.
        n_ctx: Tokens of context.
        fills_in: It knows the marks of a gap in a text.
        embeds: It turns texts into vectors.
        reranks: It orders texts by how well they answer.
    """

    url: str
    model: str
    base: str
    n_ctx: int
    fills_in: bool
    embeds: bool
    reranks: bool

    @property
    def root(self) -> str:
        """Where the routes lie that are not OpenAI's."""
        return self.url.removesuffix("/v1")


async def look(server: RemoteServer, *, model: str | None = None) -> Served:
    """Ask a server what it serves, and try what an editor would use.

    Args:
        server: Where to ask.
        model: A served model, an alias or an adapter; None takes the model itself.

    Raises:
        UnknownModel: It serves nothing of that name.
        RemoteError: It refuses, or is no qwenkit server.
        RemoteUnreachable: It does not answer.
    """
    listed = await server.call("GET", "/v1/models")
    try:
        base, *adapters = listed["data"]
        names = {base["id"]: base["id"]} | dict.fromkeys(base["aliases"], base["id"])
        names |= {each["id"]: each["id"] for each in adapters}
        name, n_ctx = str(base["id"]), int(base["meta"]["n_ctx"])
    except (LookupError, TypeError, ValueError) as exc:
        raise RemoteError(
            f"`{server.url}/models` lists no model as qwenkit does",
            status=200,
            hint="check that it is a qwenkit server",
        ) from exc
    if model is not None and model not in names:
        raise UnknownModel(
            f"the server has no model `{model}`", hint=f"it serves {', '.join(names)}"
        )
    return Served(
        url=server.url,
        model=name if model is None else names[model],
        base=name,
        n_ctx=n_ctx,
        fills_in=await _fills_in(server),
        embeds=await _embeds(server, name),
        reranks=await _has_route(server, RERANK),
    )


async def _fills_in(server: RemoteServer) -> bool:
    """Whether each mark is one token."""
    body = {"content": "".join(FIM_MARKS), "parse_special": True}
    answer: Mapping[str, Any] = await server.call("POST", "/tokenize", body)
    return len(answer["tokens"]) == len(FIM_MARKS)


async def _embeds(server: RemoteServer, model: str) -> bool:
    try:
        await server.call("POST", "/v1/embeddings", {"model": model, "input": "a"})
    except RemoteError:
        return False
    return True


async def _has_route(server: RemoteServer, path: str) -> bool:
    document: Mapping[str, Any] = await server.call("GET", "/openapi.json")
    return path in document["paths"]
