"""Replaces the served model by another, without a request noticing more than a wait.

    side_by_side   load the new one → give it the adapters → `Serving.put`
    drain          make sure of the new one's files → `Serving.pause` → free the old one → load the
                   new one (if that fails, the old one again) → give it the adapters → put
    auto           side by side where memory allows it, else drain

One at a time. Nothing is lost by a failure: whoever asked is told why, and the old model serves on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

from qwenkit.chat.completion import ChatModel
from qwenkit.errors import EngineStopped, OutOfMemory, QwenkitError
from qwenkit.models.progress import ProgressFactory
from qwenkit.server.adapters import Adapters, LeftOut
from qwenkit.server.errors import ReloadRunning
from qwenkit.server.loader import Loader, LoadPlan, Progress, WatchedProgress, load_aside, run_aside
from qwenkit.server.serving import Serving
from qwenkit.settings import ModelSpec, ReloadMode

logger = logging.getLogger(__name__)

Fits: TypeAlias = Callable[[ModelSpec, ProgressFactory], bool]
"""Finds a model's files, fetching and converting what is missing, and says whether the memory that
is free now holds it at its full context."""
T = TypeVar("T")


class Step(StrEnum):
    """What a reload is doing."""

    CHECKING = "checking"
    LOADING = "loading"
    DRAINING = "draining"
    RESTORING = "restoring"
    ADAPTERS = "adapters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A reload that runs.

    Args:
        plan: What is to be served.
        mode: How; `auto` until that is decided.
        step: What it is doing.
        since: When it began, in seconds since 1970.
    """

    plan: LoadPlan
    mode: ReloadMode
    step: Step
    since: float


@dataclass(frozen=True, slots=True)
class LastError:
    """Why the last reload failed, and when, in seconds since 1970."""

    message: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadReport:
    """A reload that went well.

    Args:
        model: The new model.
        mode: How it was done.
        seconds: How long it took.
        left_out: Adapters that do not fit the new model.
    """

    model: ChatModel
    mode: ReloadMode
    seconds: float
    left_out: list[LeftOut]


