"""From a `ModelSpec` to a running engine: find the weights, size the context, load, start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from qwenkit.adapters.base import base_of_gguf
from qwenkit.adapters.prepare import prepare_adapter
from qwenkit.backends.base import Tokenizer
from qwenkit.engine.adapters import Prepare
from qwenkit.engine.draft_model import DraftModel
from qwenkit.engine.engine import Engine
from qwenkit.engine.observer import Observer
from qwenkit.engine.speculation import Drafter, PromptLookup
from qwenkit.errors import OutOfMemory
from qwenkit.models.info import inspect_model
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.models.resolve import ResolvedModel, resolve
from qwenkit.settings import ModelSpec, RopeScaling, RuntimeBackend, Speculation

if TYPE_CHECKING:
    from qwenkit.backends.llamacpp.backend import LlamaBackend
    from qwenkit.backends.llamacpp.context import LlamaOptions
    from qwenkit.backends.llamacpp.sizing import Sizing


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
    load = _load_onnx if spec.runtime_backend is RuntimeBackend.ONNX else _load_llamacpp
    return load(_resolve(spec, progress), spec, progress, observer)


def fits_in_memory(spec: ModelSpec, progress: ProgressFactory = silent) -> bool:
    """Whether the memory that is free now holds a model as large as it may grow.

    Its files and its draft model's are found first; what is missing is fetched and converted, as
    when it is loaded. A GPU's memory is not looked at: there, loading tells.

    Raises:
        ModelError: As `load_engine` does.
        InvalidSettings: Likewise.
    """
    model = _resolve(spec, progress)
    if spec.runtime_backend is RuntimeBackend.ONNX:
        from qwenkit.engine.loading_onnx import fits_onnx

        return fits_onnx(model, spec, progress)
    draft = _resolve_draft(spec, progress)
    if draft is not None:
        inspect_model(draft.path)
    try:
        return _size_llamacpp(model, spec) == _size_llamacpp(model, spec, unlimited=True)
    except OutOfMemory:
        return False


def _resolve(spec: ModelSpec, progress: ProgressFactory) -> ResolvedModel:
    return resolve(
        spec.model_path,
        home=spec.qwenkit_home,
        backend=spec.runtime_backend.value,
        dtype=spec.convert_dtype.value,
        hub_token=spec.hub_token,
        offline=spec.hub_offline,
        progress=progress,
    )


def _resolve_draft(spec: ModelSpec, progress: ProgressFactory) -> ResolvedModel | None:
    if spec.speculation is Speculation.OFF or spec.draft_model_path is None:
        return None
    return _resolve(replace(spec, model_path=spec.draft_model_path), progress)


def _load_llamacpp(
    model: ResolvedModel, spec: ModelSpec, progress: ProgressFactory, observer: Observer | None
) -> LoadedEngine:
    sizing = _size_llamacpp(model, spec)
    backend = _llama_backend(model, sizing.options, progress)
    try:
        drafters = _drafters(spec, sizing.options, backend.tokenizer, progress)
    except BaseException:
        backend.close()
        raise
    engine = Engine(
        backend,
        max_queue=spec.max_queue,
        step_latency_s=spec.step_latency_ms / 1000,
        shelf_bytes=spec.cache_ram_mb * 2**20,
        prepare_adapter=_adapter_preparer(model.path, spec.qwenkit_home),
        drafters=drafters,
        observer=observer,
    )
    return LoadedEngine(engine.start(), model, sizing.notes)


def _load_onnx(
    model: ResolvedModel, spec: ModelSpec, progress: ProgressFactory, observer: Observer | None
) -> LoadedEngine:
    from qwenkit.engine.loading_onnx import load_onnx

    loaded = load_onnx(model, spec, progress)
    engine = Engine(
        loaded.backend,
        max_queue=spec.max_queue,
        step_latency_s=spec.step_latency_ms / 1000,
        shelf_bytes=spec.cache_ram_mb * 2**20,
        prepare_adapter=loaded.prepare_adapter,
        drafters=() if spec.speculation is Speculation.OFF else (PromptLookup(),),
        observer=observer,
    )
    return LoadedEngine(engine.start(), loaded.model, loaded.notes)


def _adapter_preparer(path: Path, home: Path) -> Prepare:
    # Read when the first adapter comes: models of other kinds are served too.
    base = cache(lambda: base_of_gguf(path))
    return lambda source: prepare_adapter(source, format="gguf", base=base(), home=home)


def _size_llamacpp(model: ResolvedModel, spec: ModelSpec, *, unlimited: bool = False) -> Sizing:
    import llama_cpp.llama_cpp as native

    from qwenkit.backends.llamacpp.sizing import available_memory, size_model

    on_gpu = bool(native.llama_supports_gpu_offload()) and spec.n_gpu_layers != 0
    memory_bytes = None if on_gpu or unlimited else available_memory()
    return size_model(inspect_model(model.path), spec, memory_bytes=memory_bytes)


def _llama_backend(
    model: ResolvedModel, options: LlamaOptions, progress: ProgressFactory
) -> LlamaBackend:
    from qwenkit.backends.llamacpp.backend import LlamaBackend

    with progress(f"Loading {model.name}", total=100, unit="%") as advance:
        shown = 0

        def report(share: float) -> None:
            nonlocal shown
            advance(int(share * 100) - shown)
            shown = int(share * 100)

        return LlamaBackend(
            model.path, content_id=model.content_id, options=options, on_progress=report
        )


def _drafters(
    spec: ModelSpec, options: LlamaOptions, vocabulary: Tokenizer, progress: ProgressFactory
) -> tuple[Drafter, ...]:
    """What guesses for the model: its prompt, and a small model where one is named."""
    if spec.speculation is Speculation.OFF:
        return ()
    small = _resolve_draft(spec, progress)
    if small is None:
        return (PromptLookup(),)
    small_spec = replace(spec, n_ctx=options.n_ctx, rope_scaling=RopeScaling.AUTO)
    backend = _llama_backend(small, _size_llamacpp(small, small_spec).options, progress)
    try:
        return (PromptLookup(), DraftModel(backend, vocabulary))
    except BaseException:
        backend.close()
        raise
