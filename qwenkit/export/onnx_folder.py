"""Exports a checkpoint to an ONNX Runtime GenAI folder: whole or not at all.

`export_onnx` is the way through: plan, build, inputs, the files beside the graph, check. What can
be refused is refused before a weight is read.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from qwenkit.adapters.merge import merge_adapter
from qwenkit.errors import InvalidSettings
from qwenkit.export import builder, optimum
from qwenkit.export.check import ExportCheck, check_export, require_close
from qwenkit.export.extras import import_extra
from qwenkit.export.facts import ExportFacts, write_facts
from qwenkit.export.head import add_first_logit
from qwenkit.export.job import GRAPH_NAME, Job
from qwenkit.export.options import ExportOptions, check_options
from qwenkit.export.rope import Context, plan_context, stretched_config
from qwenkit.export.size import export_bytes, scratch_bytes
from qwenkit.export.slots import LoraSlot, add_slots, slots_of
from qwenkit.models import qwen3
from qwenkit.models.atomic import atomic_folder, require_space
from qwenkit.models.checkpoint import TEXT_FILES, read_json
from qwenkit.models.convert import plan_conversion
from qwenkit.models.fingerprint import fingerprint
from qwenkit.models.info import GENAI_CONFIG
from qwenkit.models.progress import ProgressFactory, silent

_WORK = ".work"
_NEEDED = ("torch", "transformers", "onnx", "onnx_ir", "onnxruntime")
_EXPORTERS = {"builder": ("onnxruntime_genai",), "optimum": ("optimum.exporters.onnx",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What was exported.

    Args:
        path: The folder.
        options: As they were asked for.
        n_ctx: Tokens of context.
        yarn_factor: How far YaRN stretches the context; 1 is not at all.
        n_slots: Matrices that take an adapter.
        size_bytes: Size of all files.
        seconds: What it took, the check included.
        check: How far the graph is from transformers; None when that was not asked for.
    """

    path: Path
    options: ExportOptions
    n_ctx: int
    yarn_factor: float
    n_slots: int
    size_bytes: int
    seconds: float
    check: ExportCheck | None


@dataclass(frozen=True, slots=True)
class _Plan:
    """An export that nothing speaks against."""

    checkpoint: Path
    config: qwen3.Qwen3Config
    context: Context
    options: ExportOptions
    slots: list[LoraSlot]


def export_onnx(
    checkpoint: Path,
    target: Path,
    options: ExportOptions,
    *,
    adapter: Path | None = None,
    check: bool = False,
    progress: ProgressFactory = silent,
) -> ExportReport:
    """Export a folder of safetensors.

    Args:
        checkpoint: A dense Qwen3 with its tokenizer.
        target: Folder to write; it appears whole or not at all. An export that is there is replaced
            then, any other folder with something in it is refused.
        options: How.
        adapter: A PEFT folder to merge into the weights first.
        check: Compare the logits with transformers' at the end; what fails leaves no folder.
        progress: Told layers read, matrices quantised, bytes written and prompts checked.

    Raises:
        ModelError: Checkpoint or adapter can't be used, or the result is wrong.
        InvalidSettings: Options that don't go together, or too little space on the disk.
        MissingExtra: A package that exporting takes is not installed.
    """
    started = time.monotonic()
    plan = _plan(checkpoint, target, options, merges=adapter is not None)
    for module in (*_NEEDED, *_EXPORTERS[options.exporter]):
        import_extra(module, exporter=options.exporter)
    with atomic_folder(target.absolute()) as folder:  # "." has no name to work beside
        source = _prepare(plan, folder / _WORK, adapter, progress)
        _build(plan, source, folder, progress)
        _add_inputs(folder, plan)
        _copy_text_files(source, folder)
        facts = ExportFacts(
            options=options,
            source=source_id(checkpoint, adapter),
            context=plan.context,
            slots=plan.slots,
        )
        write_facts(folder, facts)
        found = _check(plan, folder, source, progress) if check else None
        shutil.rmtree(folder / _WORK)
    return ExportReport(
        path=target,
        options=options,
        n_ctx=plan.context.n_ctx,
        yarn_factor=plan.context.yarn_factor,
        n_slots=len(plan.slots),
        size_bytes=sum(path.stat().st_size for path in target.iterdir()),
        seconds=time.monotonic() - started,
        check=found,
    )


