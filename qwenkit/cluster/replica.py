"""A replica: our server, whole, in an actor of Ray Serve's. Knows the application's parts.

It is ready when its model serves and it has taken on what was changed before it came. It answers
nothing over a socket of its own: the door hands it requests.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from qwenkit.cluster.ask import Accepted, Ask, Message, Target
from qwenkit.cluster.calls import GONE
from qwenkit.cluster.changes import Changes, Served
from qwenkit.cluster.exchange import exchange
from qwenkit.cluster.ledger import ledger_of
from qwenkit.cluster.plan import WriteLog
from qwenkit.errors import QwenkitError, UnknownAdapter
from qwenkit.server.rereading import Rereader
from qwenkit.settings import ReloadMode

logger = logging.getLogger(__name__)

RELOAD_DRAIN_S = 300.0


class Replica:
    """One replica; Ray Serve makes it, asks for its health and ends it.

    Args:
        make_app: Makes the server.
        app_name: The name under which Ray Serve runs the application.
        folder: The working folder, from which relative paths are.
        log: Has it write its log; Ray keeps what a process writes to stderr.
    """

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self, make_app: Callable[[], FastAPI], app_name: str, folder: str, log: WriteLog
    ) -> None:
        from ray import serve

        self._log = log(sys.stderr)
        self._log.__enter__()
        self.name: str = serve.get_replica_context().replica_id.unique_id
        with suppress(OSError):  # another machine may not have it
            os.chdir(folder)
        self._ledger = ledger_of(app_name)
        self._known = Changes()
        self._catching_up = asyncio.Lock()
        self._before: Served | None = None
        self._app = make_app()
        self._life: AbstractAsyncContextManager[Any] = self._app.router.lifespan_context(self._app)
        await self._life.__aenter__()
        try:
            await self._rereader.serving.loaded()
            await self._catch_up()
        except BaseException:
            await self._life.__aexit__(None, None, None)
            raise

    @property
    def _rereader(self) -> Rereader:
        rereader: Rereader = self._app.state.rereader
        return rereader

    async def answer(self, ask: Ask) -> AsyncGenerator[Message, None]:
        """Answer an HTTP request; what comes first is always `Accepted`."""
        is_meant = ask.target.only in (None, self.name)
        yield Accepted(self.name, is_meant)
        if is_meant:
            async for part in exchange(self._app, ask):
                yield part

    async def served(self, target: Target) -> Served | None:
        """What it serves; None where another was meant."""
        return self._served() if target.only == self.name else None

    async def keep(self, target: Target) -> Served | None:
        """What it serves, to which `undo` may return; None where another was meant."""
        if target.only != self.name:
            return None
        self._before = self._served()
        return self._before

    async def undo(self, target: Target) -> bool:
        """Serve again what was served at `keep`; False where that failed or another was meant."""
        if target.only != self.name or self._before is None:
            return False
        try:
            await self._take_on(Changes.between(self._served(), self._before))
        except QwenkitError as exc:
            logger.error("replica %s can't go back: %s", self.name, exc.message)
            return False
        return True

    async def info(self, target: Target) -> dict[str, Any]:  # noqa: ARG002
        """What a server greets with."""
        model = self._rereader.serving.model
        facts, capabilities = model.engine.facts, model.engine.capabilities
        return {
            "model": model.name,
            "description": facts.description,
            "runtime": facts.runtime,
            "n_ctx": capabilities.n_ctx,
            "n_slots": capabilities.n_slots,
            "has_page": self._app.state.page.is_built,
            "pid": os.getpid(),
            "replica": self.name,
        }

    async def check_health(self) -> None:
        """Whether it serves; Ray Serve replaces one that has raised here a few times.

        Raises:
            NotReady: It has no model.
            EngineStopped: It is shutting down.
        """
        self._rereader.serving.ready_name()
        try:
            await self._catch_up()
        except (QwenkitError, *GONE) as exc:
            logger.warning("replica %s can't take on what was changed: %s", self.name, exc)

    def record_routing_stats(self) -> dict[str, Any]:
        """What the routers know of it."""
        serving = self._rereader.serving
        served = serving.served
        adapters = [each.name for each in serving.adapters]
        own = [] if served is None else [served.model.name, *served.plan.aliases]
        return {
            "models": [*own, *adapters],
            "adapters": adapters,
            "is_home": self._app.state.agent.is_open,
        }

    async def __del__(self) -> None:
        if hasattr(self, "_life"):
            with suppress(Exception):
                await self._ledger.left.remote(self.name)
            await self._app.state.mcp_mount.stop()
            await self._life.__aexit__(None, None, None)

    def _served(self) -> Served:
        rereader = self._rereader
        adapters = {each.name: Path(each.source) for each in rereader.serving.adapters}
        return Served(rereader.plan, adapters)

    async def _catch_up(self) -> None:
        async with self._catching_up:
            changes: Changes = await self._ledger.seen.remote(self.name, self._known)
            if changes.revision <= self._known.revision or self._rereader.reloader.running:
                return
            await self._take_on(changes)
            self._known = changes

    async def _take_on(self, changes: Changes) -> None:
        rereader, before = self._rereader, self._served()
        if changes.plan not in (None, before.plan):
            await rereader.reloader.reload(
                changes.plan,
                mode=ReloadMode.AUTO,
                drain_timeout_s=RELOAD_DRAIN_S,
            )
        for name in changes.unloaded:
            with suppress(UnknownAdapter):
                await rereader.adapters.unload(name)
        now = self._served().adapters
        for name, path in changes.loaded.items():
            if now.get(name) != path:
                await rereader.adapters.load(name, path, replace=True)
