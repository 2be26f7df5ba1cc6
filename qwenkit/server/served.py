"""One loaded model and the requests that are bound to it: when it may be freed, not why.

    lease ─▶ the request's answer, to its last byte ─▶ lease given back ─▶ … idle ─▶ freed

Belongs to the event loop: no other thread may call it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from qwenkit.chat.completion import ChatModel
from qwenkit.server.loader import LoadPlan


class ServedModel:
    """A model that requests can be bound to.

    Args:
        model: Loaded, its engine running; owned from here on.
        plan: What it was loaded by.
    """

    def __init__(self, model: ChatModel, plan: LoadPlan) -> None:
        self.model = model
        self.plan = plan
        self.since = time.time()
        self.n_leases = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._freeing: asyncio.Future[None] | None = None

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Keep the model from being freed as long as the context is open."""
        self.n_leases += 1
        self._idle.clear()
        try:
            yield
        finally:
            self.n_leases -= 1
            if not self.n_leases:
                self._idle.set()

    async def wait_idle(self) -> None:
        """Return when no request is bound to it."""
        # Another request may come between the last one's end and this one's turn.
        while self.n_leases:
            await self._idle.wait()

    async def free(self) -> None:
        """Stop its engine and free its memory; a request that still runs ends with an error."""
        if self._freeing is None:
            self._freeing = asyncio.ensure_future(asyncio.to_thread(self.model.engine.close))
        await asyncio.shield(self._freeing)
