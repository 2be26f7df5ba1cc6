"""Exports that serving makes by itself, kept and found again by what they were made of."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from qwenkit.export.onnx_folder import export_onnx, source_id
from qwenkit.export.options import ExportOptions
from qwenkit.models.atomic import exclusive
from qwenkit.models.info import GENAI_CONFIG
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.models.resolve import EXPORTED

# Part of the key of exported folders: a new number exports everything again.
EXPORTER_VERSION = "2"


def exported_model(
    checkpoint: Path,
    *,
    name: str,
    home: Path,
    options: ExportOptions,
    progress: ProgressFactory = silent,
) -> Path:
    """The ONNX folder of a checkpoint, exported when it isn't there yet.

    Args:
        checkpoint: Folder of safetensors.
        name: What the model is called; part of the folder's name.
        home: Where exports are kept.
        options: How; other options are another folder.
        progress: As in `export_onnx`.

    Raises:
        QwenkitError: As `export_onnx` does.
    """
    target = exported_path(checkpoint, name=name, home=home, options=options)
    if not _is_whole(target):
        with exclusive(target.parent / f".{target.name}"):
            # Another process may have made it while this one waited.
            if not _is_whole(target):
                export_onnx(checkpoint, target, options, progress=progress)
    return target


def exported_path(checkpoint: Path, *, name: str, home: Path, options: ExportOptions) -> Path:
    """Where the export of a checkpoint is or will be."""
    stem = re.sub(r"[^\w.-]", "-", name)
    wanted = json.dumps(asdict(options), sort_keys=True)
    key = source_id(checkpoint, None, wanted, _runtime_version(), EXPORTER_VERSION)
    return home.expanduser() / EXPORTED / f"{stem}-{key}"


def _is_whole(folder: Path) -> bool:
    # A folder appears with all that is in it.
    return (folder / GENAI_CONFIG).exists()


def _runtime_version() -> str:
    try:
        return version("onnxruntime-genai")
    except PackageNotFoundError:
        return ""
