"""Exports of the demo model, each made once for all tests, and variants of it to export."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file, save_file

from qwenkit.export.onnx_folder import export_onnx
from qwenkit.export.options import ExportOptions
from qwenkit.models.checkpoint import read_json
from qwenkit.models.demo import DEMO_DIR

Variant = Callable[..., Path]
Exported = Callable[..., Path]


@pytest.fixture(scope="session")
def variant(tmp_path_factory: pytest.TempPathFactory) -> Variant:
    """Makes a copy of the demo model with other values in its config.json; tied loses its head."""

    def make(**config: Any) -> Path:
        folder = tmp_path_factory.mktemp("variant")
        for path in DEMO_DIR.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        values = read_json(DEMO_DIR / "config.json") | config
        (folder / "config.json").write_text(json.dumps(values), encoding="utf-8")
        if config.get("tie_word_embeddings"):
            tensors = load_file(folder / "model.safetensors")
            del tensors["lm_head.weight"]
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return make


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Exports a checkpoint, by default the demo model; the same one only once."""
    made: dict[tuple[Path, ExportOptions], Path] = {}

    def export(checkpoint: Path = DEMO_DIR, **options: Any) -> Path:
        wanted = ExportOptions(**options)
        if (checkpoint, wanted) not in made:
            target = tmp_path_factory.mktemp("exported") / "model"
            export_onnx(checkpoint, target, wanted)
            made[checkpoint, wanted] = target
        return made[checkpoint, wanted]

    return export
