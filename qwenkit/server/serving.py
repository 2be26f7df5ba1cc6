"""The model behind the routes: absent while it loads, then there until the server stops.

Knows how to load, drain and free a model, and what the settings say about requests; no HTTP.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from qwenkit.chat.completion import ChatModel
from qwenkit.engine.observer import EngineSnapshot, Observer
from qwenkit.errors import EngineStopped, UnknownModel
from qwenkit.server.errors import NotReady
from qwenkit.server.metrics import Metrics

Loader = Callable[[Observer], ChatModel]
"""Loads a model and starts its engine, which reports to the observer; may take minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the settings say about requests.

    Args:
        sse_ping_s: Seconds of silence after which a stream gets a comment.
        thinking_budget: Most thinking tokens where a request names no budget; None is no limit.
    """

    sse_ping_s: float = 15.0
    thinking_budget: int | None = None


class Serving:
    """One model's life in a server: `start`, then requests, `drain`, `close`.

    Args:
        load: Called on a thread of its own by `start`.
        aliases: Names that requests may use beside the model's own.
        limits: For the routes.
    """

    def __init__(self, load: Loader, *, aliases: tuple[str, ...], limits: Limits) -> None:
        self.aliases = aliases
        self.limits = limits
        self.metrics = Metrics(self._snapshot)
        self.created = int(time.time())
        self._load = load
        self._loading: Future[ChatModel] = Future()
        self._stopping = False

    def start(self) -> None:
        """Begin to load."""
        # A daemon, not an executor's thread: a server told to stop must not wait for a download.
        threading.Thread(target=self._run_load, name="qwenkit-load", daemon=True).start()

    def _run_load(self) -> None:
        try:
            self._loading.set_result(self._load(self.metrics))
        except BaseException as exc:  # handed to whoever waits in `loaded`
            self._loading.set_exception(exc)

    async def loaded(self) -> ChatModel:
        """The model, as soon as it is loaded; raises what the loader raised."""
        return await asyncio.shield(asyncio.wrap_future(self._loading))

    @property
    def model(self) -> ChatModel:
        """The loaded model.

        Raises:
            NotReady: It is still loading, or could not be loaded.
            EngineStopped: The server is shutting down.
        """
        if self._stopping:
            raise EngineStopped("the server is shutting down")
        if not self._loading.done():
            raise NotReady("the model is being loaded")
        if self._loading.exception():
            raise NotReady("the model could not be loaded")
        return self._loading.result()

    def named(self, name: str | None) -> ChatModel:
        """The model of a request; None is the one there is.

        Raises:
            UnknownModel: The request names another one.
        """
        model = self.model
        if name is None or name == model.name or name in self.aliases:
            return model
        known = ", ".join(dict.fromkeys((model.name, *self.aliases)))
        raise UnknownModel(f"no model {name!r}; served: {known}", param="model")

    async def drain(self, timeout_s: float) -> None:
        """Take no more requests, and wait for the running ones up to a time."""
        self._stopping = True
        if self._is_loaded():
            await self._loading.result().engine.drain(timeout_s)

    async def close(self) -> None:
        """End what still runs and free the model; one that is still loading, once it is loaded."""
        self._stopping = True
        if self._is_loaded():
            await asyncio.to_thread(self._loading.result().engine.close)
        else:
            self._loading.add_done_callback(_close_late)

    def _is_loaded(self) -> bool:
        return self._loading.done() and self._loading.exception() is None

    def _snapshot(self) -> EngineSnapshot | None:
        return self._loading.result().engine.snapshot() if self._is_loaded() else None


def _close_late(loading: Future[ChatModel]) -> None:
    if loading.exception() is None:
        loading.result().engine.close()


def _serving_of(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


ServingNow = Annotated[Serving, Depends(_serving_of)]
"""A dependency of routes: what the request's server serves."""
