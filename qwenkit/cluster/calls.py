"""Calls to replicas and to the ledger, as Ray makes them; its failures become `ReplicaLost`.

ask → a replica accepts within `ACCEPT_S` → what it answers
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from contextvars import Context
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from qwenkit.cluster.ask import Ask, Message, Target
from qwenkit.cluster.changes import Changes
from qwenkit.cluster.lost import NoReplica, ReplicaLost

ACCEPT_S = 30.0
"""Seconds within which a replica must have taken a request."""
CALL_S = 1800.0
"""Seconds that a call may take; the longest restores a model."""
GONE = (RayError, RayServeException)
"""What Ray raises where a replica has died, is ending or can't be reached."""


class ReplicaCalls:
    """Calls through Ray Serve's handle.

    Args:
        handle: To the deployment of the replicas.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def call(self, method: str, target: Target) -> Any:
        """What a method of a replica returns.

        Raises:
            ReplicaLost: It did not return.
        """
        response = _apart(getattr(self._handle, method), target)
        try:
            async with asyncio.timeout(CALL_S):
                return await response
        except (*GONE, TimeoutError) as exc:
            raise ReplicaLost("a replica did not answer", replica=target.only) from exc

    async def stream(self, ask: Ask) -> AsyncGenerator[Message, None]:
        """What a replica answers, `Accepted` first; closing the generator cancels it.

        Raises:
            NoReplica: No replica took the request.
            ReplicaLost: The one that had it is gone.
        """
        response = _apart(self._handle.options(stream=True).answer, ask)
        replica: str | None = None
        parts = aiter(response)
        try:
            async with asyncio.timeout(ACCEPT_S):
                first = await anext(parts)
            replica = first.replica
            yield first
            async for part in parts:
                yield part
        except TimeoutError as exc:
            raise NoReplica from exc
        except GONE as exc:
            raise ReplicaLost("the replica that answered is gone", replica=replica) from exc
        finally:
            with suppress(*GONE):
                response.cancel()


class LedgerCalls:
    """Calls to the ledger's actor.

    Args:
        actor: Ray's handle to it.
    """

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def replicas(self) -> list[str]:
        """See `Ledger`."""
        names: list[str] = await self._actor.replicas.remote()
        return names

    async def begin(self, who: str, at_most_s: float) -> bool:
        """See `Ledger`."""
        return bool(await self._actor.begin.remote(who, at_most_s))

    async def commit(self, changes: Changes) -> None:
        """See `Ledger`."""
        await self._actor.commit.remote(changes)

    async def end(self, who: str) -> None:
        """See `Ledger`."""
        await self._actor.end.remote(who)


def _apart(method: Any, argument: Ask | Target) -> Any:
    # Serve takes calls that one request makes for one and the same, of which only one is answered;
    # what it knows a request by is in the context.
    return Context().run(method.remote, argument)
