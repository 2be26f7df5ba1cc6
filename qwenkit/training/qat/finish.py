"""Writes what was trained: a file whose every matrix lies on the grid that training saw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwenkit.errors import InvalidSettings
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.training.qat import gguf_model, onnx_model, prepare
from qwenkit.training.qat.scheme import Runtime, SchemeName, find_scheme

_WRITERS = {"llama.cpp": gguf_model.write_model, "onnxruntime": onnx_model.write_model}


@dataclass(frozen=True, slots=True, kw_only=True)
class QatArtefact:
    """What was written.

    Args:
        path: A `.gguf`, or an ONNX folder.
        runtime: What runs it.
        scheme: The grid; None for full precision.
        n_matrices: Matrices on a grid.
        size_bytes: Of the file, or of all files of the folder.
    """

    path: Path
    runtime: Runtime
    scheme: SchemeName | None
    n_matrices: int
    size_bytes: int


def finish_qat(
    model: Any,
    scheme: str,
    *,
    checkpoint: Path,
    target: Path,
    progress: ProgressFactory = silent,
) -> QatArtefact:
    """Merge, and write a model on exactly the grid of a scheme.

    A model that was prepared for it gets the file that it trained for: its forward pass used these
    very numbers. A model that was trained otherwise is quantised after training, on the same grid
    by the same code: what a report compares with.

    Args:
        model: A transformers Qwen3, or PEFT's model around one; it is left as it is.
        scheme: A name in `SCHEMES`.
        checkpoint: The folder that training started from, for configuration and tokenizer.
        target: A `.gguf` file, or for `onnx-int4` a folder; it appears whole or not at all, in the
            place of what was there.
        progress: Told the bytes written, and what an export is at.

    Raises:
        InvalidSettings: No such scheme, the model was prepared for another one, or too little space
            on the disk.
        ModelUnsupported: Weights too large for the grid's scales.
        ModelCorrupt: An export whose blocks are not those of the grid.
        MissingExtra: A package that this takes is not installed.
    """
    chosen = find_scheme(scheme)
    was = prepare.prepared(model)
    if was is not None and was.scheme != chosen:
        raise InvalidSettings(
            f"the model was trained for `{was.scheme.name}`, not for `{chosen.name}`",
            hint=f"write it as {was.scheme.name}",
        )
    n_matrices = _WRITERS[chosen.runtime](
        model, chosen, checkpoint=checkpoint, target=target, progress=progress
    )
    return _artefact(target, chosen.runtime, chosen.name, n_matrices)


def write_full_precision(
    model: Any,
    runtime: Runtime,
    *,
    checkpoint: Path,
    target: Path,
    progress: ProgressFactory = silent,
) -> QatArtefact:
    """Merge, and write a model in float32 for a runtime: what quantised ones are compared with.

    Arguments and errors are those of `finish_qat`.
    """
    _WRITERS[runtime](model, None, checkpoint=checkpoint, target=target, progress=progress)
    return _artefact(target, runtime, None, 0)


def _artefact(
    path: Path, runtime: Runtime, scheme: SchemeName | None, n_matrices: int
) -> QatArtefact:
    return QatArtefact(
        path=path,
        runtime=runtime,
        scheme=scheme,
        n_matrices=n_matrices,
        size_bytes=size_bytes(path),
    )


def size_bytes(path: Path) -> int:
    """Size of a file, or of all files of a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.iterdir())
