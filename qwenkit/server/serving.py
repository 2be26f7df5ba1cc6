"""Which model a request gets, from the first load to the server's end. Knows leases; no HTTP.

    a request  → `lease`: the current model, bound to the request until its last byte is sent
    a new model beside the old   → `put`: later requests get it; the old one is freed when idle
    a new model instead of it    → `pause`: running requests end, later ones wait at the door
                                   (as many as fit the new one's queue)
                                 → the old one is freed, the new one loaded
                                 → `put`: whoever waited goes on with it

How models are loaded and why they are replaced is `reload.py`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import Depends, Request

from qwenkit.chat.completion import ChatModel
from qwenkit.engine.adapters import Adapter
from qwenkit.engine.observer import EngineSnapshot
from qwenkit.errors import EngineBusy, EngineStopped, UnknownAdapter, UnknownModel
from qwenkit.server.disconnect import unless_disconnected
from qwenkit.server.errors import LOADING_RETRY_S, AnswersRunning, NotReady
from qwenkit.server.loader import LoadPlan
from qwenkit.server.metrics import Metrics
from qwenkit.server.metrics.models import Served
from qwenkit.server.served import ServedModel

State: TypeAlias = Literal["loading", "ready", "replacing", "failed", "stopping"]
Wait: TypeAlias = Callable[[Coroutine[Any, Any, None]], Awaitable[None]]


def _undisturbed(waiting: Coroutine[Any, Any, None]) -> Awaitable[None]:
    return waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the settings say about requests.

    Args:
        sse_ping_s: Seconds of silence after which a stream gets a comment.
        thinking_budget: Most thinking tokens where a request names no budget; None is no limit.
        reload_wait_s: Seconds that a request waits for a model that is being replaced.
    """

    sse_ping_s: float = 15.0
    thinking_budget: int | None = None
    reload_wait_s: float = 600.0