class Reloader:
    """Loads the first model of a server and every later one.

    Args:
        serving: Gets the models.
        adapters: Go along with them.
        load: Loads a model.
        fits: Tells whether there is room for one.
        show: Shows progress beside the status.

    Attributes:
        plan: What is served, or was last; None before `start`.
        running: What is being loaded, if anything is.
        last_error: Of the last failure.
    """

    def __init__(
        self,
        serving: Serving,
        adapters: Adapters,
        *,
        load: Loader,
        fits: Fits,
        show: ProgressFactory,
    ) -> None:
        self.plan: LoadPlan | None = None
        self.running: Running | None = None
        self.last_error: LastError | None = None
        self._serving = serving
        self._adapters = adapters
        self._load_model = load
        self._fits = fits
        self._progress = WatchedProgress(show)
        self._task: asyncio.Task[Any] | None = None

    @property
    def progress(self) -> Progress | None:
        """How far the running reload's present work is, where that is known."""
        return self._progress.now

    def start(self, plan: LoadPlan) -> None:
        """Begin to load the server's first model; `Serving.loaded` tells how that ends."""
        self.plan = plan
        self._begin(plan, ReloadMode.AUTO, self._first(plan))

    async def reload(
        self, plan: LoadPlan, *, mode: ReloadMode, drain_timeout_s: float
    ) -> ReloadReport:
        """Serve another model from now on; goes on when whoever waits for it leaves.

        Args:
            plan: What to serve.
            mode: How to make room for it.
            drain_timeout_s: Seconds that running answers get to end before one is freed for it.

        Raises:
            ReloadRunning: Another one is at it.
            AnswersRunning: Answers took longer than that; nothing has changed.
            QwenkitError: The model can't be loaded; the old one serves on.
        """
        if self.running is not None:
            raise ReloadRunning("a model is being loaded already", hint="see GET /admin/status")
        task = self._begin(plan, mode, self._reload(plan, mode, drain_timeout_s))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            raise EngineStopped("the server is shutting down") from None

    async def close(self) -> None:
        """Give up on what is being loaded."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})

    def _begin(
        self, plan: LoadPlan, mode: ReloadMode, work: Coroutine[Any, Any, T]
    ) -> asyncio.Task[T]:
        self.running = Running(plan=plan, mode=mode, step=Step.LOADING, since=time.time())
        task = asyncio.create_task(work)
        task.add_done_callback(self._end)
        self._task = task
        return task

    def _end(self, task: asyncio.Task[Any]) -> None:
        self.running = None
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        if not isinstance(error, QwenkitError):
            logger.error("loading a model failed on an internal error", exc_info=error)
        message = error.message if isinstance(error, QwenkitError) else repr(error)
        self.last_error = LastError(message, time.time())
        self._serving.fail(error)

    def _note(self, **changes: Any) -> None:
        if self.running is not None:
            self.running = replace(self.running, **changes)

    async def _first(self, plan: LoadPlan) -> None:
        model = await self._load(plan)
        async with self._adapters.frozen():
            await self._put(model, plan)

    async def _reload(
        self, plan: LoadPlan, mode: ReloadMode, drain_timeout_s: float
    ) -> ReloadReport:
        began = time.perf_counter()
        logger.info("loading %s", plan.spec.model_path or "the demo model")
        try:
            used, left_out = await self._replace(plan, mode, drain_timeout_s)
        except BaseException as exc:
            self._serving.metrics.models.on_reload("failed", time.perf_counter() - began)
            if isinstance(exc, QwenkitError):
                logger.error("the model could not be replaced: %s", exc.message)
            raise
        model = self._serving.model
        seconds = time.perf_counter() - began
        self._serving.metrics.models.on_reload("loaded", seconds)
        logger.info("%s serves after %.1f s", model.name, seconds)
        return ReloadReport(model=model, mode=used, seconds=seconds, left_out=left_out)

    async def _replace(
        self, plan: LoadPlan, mode: ReloadMode, drain_timeout_s: float
    ) -> tuple[ReloadMode, list[LeftOut]]:
        if mode is not ReloadMode.SIDE_BY_SIDE:
            self._note(step=Step.CHECKING)
            fits = await run_aside(lambda: self._fits(plan.spec, self._progress))
            if mode is ReloadMode.AUTO and fits:
                try:
                    return ReloadMode.SIDE_BY_SIDE, await self._beside(plan)
                except OutOfMemory as exc:
                    logger.warning("no room beside the model that serves: %s", exc.message)
            return ReloadMode.DRAIN, await self._instead(plan, drain_timeout_s)
        return ReloadMode.SIDE_BY_SIDE, await self._beside(plan)

    async def _beside(self, plan: LoadPlan) -> list[LeftOut]:
        self._note(mode=ReloadMode.SIDE_BY_SIDE, step=Step.LOADING)
        model = await self._load(plan)
        async with self._adapters.frozen():
            return await self._put(model, plan)

    async def _instead(self, plan: LoadPlan, drain_timeout_s: float) -> list[LeftOut]:
        self._note(mode=ReloadMode.DRAIN, step=Step.DRAINING)
        async with self._adapters.frozen():
            await self._serving.pause(drain_timeout_s, most_waiting=plan.spec.max_queue)
            before = await self._serving.take_out()
            self._note(step=Step.LOADING)
            try:
                return await self._put(await self._load(plan), plan)
            except Exception:
                if before is not None and not self._serving.stopping:
                    await self._restore(before.plan)
                raise

    async def _restore(self, plan: LoadPlan) -> None:
        self._note(step=Step.RESTORING)
        try:
            await self._put(await self._load(plan), plan)
        except QwenkitError as exc:
            logger.critical("the model from before can't be loaded again: %s", exc.message)

    async def _load(self, plan: LoadPlan) -> ChatModel:
        return await load_aside(
            lambda: self._load_model(
                plan.spec,
                name=plan.name,
                progress=self._progress,
                observer=self._serving.metrics.engine,
            )
        )

    async def _put(self, model: ChatModel, plan: LoadPlan) -> list[LeftOut]:
        self._note(step=Step.ADAPTERS)
        try:
            left_out = await self._adapters.give(model, plan)
            self._serving.put(model, plan)
            self.plan = plan
        except BaseException:
            await asyncio.to_thread(model.engine.close)
            raise
        return left_out
