"""What clients do to a server all day: ask, stop listening, vanish, rate, swap and reload.

Each act is a coroutine over a client. One that meets an answer that no honest server gives raises
`Surprise`; that the server is busy or replacing its model is no surprise.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import httpx

from .stage import ADMIN_KEY, USER_KEY, Stage, bearer

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"
MODEL = "qwenkit-demo"
QUESTIONS = (
    "What is qwenkit?",
    "Tell me a story about a cat.",
    "2 + 3 = ?",
    "Who are you?",
    "日本語で答えて 🙂",
)
TOOL = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Calculate an arithmetic expression",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}},
    },
}
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}}}
BUSY = (409, 503)
"""Statuses that say: not now."""

Act: TypeAlias = Callable[["Actor"], Awaitable[None]]


class Surprise(AssertionError):
    """The server answered as it never should."""


class Actor:
    """A client with dice.

    Args:
        stage: The server.
        client: For its routes.
        seed: Of its dice.
    """

    def __init__(self, stage: Stage, client: httpx.AsyncClient, seed: int) -> None:
        self.stage = stage
        self.client = client
        self.dice = random.Random(seed)

    async def ask(
        self, method: str, route: str, *, ok: tuple[int, ...] = (200,), **how: Any
    ) -> httpx.Response:
        """A reply whose status is one of `ok`, or says that the server is busy.

        Raises:
            Surprise: It is another.
        """
        reply = await self.client.request(method, route, **how)
        self.check(reply.status_code, ok, f"{method} {route}: {reply.text[:300]}")
        return reply

    def check(self, status: int, ok: tuple[int, ...], what: str) -> None:
        """Raise on a status that nobody expects."""
        if status not in (*ok, *BUSY):
            raise Surprise(f"{status} of {what}")

    def chat_body(self, **more: Any) -> dict[str, Any]:
        """A question with a random turn to it."""
        turn: dict[str, Any] = self.dice.choice(
            [
                {},
                {"n": 2, "temperature": 1.0},
                {"tools": [TOOL]},
                {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
                {"logprobs": True, "top_logprobs": 3},
                {"chat_template_kwargs": {"enable_thinking": False}},
                {"stop": ["\n"], "seed": 7},
                {"model": self.dice.choice(("poet", "clerk"))},
            ]
        )
        text = self.dice.choice(QUESTIONS) + " again" * self.dice.randrange(200)
        limit = self.dice.randrange(1, 48)
        messages = [{"role": "user", "content": text}]
        return {"model": MODEL, "messages": messages, "max_tokens": limit, **turn, **more}


async def chat(actor: Actor) -> None:
    """One whole answer, sometimes rated."""
    reply = await actor.ask("POST", CHAT, json=actor.chat_body(), ok=(200, 404))
    if reply.status_code == 200 and actor.dice.random() < 0.3:
        rating = {"answer_id": reply.json()["id"], "thumb": actor.dice.choice(("up", "down"))}
        await actor.ask("POST", "/v1/feedback", json=rating, ok=(200, 201, 404))


async def stream(actor: Actor) -> None:
    """A streamed answer, read to its end."""
    await _stream(actor, n_lines=None)


async def cancel(actor: Actor) -> None:
    """A long streamed answer that nobody reads to its end."""
    await _stream(actor, n_lines=actor.dice.randrange(6), max_tokens=2000, ignore_eos=True)


async def _stream(actor: Actor, *, n_lines: int | None, **more: Any) -> None:
    body = actor.chat_body(stream=True, **more)
    async with actor.client.stream("POST", CHAT, json=body) as reply:
        actor.check(reply.status_code, (200, 404), "a stream")
        n_read, last = 0, ""
        async for line in reply.aiter_lines():
            n_read, last = n_read + 1, line or last
            if n_lines is not None and n_read > n_lines:
                return
    if n_lines is None and reply.status_code == 200 and last != "data: [DONE]":
        raise Surprise(f"a stream that ends with {last!r}")


async def vanish(actor: Actor) -> None:
    """A client that is killed: its connection is reset somewhere in a request or an answer."""
    body = json.dumps(actor.chat_body(stream=True, max_tokens=1000, ignore_eos=True)).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: {urlsplit(actor.stage.url).netloc}\r\n"
        f"Authorization: Bearer {USER_KEY}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    whole = head + body
    sent = whole[: actor.dice.choice((5, len(head), len(head) + 20, len(whole), len(whole)))]
    reader, writer = await asyncio.open_connection(*_address(actor.stage.url))
    writer.write(sent)
    await writer.drain()
    if sent == whole:
        await reader.read(actor.dice.randrange(1, 2000))
    # Closing with a linger of zero seconds sends a reset, as the kernel does for a killed process.
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 80


async def look(actor: Actor) -> None:
    """Somebody looks around."""
    route = actor.dice.choice(("/v1/models", "/metrics", "/readyz", "/v1/me", "/openapi.json", "/"))
    await actor.ask("GET", route, ok=(200, 404))


async def texts(actor: Actor) -> None:
    """The routes without a conversation."""
    text = actor.dice.choice(QUESTIONS) * actor.dice.randrange(1, 9)
    route, body = actor.dice.choice(
        [
            ("/v1/completions", {"prompt": text, "max_tokens": 8}),
            ("/v1/embeddings", {"input": [text, "x"]}),
            ("/tokenize", {"content": text}),
            ("/apply-template", {"messages": [{"role": "user", "content": text}]}),
        ]
    )
    await actor.ask("POST", route, json=body)


async def respond(actor: Actor) -> None:
    """A conversation of two responses, the second by the first one's id, sometimes deleted."""
    body = {"model": MODEL, "input": actor.dice.choice(QUESTIONS), "max_output_tokens": 8}
    first = await actor.ask("POST", RESPONSES, json=body)
    if first.status_code != 200:
        return
    response_id = first.json()["id"]
    more = {**body, "previous_response_id": response_id, "stream": actor.dice.random() < 0.5}
    await actor.ask("POST", RESPONSES, json=more)
    if actor.dice.random() < 0.5:
        await actor.ask("DELETE", f"{RESPONSES}/{response_id}")