class Serving:
    """The models of one server: the current one, and older ones that still have requests.

    Belongs to the event loop, as all of the server does.

    Args:
        limits: For the routes.

    Attributes:
        n_waiting: Requests at the door.
    """

    def __init__(self, *, limits: Limits) -> None:
        self.limits = limits
        self.metrics = Metrics(self._snapshot, self._now, lambda: self.adapters)
        self.adapter_ids: dict[str, int] = {}
        self._current: ServedModel | None = None
        self._retired: dict[ServedModel, asyncio.Task[None]] = {}
        self._first: Future[None] = Future()
        self._open = asyncio.Event()
        self._open.set()
        self.n_waiting = self._most_waiting = 0
        self._stopping = False
        self._last_name = ""
        self._n_gone = (0, 0, 0)

    async def loaded(self) -> ChatModel:
        """The model, as soon as the first one is there; raises what kept it from being loaded."""
        await asyncio.shield(asyncio.wrap_future(self._first))
        return self.model

    @property
    def current(self) -> ServedModel:
        """What new requests get.

        Raises:
            NotReady: It is still loading, or could not be loaded.
            EngineStopped: The server is shutting down.
        """
        if self._stopping:
            raise EngineStopped("the server is shutting down")
        if self._current is None:
            failed = self._first.done()
            raise NotReady(f"the model {'could not be' if failed else 'is being'} loaded")
        return self._current

    @property
    def model(self) -> ChatModel:
        """The current model; raises as `current` does."""
        return self.current.model

    @property
    def served(self) -> ServedModel | None:
        """What new requests get, if there is anything."""
        return self._current

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """Every adapter of the current model, by name."""
        return () if self._current is None else self._current.model.engine.adapters.all()

    @property
    def state(self) -> State:
        """What the server is doing."""
        if self._stopping:
            return "stopping"
        if self.paused:
            return "replacing"
        if self._current is not None:
            return "ready"
        return "failed" if self._first.done() else "loading"

    @property
    def stopping(self) -> bool:
        """Whether the server is shutting down."""
        return self._stopping

    @property
    def retired(self) -> tuple[ServedModel, ...]:
        """Older models that still have requests."""
        return tuple(self._retired)

    @property
    def paused(self) -> bool:
        """Whether requests wait for a new model."""
        return not self._open.is_set()

    def ready_name(self) -> str:
        """The model's name if requests are taken, be it that they wait for a new model.

        Raises:
            NotReady: There is none.
            EngineStopped: The server is shutting down.
        """
        return self._last_name if self.paused else self.model.name

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A place at the door, while `paused`.

        Raises:
            EngineBusy: All are taken.
        """
        if self.n_waiting >= self._most_waiting:
            raise EngineBusy(
                f"the model is being replaced, and {self.n_waiting} requests wait for the new one",
                retry_after_s=LOADING_RETRY_S,
                hint="try again later, or serve with a larger MAX_QUEUE",
            )
        self.n_waiting += 1
        try:
            yield
        finally:
            self.n_waiting -= 1

    async def reopened(self) -> None:
        """Return when requests need not wait any more.

        Raises:
            NotReady: That takes too long.
        """
        try:
            async with asyncio.timeout(self.limits.reload_wait_s):
                await self._open.wait()
        except TimeoutError as exc:
            raise NotReady("the model is being replaced, which takes long") from exc

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """Bind a request to the current model; only while not `paused`.

        Raises:
            NotReady: There is none.
            EngineStopped: The server is shutting down.
        """
        served = self.current
        with served.lease():
            yield Lease(served, self.limits, self.adapter_ids)

    @asynccontextmanager
    async def lease_when_open(self, wait: Wait = _undisturbed) -> AsyncIterator[Lease]:
        """Bind a request to the current model, after waiting at the door where it is `paused`.

        Args:
            wait: Runs the waiting, and may give it up.

        Raises:
            EngineBusy: All places at the door are taken.
            NotReady: There is no model, or waiting takes too long.
            EngineStopped: The server is shutting down.
        """
        if self.paused:
            with self.waiting():
                while self.paused:
                    await wait(self.reopened())
        with self.lease() as lease:
            yield lease

    def put(self, model: ChatModel, plan: LoadPlan) -> None:
        """Give a model to all later requests; the one before is freed when its last one ends.

        Raises:
            EngineStopped: The server is shutting down; the model is still the caller's.
        """
        if self._stopping:
            raise EngineStopped("the server is shutting down")
        before, self._current = self._current, ServedModel(model, plan)
        self._last_name = model.name
        if before is not None:
            self._retired[before] = asyncio.create_task(self._free_when_idle(before))
        if not self._first.done():
            self._first.set_result(None)
        self._open.set()

    def fail(self, error: BaseException) -> None:
        """Tell whoever waits that there is no model and will be none."""
        if not self._first.done():
            self._first.set_exception(error)
        self._open.set()

    async def pause(self, timeout_s: float, *, most_waiting: int) -> None:
        """Let nobody in and wait until no request runs.

        Args:
            timeout_s: Seconds that they get to end.
            most_waiting: Requests that may wait at the door meanwhile; more would find no place
                in the new model's queue.

        Raises:
            AnswersRunning: Some take longer; then everything goes on as before.
        """
        self._open.clear()
        self._most_waiting = most_waiting
        try:
            async with asyncio.timeout(timeout_s):
                for served in self._all():
                    await served.wait_idle()
        except BaseException as exc:
            self._open.set()
            if not isinstance(exc, TimeoutError):
                raise
            raise AnswersRunning(
                f"answers still run after {timeout_s:g} s; the model stays as it is",
                hint="wait longer (drain_timeout_s), or load side by side",
            ) from exc

    async def take_out(self) -> ServedModel | None:
        """Free every model while paused; returns what the current one was."""
        served, self._current = self._current, None
        await asyncio.gather(*self._retired.values())
        if served is not None:
            await self._free(served)
        return served

    async def drain(self, timeout_s: float) -> None:
        """Take no more requests, and wait for the running ones up to a time."""
        self._stop()
        await asyncio.gather(*(each.model.engine.drain(timeout_s) for each in self._all()))

    async def close(self) -> None:
        """End what still runs and free every model."""
        self._stop()
        await asyncio.gather(*(each.free() for each in self._all()))
        for waiting in self._retired.values():
            waiting.cancel()

    def _stop(self) -> None:
        self._stopping = True
        self._open.set()

    def _all(self) -> list[ServedModel]:
        return [*self._retired, *([self._current] if self._current is not None else [])]

    async def _free_when_idle(self, served: ServedModel) -> None:
        await served.wait_idle()
        await self._free(served)
        del self._retired[served]

    async def _free(self, served: ServedModel) -> None:
        last = served.model.engine.snapshot()
        await served.free()
        preempted, evicted, restored = self._n_gone
        self._n_gone = (
            preempted + last.n_preempted,
            evicted + last.n_evicted,
            restored + last.n_restored,
        )

    def _snapshot(self) -> EngineSnapshot | None:
        """The current engine's, but with what all engines together have counted."""
        if self._current is None:
            return None
        every = [served.model.engine.snapshot() for served in self._all()]
        preempted, evicted, restored = self._n_gone
        return replace(
            every[-1],
            n_preempted=preempted + sum(each.n_preempted for each in every),
            n_evicted=evicted + sum(each.n_evicted for each in every),
            n_restored=restored + sum(each.n_restored for each in every),
        )

    def _now(self) -> Served:
        served = self._current
        return Served(
            model=None if served is None else served.model,
            is_ready=self.state in ("ready", "replacing"),
            n_waiting=self.n_waiting,
            n_retired=len(self._retired),
        )


