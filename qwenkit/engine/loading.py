"""From a `ModelSpec` to a running engine: find the weights, size the context, load, start."""

from __future__ import annotations

from dataclasses import dataclass

from qwenkit.engine.engine import Engine
from qwenkit.engine.observer import Observer
from qwenkit.errors import InvalidSettings
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.models.resolve import ResolvedModel, resolve
from qwenkit.settings import ModelSpec, RuntimeBackend


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """A running engine, the model it runs, and what the user should know of how it was loaded."""

    engine: Engine
    model: ResolvedModel
    notes: tuple[str, ...]


def load_engine(
    spec: ModelSpec, *, progress: ProgressFactory = silent, observer: Observer | None = None
) -> LoadedEngine:
    """Load a model and start its engine.

    Raises:
        ModelError: The model is not found, damaged, not supported, or not to be had.
        OutOfMemory: It doesn't fit.
        InvalidSettings: The settings contradict each other or the model.
    """
    if spec.runtime_backend is not RuntimeBackend.LLAMA_CPP:
        raise InvalidSettings(
            f"RUNTIME_BACKEND={spec.runtime_backend} is not supported yet",
            hint="set RUNTIME_BACKEND=llama.cpp",
        )
    model = resolve(
        spec.model_path,
        home=spec.qwenkit_home,
        backend=spec.runtime_backend.value,
        dtype=spec.convert_dtype.value,
        hub_token=spec.hub_token,
        offline=spec.hub_offline,
        progress=progress,
    )
    return _load_llamacpp(model, spec, progress, observer)


def _load_llamacpp(
    model: ResolvedModel, spec: ModelSpec, progress: ProgressFactory, observer: Observer | None
) -> LoadedEngine:
    import llama_cpp.llama_cpp as native

    from qwenkit.backends.llamacpp.backend import LlamaBackend
    from qwenkit.backends.llamacpp.sizing import available_memory, size_model
    from qwenkit.models.info import inspect_model

    info = inspect_model(model.path)
    on_gpu = bool(native.llama_supports_gpu_offload()) and spec.n_gpu_layers != 0
    sizing = size_model(info, spec, memory_bytes=None if on_gpu else available_memory())
    with progress("Loading weights", total=100, unit="%") as advance:
        shown = 0

        def report(share: float) -> None:
            nonlocal shown
            advance(int(share * 100) - shown)
            shown = int(share * 100)

        backend = LlamaBackend(
            model.path, content_id=model.content_id, options=sizing.options, on_progress=report
        )
    engine = Engine(
        backend,
        max_queue=spec.max_queue,
        step_latency_s=spec.step_latency_ms / 1000,
        shelf_bytes=spec.cache_ram_mb * 2**20,
        observer=observer,
    )
    return LoadedEngine(engine.start(), model, sizing.notes)