async def message(actor: Actor) -> None:
    """An answer in the other dialect."""
    said = {"role": "user", "content": actor.dice.choice(QUESTIONS)}
    is_stream = actor.dice.random() < 0.5
    body = {"model": MODEL, "max_tokens": 16, "messages": [said], "stream": is_stream}
    await actor.ask("POST", "/v1/messages", json=body)


async def mistake(actor: Actor) -> None:
    """A request that must be refused."""
    body = actor.dice.choice([{"messages": 5}, {"n": -1}, {"messages": [], "tools": "x"}])
    await actor.ask("POST", CHAT, json=body, ok=(400,))


async def agent(actor: Actor) -> None:
    """A thread with a run or two, deleted again."""
    thread = (await actor.ask("POST", "/agent/threads", json={})).json().get("thread_id")
    run = {
        "assistant_id": "agent",
        "input": {"messages": [{"role": "user", "content": actor.dice.choice(QUESTIONS)}]},
        "config": {"configurable": {"max_tokens": 16}},
    }
    how = actor.dice.choice(("wait", "stream"))
    await actor.ask("POST", f"/agent/threads/{thread}/runs/{how}", json=run)
    await actor.ask("GET", f"/agent/threads/{thread}/state")
    await actor.ask("DELETE", f"/agent/threads/{thread}", ok=(204,))


async def swap(actor: Actor) -> None:
    """An adapter comes, changes or goes."""
    name = actor.dice.choice(("poet", "clerk"))
    if actor.dice.random() < 0.3:
        await _as_admin(actor, "DELETE", f"/admin/adapters/{name}", ok=(200, 404))
        return
    path = str(actor.dice.choice(actor.stage.adapters))
    body = {"name": name, "path": path, "replace": True}
    await _as_admin(actor, "POST", "/admin/adapters", json=body)


async def reload(actor: Actor) -> None:
    """The same model in a slightly other size, in either way.

    The sizes are near one another, or memory would follow the dice.
    """
    body = {
        "n_ctx": actor.dice.choice((3840, 4096)),
        "mode": actor.dice.choice(("side_by_side", "drain")),
        "drain_timeout_s": 20,
    }
    await _as_admin(actor, "POST", "/admin/reload", json=body)


async def _as_admin(actor: Actor, method: str, route: str, **how: Any) -> None:
    await actor.ask(method, route, headers=bearer(ADMIN_KEY), **how)


MIX: dict[Act, int] = {
    chat: 20,
    stream: 25,
    cancel: 15,
    vanish: 10,
    look: 10,
    texts: 12,
    respond: 5,
    message: 5,
    mistake: 4,
    agent: 4,
}
"""How often each happens, beside one another."""