class Lease:
    """What one request may use, whatever happens to the server's model meanwhile.

    Args:
        served: The model it is bound to.
        limits: For the routes.
        adapter_ids: Numbers of adapters by their names.
    """

    def __init__(self, served: ServedModel, limits: Limits, adapter_ids: dict[str, int]) -> None:
        self.model = served.model
        self.aliases = served.plan.aliases
        self.created = int(served.since)
        self.limits = limits
        self._adapter_ids = adapter_ids

    @property
    def adapters(self) -> tuple[Adapter, ...]:
        """Every adapter of the model, by name."""
        return self.model.engine.adapters.all()

    def named(self, name: str | None) -> ChatModel:
        """The model of a name, which may be an adapter's; without a name it is the model itself.

        Editors that know no name send an empty one.

        Raises:
            UnknownModel: There is none of that name.
        """
        if not name or name == self.model.name or name in self.aliases:
            return self.model
        with suppress(UnknownAdapter):
            return self.model.with_adapter(self.adapter(name))
        adapters = (adapter.name for adapter in self.adapters)
        known = ", ".join(dict.fromkeys((self.model.name, *self.aliases, *adapters)))
        raise UnknownModel(f"no model {name!r}; served: {known}", param="model")

    def adapter(self, name: str) -> Adapter:
        """The adapter of that name.

        Raises:
            UnknownAdapter: There is none.
        """
        return self.model.engine.adapters.named(name)

    def adapter_id(self, adapter: Adapter) -> int:
        """The number of an adapter; a name keeps its number as long as the server runs."""
        return self._adapter_ids[adapter.name]


def server_of(request: Request) -> Serving:
    """What the request's server serves."""
    serving: Serving = request.app.state.serving
    return serving


async def _lease_of(request: Request) -> AsyncIterator[Lease]:
    wait = partial(unless_disconnected, request)
    # FastAPI leaves this context when the response has been sent, streams included.
    async with server_of(request).lease_when_open(wait) as lease:
        yield lease


ServingNow = Annotated[Lease, Depends(_lease_of)]
"""A dependency of routes: what the server serves, held until the answer has been sent."""

Server = Annotated[Serving, Depends(server_of)]
"""A dependency of routes that need no model: the server's models as they come and go."""
