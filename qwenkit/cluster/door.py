"""The door: takes HTTP requests, finds each a replica, and hands on what that answers.

Knows keys and kinds of request; nothing of which replica suits. A body is read only of who may send
one; whoever may not is refused by a replica, as a server alone would.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from qwenkit.cluster.affinity import affinity_of
from qwenkit.cluster.ask import Accepted, Ask, Body, Head, Message, Part, Target
from qwenkit.cluster.fleet import Fleet
from qwenkit.cluster.followed import Followed
from qwenkit.cluster.lost import NoReplica, ReplicaGone, ReplicaLost
from qwenkit.cluster.pages import merged_metrics, merged_status
from qwenkit.cluster.retries import Retries
from qwenkit.cluster.routes import METRICS, RESPONSES, STATUS, Kind, kind_of
from qwenkit.cluster.session import of_replica, with_replica
from qwenkit.server.anthropic.errors import anthropic_error, is_anthropic
from qwenkit.server.auth import KeyRing, Role, is_open, key_of
from qwenkit.server.connection import MIN_RATE
from qwenkit.server.errors import ErrorBoundary, TooSlow, errors_spelled, failure
from qwenkit.server.limits import BodyLimit

EVENTS = b"text/event-stream"
REQUEST_ID = b"x-request-id"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorPlan:
    """What a door goes by.

    Args:
        keys: Who may send a body.
        max_body_bytes: Largest body.
        client_timeout_s: Seconds that a client may take to send a body, and more for a large one
            that keeps coming.
    """

    keys: KeyRing
    max_body_bytes: int
    client_timeout_s: float


class Door:
    """One door, as an ASGI application.

    Args:
        plan: What it goes by.
        fleet: The replicas.
    """

    def __init__(self, plan: DoorPlan, fleet: Fleet) -> None:
        self._keys = plan.keys
        self._client_timeout_s = plan.client_timeout_s
        self._fleet = fleet
        self._retries = Retries(fleet)
        self._followed = Followed()
        self._changing: set[asyncio.Task[Any]] = set()
        self._app = ErrorBoundary(BodyLimit(self._answer, max_bytes=plan.max_body_bytes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        with _spelling(scope["path"]):
            await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            body = await self._body(request) if self._may_send(request) else b""
        except ClientDisconnect:
            return
        head: Head | None = None
        try:
            async with aclosing(self._messages(_ask(scope, body))) as messages:
                async for message in messages:
                    if isinstance(message, Accepted):
                        continue
                    head = message if isinstance(message, Head) else head
                    await send(_asgi(message))
        except ReplicaLost as exc:
            if head is None:
                await failure(exc).response()(scope, receive, send)
                return
            if not _is_event_stream(head):  # only a broken connection says that it is incomplete
                raise
            await send(_asgi(Body(_error_event(exc))))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _may_send(self, request: Request) -> bool:
        is_known = self._keys.role(key_of(request.headers)) >= Role.USER
        return is_known or is_open(request.scope["path"])

    async def _body(self, request: Request) -> bytes:
        chunks = []
        try:
            async with asyncio.timeout(self._client_timeout_s) as limit:
                async for chunk in request.stream():
                    chunks.append(chunk)
                    limit.reschedule((limit.when() or 0.0) + len(chunk) / MIN_RATE)
        except TimeoutError as exc:
            raise TooSlow("the client took too long to send its request") from exc
        return b"".join(chunks)

    def _messages(self, ask: Ask) -> AsyncGenerator[Message, None]:
        match kind_of(ask.method, ask.path):
            case Kind.EACH:
                return self._rolled(ask)
            case Kind.GATHER:
                return self._gathered(ask)
            case Kind.HOME:
                return self._fleet.stream(replace(ask, target=Target(home=True)))
            case Kind.SESSION:
                return self._in_session(ask)
            case Kind.ANY:
                return self._by_whom_it_suits(ask)

    async def _by_whom_it_suits(self, ask: Ask) -> AsyncGenerator[Message, None]:
        affinity = affinity_of(ask.path, ask.body)
        known = None if affinity is None else self._followed.replica(affinity.follows)
        asked = replace(ask, target=Target(affinity=affinity, prefers=known))
        replica, is_new = "", ask.path == RESPONSES
        async with aclosing(self._retries.answer(asked)) as messages:
            async for message in messages:
                match message:
                    case Accepted():
                        replica = message.replica
                    case Body() if is_new:
                        self._followed.learn(message.content, replica)
                        is_new = False
                yield message

    async def _rolled(self, ask: Ask) -> AsyncGenerator[Message, None]:
        # Goes on when the client leaves: replicas must not end up differing.
        task = asyncio.create_task(self._fleet.roll(ask))
        self._changing.add(task)
        task.add_done_callback(self._changing.discard)
        head, content = await asyncio.shield(task)
        yield head
        yield Body(content)

    async def _gathered(self, ask: Ask) -> AsyncGenerator[Message, None]:
        answers = await self._fleet.each(ask)
        if not answers:
            raise NoReplica
        merged = {METRICS: merged_metrics, STATUS: merged_status}.get(ask.path)
        ranked = sorted(answers.values(), key=lambda each: each[0].status)
        head, content = ranked[0 if merged is None else -1]
        if merged is not None and head.status == 200:
            content = merged({name: page for name, (_, page) in answers.items()})
        yield _sized(head, len(content))
        yield Body(content)

    async def _in_session(self, ask: Ask) -> AsyncGenerator[Message, None]:
        replica, own = of_replica(ask)
        asked = replace(own, target=Target(only=replica))
        name = ""
        async with aclosing(self._by_one_or_any(asked)) as messages:
            async for message in messages:
                if isinstance(message, Accepted):
                    name = message.replica
                yield with_replica(message, name) if isinstance(message, Head) else message

    async def _by_one_or_any(self, ask: Ask) -> AsyncGenerator[Message, None]:
        """The answer of the replica that it is for or, where that is gone, of another."""
        try:
            async with aclosing(self._fleet.stream(ask)) as messages:
                async for message in messages:
                    yield message
        except ReplicaGone:
            async with aclosing(self._fleet.stream(replace(ask, target=Target()))) as messages:
                async for message in messages:
                    yield message


def _ask(scope: Scope, body: bytes) -> Ask:
    client = scope.get("client")
    return Ask(
        method=scope["method"],
        path=scope["path"],
        raw_path=scope.get("raw_path") or scope["path"].encode(),
        query=scope["query_string"],
        headers=tuple((bytes(name), bytes(value)) for name, value in scope["headers"]),
        body=body,
        scheme=scope.get("scheme", "http"),
        client=None if client is None else (client[0], client[1]),
    )


def _asgi(part: Part) -> dict[str, Any]:
    if isinstance(part, Head):
        # Serve's proxy gives every request an id, which the replica takes on, and says it itself.
        headers = [each for each in part.headers if each[0].lower() != REQUEST_ID]
        return {"type": "http.response.start", "status": part.status, "headers": headers}
    return {"type": "http.response.body", "body": part.content, "more_body": True}


def _sized(head: Head, n_bytes: int) -> Head:
    kept = [each for each in head.headers if each[0].lower() != b"content-length"]
    return replace(head, headers=(*kept, (b"content-length", str(n_bytes).encode())))


def _is_event_stream(head: Head) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(EVENTS) for name, value in head.headers
    )


def _error_event(exc: ReplicaLost) -> bytes:
    return f"event: error\ndata: {json.dumps(failure(exc).body)}\n\n".encode()


def _spelling(path: str) -> AbstractContextManager[None]:
    return errors_spelled(anthropic_error) if is_anthropic(path) else nullcontext()
