"""From a resolved model to an ONNX backend: export where need be, size, choose a way to decode."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from qwenkit.adapters.base import base_of_onnx
from qwenkit.adapters.prepare import prepare_adapter
from qwenkit.backends.base import Backend
from qwenkit.backends.llamacpp.sizing import available_memory
from qwenkit.backends.onnx.facts import OnnxOptions
from qwenkit.backends.onnx.layout import Layout, read_layout
from qwenkit.backends.onnx.runtime import providers
from qwenkit.backends.onnx.sizing import size_onnx
from qwenkit.engine.adapters import Prepare
from qwenkit.errors import InvalidSettings, OutOfMemory
from qwenkit.export.cache import exported_model
from qwenkit.export.options import ExportOptions, Precision
from qwenkit.models import qwen3
from qwenkit.models.checkpoint import read_json
from qwenkit.models.fingerprint import fingerprint
from qwenkit.models.progress import ProgressFactory
from qwenkit.models.resolve import ResolvedModel
from qwenkit.settings import (
    KvType,
    ModelSpec,
    OnnxDecoder,
    OnnxPrecision,
    OnnxProvider,
    RopeScaling,
)

# Weights up to this size are exported as floats: fewer bits would save little and cost much.
_SMALL_BYTES = 2**29
_PRECISIONS: dict[OnnxPrecision, Precision] = {
    OnnxPrecision.FP32: "fp32",
    OnnxPrecision.FP16: "fp16",
    OnnxPrecision.INT8: "int8",
    OnnxPrecision.INT4: "int4",
}


@dataclass(frozen=True, slots=True)
class LoadedOnnx:
    """A backend, and what belongs to it.

    Args:
        backend: Ready to decode.
        model: The model as it was loaded: an ONNX folder.
        prepare_adapter: Readies adapters for it; None where it has no slots for them.
        notes: What the user should know of it.
    """

    backend: Backend
    model: ResolvedModel
    prepare_adapter: Prepare | None
    notes: tuple[str, ...]


def load_onnx(model: ResolvedModel, spec: ModelSpec, progress: ProgressFactory) -> LoadedOnnx:
    """Load an ONNX folder; a folder of safetensors is exported first, once.

    Raises:
        ModelError: The model is damaged or not supported.
        OutOfMemory: It doesn't fit.
        InvalidSettings: The settings contradict each other or the model.
        MissingExtra: A package that serving or exporting takes is not installed.
    """
    _check_spec(spec)
    if model.format == "safetensors":
        model = _exported(model, spec, progress)
    layout = read_layout(model.path)
    sizing = size_onnx(layout, spec, memory_bytes=_memory(spec))
    decoder, reason = _decoder(layout, spec)
    with progress(f"Loading {model.name}", total=None, unit=""):
        backend = _backend(decoder, layout, model.content_id, sizing.options, spec.qwenkit_home)
    notes = (*sizing.notes, *_notes(layout, spec), *([reason] if reason else []))
    preparer = _adapter_preparer(layout, spec.qwenkit_home)
    return LoadedOnnx(backend, model, preparer, notes)


def fits_onnx(model: ResolvedModel, spec: ModelSpec, progress: ProgressFactory) -> bool:
    """Whether the memory that is free now holds a model as large as it may grow.

    Raises:
        ModelError: As `load_onnx` does.
        InvalidSettings: Likewise.
        MissingExtra: Likewise.
    """
    _check_spec(spec)
    if model.format == "safetensors":
        model = _exported(model, spec, progress)
    layout = read_layout(model.path)
    try:
        sizing = size_onnx(layout, spec, memory_bytes=_memory(spec))
    except OutOfMemory:
        return False
    return sizing == size_onnx(layout, spec, memory_bytes=None)


def _check_spec(spec: ModelSpec) -> None:
    """Refuse what no model can be loaded by, before any is looked at."""
    if spec.draft_model_path is not None:
        raise InvalidSettings(
            "DRAFT_MODEL_PATH is for RUNTIME_BACKEND=llama.cpp", hint="leave it empty"
        )
    providers(spec.onnx_provider.value)


def _memory(spec: ModelSpec) -> int | None:
    return None if spec.onnx_provider is OnnxProvider.CUDA else available_memory()


def export_options(checkpoint: Path, spec: ModelSpec) -> ExportOptions:
    """How a checkpoint is exported for serving.

    Raises:
        ModelError: Its config.json can't be used.
        InvalidSettings: The context is longer than the model's and stretching is off.
    """
    config = qwen3.parse_config(read_json(checkpoint / "config.json"))
    native = config.n_ctx if config.rope_scaling else qwen3.native_ctx(config.n_ctx)
    stretches = spec.n_ctx > native
    if stretches and spec.rope_scaling is RopeScaling.NONE:
        raise InvalidSettings(
            f"N_CTX is {spec.n_ctx} and the model's context is {native}",
            hint="set ROPE_SCALING=auto to stretch it by YaRN",
        )
    precision = _PRECISIONS.get(spec.onnx_precision)
    return ExportOptions(
        precision=precision or _suitable_precision(config, spec.onnx_provider),
        provider=spec.onnx_provider.value,
        n_ctx=spec.n_ctx if stretches else None,
    )


def _suitable_precision(config: qwen3.Qwen3Config, provider: OnnxProvider) -> Precision:
    on_cpu = provider is OnnxProvider.CPU
    n_params = sum(math.prod(tensor.shape) for tensor in qwen3.expected_tensors(config))
    if n_params * (4 if on_cpu else 2) > _SMALL_BYTES:
        return "int4"
    return "fp32" if on_cpu else "fp16"


def _exported(model: ResolvedModel, spec: ModelSpec, progress: ProgressFactory) -> ResolvedModel:
    options = export_options(model.path, spec)
    folder = exported_model(
        model.path, name=model.name, home=spec.qwenkit_home, options=options, progress=progress
    )
    files = [path for path in folder.iterdir() if path.is_file()]
    return replace(
        model, path=folder, paths=(folder,), format="onnx", content_id=fingerprint(files)
    )


def _decoder(layout: Layout, spec: ModelSpec) -> tuple[OnnxDecoder, str]:
    """Which decoder, and what to say where it isn't the one that computes answers together."""
    if spec.onnx_decoder is not OnnxDecoder.AUTO:
        return spec.onnx_decoder, ""
    if layout.unknown:
        why = layout.unknown
    elif spec.onnx_provider is OnnxProvider.CUDA:
        why = "that is the path that is known to work on CUDA"
    else:
        return OnnxDecoder.SESSION, ""
    return OnnxDecoder.GENAI, f"answers are computed one after the other, by GenAI: {why}"


def _backend(
    decoder: OnnxDecoder, layout: Layout, content_id: str, options: OnnxOptions, home: Path
) -> Backend:
    if decoder is OnnxDecoder.GENAI:
        from qwenkit.backends.onnx.generator import GeneratorBackend

        return GeneratorBackend(layout, content_id=content_id, options=options, home=home)
    from qwenkit.backends.onnx.session import SessionBackend

    return SessionBackend(layout, content_id=content_id, options=options, home=home)


def _notes(layout: Layout, spec: ModelSpec) -> list[str]:
    notes = []
    if layout.yarn_factor > 1:
        notes.append(
            f"YaRN stretches the context {layout.yarn_factor:g}x; short texts may suffer a little"
        )
    if spec.kv_type not in (KvType.F16, KvType.F32):
        notes.append(
            f"KV_TYPE={spec.kv_type} has no effect: an ONNX model's cache has its graph's format"
        )
    return notes


def _adapter_preparer(layout: Layout, home: Path) -> Prepare | None:
    if not layout.has_slots:
        return None
    base = cache(lambda: base_of_onnx(layout.folder))
    return lambda source: prepare_adapter(source, format="onnx", base=base(), home=home)
