"""What a run leaves: the adapter in three formats, each checked against the others.

No model is exported for it: names and number format of an export's slots follow from the
checkpoint's shape.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from qwenkit.adapters.base import BaseShapes, LoraSlot, base_of_checkpoint, check_fit
from qwenkit.adapters.check import Difference, check_adapter
from qwenkit.adapters.peft import CONFIG_NAME, WEIGHTS_NAME
from qwenkit.adapters.prepare import write_adapter
from qwenkit.adapters.read import read_adapter
from qwenkit.adapters.template_stamp import write_stamp
from qwenkit.export.slots import slots_of
from qwenkit.models import qwen3
from qwenkit.models.atomic import atomic_folder
from qwenkit.models.checkpoint import TEXT_FILES, read_json
from qwenkit.training.checkpoints import folder_bytes
from qwenkit.training.run_folder import RunFolder

_ONLY_MERGED = (
    "a DoRA can't be applied while serving, so no .gguf and no .onnx_adapter is written: merge it"
)
_NO_SLOTS = (
    "a GGUF doesn't tell how its export names slots, so no .onnx_adapter is written: make it by "
    "`qwenkit lora convert`"
)
_NO_ONNX = (
    "onnxruntime is not installed, so no .onnx_adapter is written: pip install 'qwenkit[onnx]', "
    "then `qwenkit lora convert`"
)
_ONLY_JUDGES = "a reward model judges answers and is not served: its adapter is a PEFT folder only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A file or folder that was written.

    Args:
        kind: `peft`, `gguf`, `onnx_adapter`, or `model` after full training.
        path: Where it is.
        size_bytes: Of all its files.
    """

    kind: str
    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a run left.

    Args:
        artefacts: What was written.
        checks: How far two of them are from each other: `gguf` or `onnx_adapter` from `peft`, and
            from each other.
        note: Why formats are missing; empty where none is.
        commands: How to use it.
    """

    artefacts: tuple[Artefact, ...]
    checks: dict[str, Difference]
    note: str
    commands: tuple[str, ...]


def slotted_base(checkpoint: Path) -> BaseShapes:
    """The slots that an export of a checkpoint for the CPU has, without exporting it.

    Raises:
        ModelNotFound: It has no config.json.
        ModelUnsupported: Not a dense Qwen3.
    """
    shapes = base_of_checkpoint(checkpoint)
    config = qwen3.parse_config(read_json(checkpoint / "config.json"))
    slots = {slot.module: LoraSlot(slot.a, slot.b) for slot in slots_of(config)}
    return BaseShapes(shapes.name, shapes.layers, slots, "float32")


def keep_adapter(written: Path, folder: RunFolder, *, base_name: str, template_hash: str) -> None:
    """Take what PEFT saved over: the two files that count, the base's name, the template's hash.

    Args:
        written: What the trainer saved; it is emptied.
        folder: The run's.
        base_name: What the base is called: a Hub id or a path.
        template_hash: Of the chat template that was trained with.
    """
    config = read_json(written / CONFIG_NAME) | {"base_model_name_or_path": base_name}
    with atomic_folder(folder.adapter) as partial:
        (written / WEIGHTS_NAME).rename(partial / WEIGHTS_NAME)
        text = json.dumps(config, indent=2, sort_keys=True)
        (partial / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
        write_stamp(partial, template_hash=template_hash)


def keep_model(written: Path, folder: RunFolder, *, checkpoint: Path) -> None:
    """Take a whole model over: its weights, and the base's texts as they were.

    Args:
        written: What the trainer saved; it is emptied.
        folder: The run's.
        checkpoint: The base.
    """
    with atomic_folder(folder.model) as partial:
        for path in (*written.glob("*.safetensors*"), written / "config.json"):
            path.rename(partial / path.name)
        for name in TEXT_FILES:
            if (checkpoint / name).exists():
                shutil.copyfile(checkpoint / name, partial / name)


def finish_adapter(
    folder: RunFolder, *, base_name: str, checkpoint: Path | None, is_judge: bool
) -> Finished:
    """Write the adapter for both runtimes, read all three back and compare them.

    Args:
        folder: The run's; its PEFT folder is there.
        base_name: What the base is called: a Hub id or a path.
        checkpoint: The base; without one there are no slots to write an .onnx_adapter for.
        is_judge: Whether it is a reward model's, which no runtime serves.

    Raises:
        AdapterUnsupported: A file is off by more than rounding explains.
    """
    peft = _artefact("peft", folder.adapter)
    if is_judge:
        word = shlex.quote(f"rewards=judge:{folder.adapter}")
        commands = (f"qwenkit finetune … --method grpo --set {word}",)
        return Finished(artefacts=(peft,), checks={}, note=_ONLY_JUDGES, commands=commands)
    lora = read_adapter(folder.adapter)
    if lora.is_dora:
        merge = shlex.join(
            ("qwenkit", "lora", "merge", base_name, str(folder.adapter), f"{folder.path}/merged")
        )
        return Finished(artefacts=(peft,), checks={}, note=_ONLY_MERGED, commands=(merge,))
    write_adapter(lora, folder.gguf_adapter, kind="gguf", base=None)
    artefacts = [peft, _artefact("gguf", folder.gguf_adapter)]
    checks = {"gguf from peft": check_adapter(folder.gguf_adapter, lora)}
    note = _why_no_onnx(checkpoint)
    if checkpoint is not None and not note:
        base = slotted_base(checkpoint)
        check_fit(lora, base)
        gguf = read_adapter(folder.gguf_adapter)
        write_adapter(lora, folder.onnx_adapter, kind="onnx", base=base)
        artefacts.append(_artefact("onnx_adapter", folder.onnx_adapter))
        checks["onnx_adapter from peft"] = check_adapter(folder.onnx_adapter, lora, base)
        checks["onnx_adapter from gguf"] = check_adapter(folder.onnx_adapter, gguf, base)
    return Finished(
        artefacts=tuple(artefacts),
        checks=checks,
        note=note,
        commands=tuple(_load_commands(artefacts, folder.path.name, base_name)),
    )


def finish_model(folder: RunFolder) -> Finished:
    """Say how a fully trained model is served."""
    return Finished(
        artefacts=(_artefact("model", folder.model),),
        checks={},
        note="",
        commands=(serve_command(str(folder.model)),),
    )


def serve_command(model: str) -> str:
    """The command that serves a model."""
    return f"qwenkit serve --model {shlex.quote(model)}"


def _why_no_onnx(checkpoint: Path | None) -> str:
    if checkpoint is None:
        return _NO_SLOTS
    return "" if find_spec("onnxruntime") else _NO_ONNX


def _load_commands(artefacts: Sequence[Artefact], name: str, base_name: str) -> Iterator[str]:
    files = {each.kind: shlex.quote(str(each.path)) for each in artefacts}
    serve = serve_command(base_name)
    yield f"qwenkit lora load {shlex.quote(name)} {files['gguf']}"
    yield f"LORA_PATHS={files['gguf']} {serve}"
    if "onnx_adapter" in files:
        yield f"RUNTIME_BACKEND=onnx LORA_PATHS={files['onnx_adapter']} {serve}"


def _artefact(kind: str, path: Path) -> Artefact:
    size = folder_bytes(path) if path.is_dir() else path.stat().st_size
    return Artefact(kind=kind, path=path, size_bytes=size)
