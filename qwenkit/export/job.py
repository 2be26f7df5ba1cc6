"""What an exporter is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qwenkit.export.options import ExportOptions
from qwenkit.export.rope import Context
from qwenkit.models.progress import ProgressFactory
from qwenkit.models.qwen3 import Qwen3Config

GRAPH_NAME = "model.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One graph to make.

    Args:
        folder: Checkpoint whose `config.json` says what the graph computes.
        target: Folder for the graph, its weights and `genai_config.json`.
        scratch: An empty folder for whatever is in the way.
        config: The checkpoint's configuration before its context was planned.
        context: What was planned.
        options: How.
        progress: Told how far it is.
    """

    folder: Path
    target: Path
    scratch: Path
    config: Qwen3Config
    context: Context
    options: ExportOptions
    progress: ProgressFactory
