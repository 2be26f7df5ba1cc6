"""The replicas as a whole: one by name, all at once, or one after the other. Knows no Ray.

A change that is made to all is made to all or to none: where one refuses, those before it go back.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Protocol

from qwenkit.cluster.ask import Accepted, Ask, Body, Head, Message, Target
from qwenkit.cluster.changes import Changes
from qwenkit.cluster.lost import NoReplica, ReplicaGone, ReplicaLost
from qwenkit.server.errors import ReloadRunning

logger = logging.getLogger(__name__)

TURN_S = 3600.0
"""Seconds after which a change that never ended no longer keeps others out."""


class Calls(Protocol):
    """Reaches replicas; `calls.ReplicaCalls` does it through Ray."""

    async def call(self, method: str, target: Target) -> Any:
        """What a method of a replica returns."""

    def stream(self, ask: Ask) -> AsyncGenerator[Message, None]:
        """What a replica answers, `Accepted` first."""


class SharedLedger(Protocol):
    """The ledger, wherever it is."""

    async def replicas(self) -> list[str]:
        """Those that have been seen lately."""

    async def begin(self, who: str, at_most_s: float) -> bool:
        """Take the turn to change something."""

    async def commit(self, changes: Changes) -> None:
        """A change was made."""

    async def end(self, who: str) -> None:
        """Give the turn back."""


class Fleet:
    """The replicas of one application.

    Args:
        calls: Reaches them.
        ledger: Says which there are.
    """

    def __init__(self, calls: Calls, ledger: SharedLedger) -> None:
        self._calls = calls
        self._ledger = ledger

    async def stream(self, ask: Ask) -> AsyncGenerator[Message, None]:
        """What a replica answers, `Accepted` first.

        Raises:
            ReplicaGone: It is for one that is gone.
            NoReplica: No replica took it.
            ReplicaLost: The one that had it is gone.
        """
        async with aclosing(self._calls.stream(ask)) as messages:
            async for message in messages:
                if isinstance(message, Accepted) and not message.is_meant:
                    raise ReplicaGone(ask.target.only)
                yield message

    async def names(self) -> list[str]:
        """The replicas that there are."""
        return await self._ledger.replicas()

    async def each(self, ask: Ask) -> dict[str, tuple[Head, bytes]]:
        """Every replica's answer, asked at once; those that are gone are left out."""
        names = await self.names()
        answers = await asyncio.gather(*(self._if_there(to(ask, name)) for name in names))
        return {
            name: answer for name, answer in zip(names, answers, strict=True) if answer is not None
        }

    async def roll(self, ask: Ask) -> tuple[Head, bytes]:
        """Have every replica make a change, one after the other, and the last one's answer.

        Raises:
            ReloadRunning: Another change is being made.
            NoReplica: There is none.
        """
        async with self._turn():
            changed: dict[str, Changes] = {}
            answer: tuple[Head, bytes] | None = None
            for name in await self.names():
                try:
                    answer, changed[name] = await self._change(to(ask, name))
                except ReplicaLost as exc:
                    logger.warning("replica %s is left out of a change: %s", name, exc.message)
                    continue
                if answer[0].status >= 400:
                    await self._undo(list(changed))
                    return answer
            if answer is None:
                raise NoReplica
            await self._ledger.commit(next(iter(changed.values())))
            return answer

    async def _if_there(self, ask: Ask) -> tuple[Head, bytes] | None:
        try:
            return await self._whole(ask)
        except ReplicaLost:
            return None

    async def _whole(self, ask: Ask) -> tuple[Head, bytes]:
        head, content = Head(0, ()), b""
        async with aclosing(self.stream(ask)) as messages:
            async for message in messages:
                match message:
                    case Head():
                        head = message
                    case Body():
                        content += message.content
        return head, content

    async def _change(self, ask: Ask) -> tuple[tuple[Head, bytes], Changes]:
        before = await self._calls.call("keep", ask.target)
        answer = await self._whole(ask)
        after = await self._calls.call("served", ask.target)
        if before is None or after is None:
            raise ReplicaGone(ask.target.only)
        return answer, Changes.between(before, after)

    async def _undo(self, names: Sequence[str]) -> None:
        for name in names:
            with suppress(ReplicaLost):
                if not await self._calls.call("undo", Target(only=name)):
                    logger.error("replica %s may serve something else than the others", name)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        who = uuid.uuid4().hex
        if not await self._ledger.begin(who, TURN_S):
            raise ReloadRunning("a change is being made already", hint="see GET /admin/status")
        try:
            yield
        finally:
            await self._ledger.end(who)


def to(ask: Ask, replica: str) -> Ask:
    """The same request for one replica."""
    return replace(ask, target=Target(only=replica))
