"""LoRA adapters of one engine: which name means which loaded content. Knows no file format.

    load:  source ─▶ prepare (worker thread) ─▶ Backend.load_adapter (engine thread) ─▶ Adapter
    use:   Adapter ─▶ ActiveAdapter ─▶ GenerationRequest.adapter
    free:  nothing refers to an `AdapterVersion` any more ─▶ Backend.unload_adapter

A name is a label on a version, which is its content's hash. Another content under the same name is
another version: cached prefixes are never shared between them, and requests that run keep theirs
until they end, since each request holds on to the version itself.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from qwenkit.adapters.prepare import PreparedAdapter
from qwenkit.engine.request import ActiveAdapter, AdapterVersion
from qwenkit.errors import InvalidSettings, UnknownAdapter

Prepare = Callable[[Path], PreparedAdapter]
"""Checks an adapter against the engine's model and turns it into a file of the runtime's format."""


class AdapterLoader(Protocol):
    """Where adapters are loaded: the engine's loop."""

    def load_adapter(self, version: str, path: Path) -> Future[AdapterVersion]:
        """Load a file of the runtime's format between two steps."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A loaded adapter under its name.

    Args:
        name: What requests call it.
        version: Short hash of its content.
        source: What was loaded: a PEFT folder or an adapter's file.
        rank: Its largest rank.
        alpha: As it was trained with; 0 where that is not known.
        targets: Kinds of matrices it changes (`q_proj`).
        n_params: Numbers in it.
        size_bytes: Size of the file that the runtime loaded.
        loaded_at: When, in seconds since 1970.
        loaded: Keeps it in memory.
        template_hash: Of the chat template that it was trained with; None where that is not known.
    """

    name: str
    version: str
    source: Path
    rank: int
    alpha: float
    targets: tuple[str, ...]
    n_params: int
    size_bytes: int
    loaded_at: float
    loaded: AdapterVersion = field(repr=False, compare=False)
    template_hash: str | None = None

    def at(self, scale: float = 1.0) -> ActiveAdapter:
        """The adapter as a request uses it."""
        return ActiveAdapter(self.loaded, scale)


class AdapterRegistry:
    """The adapters of one engine by their names. Callable from any thread.

    Args:
        loader: Loads and frees them.
        prepare: Readies their files; None where the runtime takes no adapter.
    """

    def __init__(self, loader: AdapterLoader, prepare: Prepare | None) -> None:
        self._loader = loader
        self._prepare = prepare
        self._by_name: dict[str, Adapter] = {}
        self._versions: weakref.WeakValueDictionary[str, AdapterVersion] = (
            weakref.WeakValueDictionary()
        )
        self._lock = threading.Lock()

    async def load(self, name: str, source: Path) -> Adapter:
        """Load an adapter, or give a name that is taken a new content.

        Raises:
            InvalidSettings: The runtime takes no adapters.
            ModelError: The adapter is not there, damaged, or does not fit the model.
            EngineStopped: The engine is shutting down.
        """
        if self._prepare is None:
            raise InvalidSettings(
                "this model takes no adapters",
                hint="an ONNX model must have been exported with LoRA slots",
            )
        prepared = await asyncio.to_thread(self._prepare, source)
        current = self._by_name.get(name)
        if current is not None and current.version == prepared.version:
            template_hash = prepared.template_hash
            return self._put(replace(current, source=source, template_hash=template_hash))
        loaded = self._versions.get(prepared.version) or await self._load(prepared)
        return self._put(_adapter(name, prepared, loaded))

    async def unload(self, name: str) -> Adapter:
        """Take a name away; its content is freed when the last request that uses it has ended.

        Raises:
            UnknownAdapter: There is none of that name.
        """
        with self._lock:
            adapter = self._by_name.pop(name, None)
        if adapter is None:
            raise self._unknown(name)
        return adapter

    def named(self, name: str) -> Adapter:
        """The adapter of that name.

        Raises:
            UnknownAdapter: There is none.
        """
        adapter = self._by_name.get(name)
        if adapter is None:
            raise self._unknown(name)
        return adapter

    def all(self) -> tuple[Adapter, ...]:
        """Every adapter, by name."""
        with self._lock:
            return tuple(self._by_name[name] for name in sorted(self._by_name))

    async def _load(self, prepared: PreparedAdapter) -> AdapterVersion:
        loading = self._loader.load_adapter(prepared.version, prepared.path)
        loaded = await asyncio.wrap_future(loading)
        # Whoever loaded the same content meanwhile was first; this one then frees itself.
        with self._lock:
            return self._versions.setdefault(prepared.version, loaded)

    def _put(self, adapter: Adapter) -> Adapter:
        with self._lock:
            self._by_name[adapter.name] = adapter
        return adapter

    def _unknown(self, name: str) -> UnknownAdapter:
        known = ", ".join(sorted(self._by_name)) or "none"
        return UnknownAdapter(f"no adapter {name!r}; loaded: {known}", param="model")


def _adapter(name: str, prepared: PreparedAdapter, loaded: AdapterVersion) -> Adapter:
    return Adapter(
        name=name,
        version=prepared.version,
        source=prepared.source,
        rank=prepared.rank,
        alpha=prepared.alpha,
        targets=prepared.targets,
        n_params=prepared.n_params,
        size_bytes=prepared.size_bytes,
        loaded_at=time.time(),
        loaded=loaded,
        template_hash=prepared.template_hash,
    )