def source_id(checkpoint: Path, adapter: Path | None = None, *salt: str) -> str:
    """A short hash that says whether an export would be made of the same weights and texts."""
    return fingerprint((*_source_files(checkpoint), *_source_files(adapter)), *salt)


def _source_files(source: Path | None) -> Iterable[Path]:
    if source is None or not source.is_dir():
        return [source] if source else []
    names = ("config.json", "adapter_config.json", *TEXT_FILES)
    return [
        *(source / name for name in names if (source / name).exists()),
        *source.glob("*.safetensors"),
    ]


def _plan(checkpoint: Path, target: Path, options: ExportOptions, *, merges: bool) -> _Plan:
    check_options(options)
    _check_target(target)
    config = qwen3.parse_config(read_json(checkpoint / "config.json"))
    # Finds what is missing or misshapen among the tensors, and a tokenizer that isn't Qwen's.
    conversion = plan_conversion(checkpoint)
    context = plan_context(config, options.n_ctx)
    slots = slots_of(config) if options.lora else []
    n_bytes = export_bytes(config, context, options)
    n_bytes += scratch_bytes(config, options, merged_bytes=conversion.n_bytes if merges else 0)
    purpose = f"exporting `{checkpoint.resolve().name}`"
    require_space(target.parent, n_bytes, purpose=purpose)
    return _Plan(checkpoint, config, context, options, slots)


def _check_target(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir() or (any(target.iterdir()) and not (target / GENAI_CONFIG).exists()):
        raise InvalidSettings(
            f"`{target}` is there and is no exported model, so it is not replaced",
            hint="name a folder that doesn't exist",
        )


def _prepare(plan: _Plan, work: Path, adapter: Path | None, progress: ProgressFactory) -> Path:
    """The checkpoint as it will be exported: merged, its configuration stretched."""
    (work / "scratch").mkdir(parents=True)
    source, weights = work / "checkpoint", plan.checkpoint
    if adapter is not None:
        weights = work / "merged"
        dtype = "f32" if plan.options.precision == "fp32" else "auto"
        merge_adapter(plan.checkpoint, adapter, weights, dtype=dtype, progress=progress)
    source.mkdir()
    for path in weights.iterdir():
        if path.is_file() and path.name != "config.json":
            (source / path.name).symlink_to(path.resolve())
    config = stretched_config(read_json(weights / "config.json"), plan.context)
    (source / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return source


def _build(plan: _Plan, source: Path, folder: Path, progress: ProgressFactory) -> None:
    job = Job(
        folder=source,
        target=folder,
        scratch=folder / _WORK / "scratch",
        config=plan.config,
        context=plan.context,
        options=plan.options,
        progress=progress,
    )
    (optimum if plan.options.exporter == "optimum" else builder).build(job)


def _add_inputs(folder: Path, plan: _Plan) -> None:
    onnx = import_extra("onnx")
    model = onnx.load(folder / GRAPH_NAME, load_external_data=False)
    half = plan.options.io_dtype == "float16"
    elem_type = onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT
    add_slots(model, plan.slots, elem_type=elem_type)
    add_first_logit(model)
    onnx.save(model, folder / GRAPH_NAME)


def _copy_text_files(source: Path, folder: Path) -> None:
    for name in ("config.json", *TEXT_FILES):
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name)


def _check(plan: _Plan, folder: Path, source: Path, progress: ProgressFactory) -> ExportCheck:
    config = replace(plan.config, n_ctx=plan.context.n_ctx)
    found = check_export(folder, source, config, progress=progress)
    require_close(found, is_fp32=plan.options.precision == "fp32")
    return found
