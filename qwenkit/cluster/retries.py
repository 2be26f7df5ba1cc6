"""Asks another replica where one can't answer, so that the client need not know of it.

    lost before it began to answer   → another, unless there is none
    503 (full, stopping)             → another
    404 (known elsewhere, perhaps)   → another; for an id of a response, each of them
    any other answer                 → the client's

What acts on the world is made once: a rating, and a request whose answer calls MCP servers' tools.

What has begun can't be taken back: then the failure is the client's, and the replica is remembered,
so that the same request, when the client sends it again, goes to another.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from qwenkit.cluster.ask import Accepted, Ask, Head, Message, Target
from qwenkit.cluster.lost import NoReplica, ReplicaLost
from qwenkit.cluster.routes import RESPONSES, may_be_elsewhere, may_repeat

logger = logging.getLogger(__name__)

TRIES = 4
"""Replicas that one request is put to at most, but for those that ask for an id."""
MAX_FAILED = 4096
"""Failed requests whose replica is remembered."""


class Replicas(Protocol):
    """What answers."""

    async def names(self) -> list[str]:
        """Those that there are."""

    def stream(self, ask: Ask) -> AsyncGenerator[Message, None]:
        """What one of them answers, `Accepted` first."""


class _AnotherMayKnow(Exception):
    """The answer is not the last word."""


class Retries:
    """Answers by whichever replica can.

    Args:
        fleet: The replicas.
    """

    def __init__(self, fleet: Replicas) -> None:
        self._fleet = fleet
        self._failed: OrderedDict[bytes, str] = OrderedDict()

    async def answer(self, ask: Ask) -> AsyncGenerator[Message, None]:
        """The answer of the first replica that has one, `Accepted` first.

        Raises:
            ReplicaLost: It is gone in the midst of its answer, or none is left to be asked.
        """
        key = _digest(ask)
        avoid = {self._failed.pop(key)} if key in self._failed else set()
        n_tries = await self._n_tries(ask)
        for n in range(n_tries):
            attempt = _Attempt(self._fleet, replace(ask, target=_without(ask, avoid)), avoid)
            try:
                async with aclosing(attempt.messages(is_last=n == n_tries - 1)) as messages:
                    async for message in messages:
                        yield message
            except _AnotherMayKnow:
                continue
            except ReplicaLost as exc:
                logger.warning("%s %s: %s", ask.method, ask.path, exc.message)
                is_last = n == n_tries - 1 or isinstance(exc, NoReplica)
                if is_last or attempt.has_begun or not _may_repeat(ask):
                    self._note(key, exc.replica)
                    raise
                continue
            finally:
                avoid |= {attempt.replica} if attempt.replica else set()
            if attempt.status >= 500:
                self._note(key, attempt.replica)
            return

    async def _n_tries(self, ask: Ask) -> int:
        if ask.path != RESPONSES and not ask.path.startswith(f"{RESPONSES}/"):
            return TRIES
        return max(TRIES, len(await self._fleet.names()))

    def _note(self, key: bytes, replica: str | None) -> None:
        if replica is not None:
            self._failed[key] = replica
        while len(self._failed) > MAX_FAILED:
            self._failed.popitem(last=False)


class _Attempt:
    """One replica's answer to a request."""

    def __init__(self, fleet: Replicas, ask: Ask, tried: set[str]) -> None:
        self._fleet = fleet
        self._ask = ask
        self._tried = frozenset(tried)
        self.replica: str | None = None
        self.status = 0

    @property
    def has_begun(self) -> bool:
        """Whether the client has something of it."""
        return self.status != 0

    async def messages(self, *, is_last: bool) -> AsyncGenerator[Message, None]:
        async with aclosing(self._fleet.stream(self._ask)) as messages:
            async for message in messages:
                if isinstance(message, Accepted):
                    self.replica = message.replica
                    continue
                if isinstance(message, Head):
                    if not is_last and await self._may_be_elsewhere(message.status):
                        raise _AnotherMayKnow
                    self.status = message.status
                    yield Accepted(self.replica or "")
                yield message

    async def _may_be_elsewhere(self, status: int) -> bool:
        ask = self._ask
        return may_be_elsewhere(ask.method, ask.path, status) and await self._others()

    async def _others(self) -> bool:
        names = await self._fleet.names()
        return bool(set(names) - self._tried - {self.replica})


def _without(ask: Ask, avoid: set[str]) -> Target:
    return replace(ask.target, avoid=frozenset(avoid))


def _may_repeat(ask: Ask) -> bool:
    return may_repeat(ask.method, ask.path) and not _calls_tools(ask.body)


def _calls_tools(body: bytes) -> bool:
    """Whether its answer calls tools of MCP servers."""
    if b"tools" not in body:
        return False
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return False
    tools = fields.get("tools") if isinstance(fields, dict) else None
    listed = tools if isinstance(tools, list) else []
    return any(isinstance(each, dict) and each.get("type") == "mcp" for each in listed)


def _digest(ask: Ask) -> bytes:
    digest = hashlib.blake2b(ask.path.encode("utf-8", "surrogatepass"), digest_size=16)
    digest.update(ask.query + b"\0" + ask.body)
    return digest.digest()
