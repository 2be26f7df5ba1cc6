"""Keeps the loaded adapters in step with LORA_PATHS: at the start, on demand, and as files change.

What can't be loaded is logged once and tried again when its files change, and with every new model,
which it may fit. A folder that is still
being copied changes from look to look and is left alone until it does not. Files are looked at
from time to time, which network drives and mounts from outside a container allow too.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from qwenkit.errors import EngineStopped, QwenkitError, UnknownAdapter
from qwenkit.server.adapter_folders import FoundAdapter
from qwenkit.server.adapters import Adapters
from qwenkit.server.errors import NotReady

logger = logging.getLogger(__name__)

WATCH_INTERVAL_S = 1.0


class LoraPaths:
    """The adapters that the settings name.

    Args:
        adapters: Loads and unloads them.
        interval_s: Seconds between two looks while watching.
    """

    def __init__(self, adapters: Adapters, *, interval_s: float = WATCH_INTERVAL_S) -> None:
        self._adapters = adapters
        self._interval_s = interval_s
        self._watching: asyncio.Task[None] | None = None
        self._handled: dict[str, FoundAdapter] = {}
        self._settling: dict[str, FoundAdapter] = {}
        # The watch and a changed setting may both look at the same time.
        self._lock = asyncio.Lock()

    async def begin(self) -> None:
        """Have what is there now loaded together with the first model."""
        for found in (await self._find()).values():
            try:
                self._adapters.want(found)
            except QwenkitError as exc:
                _log_failure(found, exc)
            self._handle(found)

    async def sync(self, *, settled_only: bool = False) -> None:
        """Load what is new or has changed, and unload what is gone.

        Args:
            settled_only: Wait with what has changed since the last time this was called.
        """
        async with self._lock:
            await self._sync(settled_only)

    async def _sync(self, settled_only: bool) -> None:
        found = await self._find()
        for name, before in list(self._handled.items()):
            if name not in found or found[name].path != before.path:
                await self._drop(before)
        for each in found.values():
            if self._handled.get(each.name) == each:
                continue
            if settled_only and self._settling.get(each.name) != each:
                self._settling[each.name] = each
                continue
            await self._load(each)

    def keep_watching(self, wanted: bool) -> None:
        """Keep in step from now on, or leave it."""
        if wanted and self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        elif not wanted and self._watching is not None:
            self._watching.cancel()
            self._watching = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self.sync(settled_only=True)
            except Exception:
                # A bug must not end the watch in silence.
                logger.exception("looking for adapters failed on an internal error")

    async def _find(self) -> dict[str, FoundAdapter]:
        found = await asyncio.to_thread(self._adapters.folders.find)
        return {each.name: each for each in found}

    async def _load(self, found: FoundAdapter) -> None:
        try:
            await self._adapters.load_found(found)
        except (NotReady, EngineStopped):  # there is no model at this moment
            return
        except QwenkitError as exc:
            _log_failure(found, exc)
            self._adapters.leave_out(found, exc.message)
        self._handle(found)

    def _handle(self, found: FoundAdapter) -> None:
        self._handled[found.name] = found
        self._settling.pop(found.name, None)
        for other in found.hides:
            logger.error(
                "`%s` is not loaded: the name %s is taken by `%s`", other, found.name, found.path
            )

    async def _drop(self, gone: FoundAdapter) -> None:
        try:
            # Somebody may have unloaded it or given its name to another one meanwhile.
            if self._adapters.source(gone.name) == gone.path:
                with suppress(UnknownAdapter):
                    await self._adapters.unload(gone.name)
        except (NotReady, EngineStopped):
            return
        del self._handled[gone.name]


def _log_failure(found: FoundAdapter, exc: QwenkitError) -> None:
    logger.error("adapter `%s` is not loaded: %s", found.path, exc.message)
