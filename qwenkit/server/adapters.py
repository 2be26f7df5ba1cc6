"""The adapters of a server: which are wanted, under which names. Outlives the models they go with.

    load:   name, path → `AdapterFolders.allowed` → the current engine's registry
    reload: every wanted adapter → the new engine's registry; what does not fit it is left out

The engine knows what is loaded; this knows what should be, so that a new model gets the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from qwenkit.adapters.template_stamp import same_template
from qwenkit.chat.completion import ChatModel
from qwenkit.engine.adapters import Adapter
from qwenkit.errors import InvalidRequest, QwenkitError, UnknownAdapter
from qwenkit.server.adapter_folders import AdapterFolders, FoundAdapter
from qwenkit.server.errors import Conflict, NotReady
from qwenkit.server.loader import LoadPlan
from qwenkit.server.serving import Serving

logger = logging.getLogger(__name__)

MAX_NAME = 256


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An adapter that a model was not given, and why."""

    name: str
    reason: str


class Adapters:
    """Loads adapters into whatever model is served.

    Args:
        serving: The models.
        folders: Where adapters may come from.
    """

    def __init__(self, serving: Serving, folders: AdapterFolders) -> None:
        self.folders = folders
        self._serving = serving
        self._wanted: dict[str, Path] = {}
        self._left_out: dict[str, LeftOut] = {}
        self._warned_of: set[tuple[str, str]] = set()
        self._lock = asyncio.Lock()
        self._measures = serving.metrics.adapters

    def all(self) -> tuple[Adapter, ...]:
        """Every adapter of the current model, by name.

        Raises:
            NotReady: There is no model.
            EngineStopped: The server is shutting down.
        """
        return self._serving.model.engine.adapters.all()

    @property
    def left_out(self) -> list[LeftOut]:
        """Wanted adapters that the current model was not given."""
        return list(self._left_out.values())

    async def load(self, name: str, path: Path, *, replace: bool) -> Adapter:
        """Load an adapter that somebody asked for; content that the name had before is replaced.

        Args:
            name: What requests will call it.
            path: A PEFT folder or an adapter's file.
            replace: Whether the name may stand for an adapter from elsewhere now.

        Raises:
            InvalidRequest: The name can't be one.
            Forbidden: The path is not among those that may be loaded from.
            Conflict: The name is taken.
            ModelError: The adapter is not there, damaged, or does not fit the model.
            NotReady: There is no model.
        """
        source = await asyncio.to_thread(self.folders.allowed, path)
        return await self._load_into_current(name, source, replace=replace)

    async def load_found(self, found: FoundAdapter) -> Adapter:
        """Load an adapter that the settings name; raises as `load` does."""
        return await self._load_into_current(found.name, found.path, replace=False)

    async def _load_into_current(self, name: str, source: Path, *, replace: bool) -> Adapter:
        check_name(name)
        async with self._changing():
            served = self._serving.current
            self._check_free(name, source, served.model, served.plan, replace=replace)
            try:
                with served.lease():
                    adapter = await self._load(name, source, served.model)
            except QwenkitError:
                self._measures.on_event("failed")
                raise
        logger.info("loaded adapter %s, version %s", name, adapter.version)
        return adapter

    def want(self, found: FoundAdapter) -> None:
        """Have an adapter that the settings name loaded together with the next model."""
        check_name(found.name)
        self._wanted[found.name] = found.path

    def leave_out(self, found: FoundAdapter, reason: str) -> None:
        """Have an adapter that the current model can't be given loaded with a later one it fits.

        A name that stands for another adapter, or for another version, goes on standing for it.
        """
        is_loaded = any(adapter.name == found.name for adapter in self._serving.adapters)
        is_free = self.source(found.name) in (None, found.path)
        if can_be_name(found.name) and is_free and not is_loaded:
            self._wanted[found.name] = found.path
            self._left_out[found.name] = LeftOut(found.name, reason)

    async def unload(self, name: str) -> Adapter:
        """Take an adapter away; requests that run with it end with it.

        Raises:
            UnknownAdapter: There is none of that name.
            NotReady: There is no model.
        """
        async with self._changing():
            registry = self._serving.model.engine.adapters
            self._wanted.pop(name, None)
            self._left_out.pop(name, None)
            adapter = await registry.unload(name)
        self._measures.on_event("unloaded")
        logger.info("unloaded adapter %s", name)
        return adapter

    def source(self, name: str) -> Path | None:
        """Where the wanted adapter of a name comes from."""
        return self._wanted.get(name)

    async def give(self, model: ChatModel, plan: LoadPlan) -> list[LeftOut]:
        """Load every wanted adapter into a model; call it inside `frozen`.

        Returns:
            Those that do not fit it. They stay wanted: a later model may take them.
        """
        self._left_out = {}
        for name, source in list(self._wanted.items()):
            try:
                self._check_free(name, source, model, plan, replace=True)
                await self._load(name, source, model)
            except QwenkitError as exc:
                logger.error("adapter %s is left out: %s", name, exc.message)
                self._measures.on_event("left_out")
                self._left_out[name] = LeftOut(name, exc.message)
        return self.left_out

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """Nothing is loaded or unloaded by anyone else while the context is open."""
        async with self._lock:
            yield

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._serving.limits.reload_wait_s):
                await self._lock.acquire()
        except TimeoutError as exc:
            raise NotReady("the model is being replaced, which takes long") from exc
        try:
            yield
        finally:
            self._lock.release()

    async def _load(self, name: str, source: Path, model: ChatModel) -> Adapter:
        adapter = await model.engine.adapters.load(name, source)
        self._wanted[name] = source
        self._left_out.pop(name, None)
        self._serving.adapter_ids.setdefault(name, len(self._serving.adapter_ids))
        self._measures.on_event("loaded")
        self._warn_of_template(adapter, model)
        return adapter

    def _warn_of_template(self, adapter: Adapter, model: ChatModel) -> None:
        occasion = adapter.version, model.template.hash
        if fits_template(adapter, model) is not False or occasion in self._warned_of:
            return
        self._warned_of.add(occasion)
        logger.warning(
            "adapter %s was trained with the chat template %s and %s renders with %s: "
            "it may answer worse than it could",
            adapter.name,
            adapter.template_hash,
            model.name,
            model.template.hash,
        )

    def _check_free(
        self, name: str, source: Path, model: ChatModel, plan: LoadPlan, *, replace: bool
    ) -> None:
        if name == model.name or name in plan.aliases:
            raise Conflict(f"{name!r} is the served model's own name", param="name")
        try:
            taken = model.engine.adapters.named(name).source
        except UnknownAdapter:
            return
        if taken.resolve() != source.resolve() and not replace:
            raise Conflict(
                f"the name {name!r} is taken by `{taken}`",
                param="name",
                hint="unload that one, replace it, or choose another name",
            )


def fits_template(adapter: Adapter, model: ChatModel) -> bool | None:
    """Whether an adapter was trained with the template of a model; None where it doesn't tell."""
    if adapter.template_hash is None:
        return None
    return same_template(adapter.template_hash, model.template.hash)


def can_be_name(name: str) -> bool:
    """Whether a model or an adapter can be called that."""
    return 1 <= len(name) <= MAX_NAME and name == name.strip() and name.isprintable()


def check_name(name: str) -> None:
    """Let only what can be a model's name pass.

    Raises:
        InvalidRequest: It can't be one.
    """
    if not can_be_name(name):
        raise InvalidRequest(
            f"a name has 1 to {MAX_NAME} printable characters, none of them a space at its ends",
            param="name",
        )
