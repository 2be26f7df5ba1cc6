"""Finds the model that a command works on, by the settings of where models are and are kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qwenkit.cli import console

if TYPE_CHECKING:
    from qwenkit.models.resolve import ResolvedModel


def find_checkpoint(model: str) -> Path:
    """The folder of safetensors that a path, a Hub id or the demo's name means.

    Raises:
        ModelError: As `resolve_checkpoint` does.
    """
    from qwenkit.models.resolve import resolve_checkpoint
    from qwenkit.settings import Settings

    spec = Settings.load().model_spec()
    return resolve_checkpoint(
        model,
        home=spec.qwenkit_home,
        hub_token=spec.hub_token,
        offline=spec.hub_offline,
        progress=console.progress,
    )


def find_gguf(model: str, *, dtype: str = "auto") -> ResolvedModel:
    """The GGUF that a model is or is converted to.

    Raises:
        ModelError: As `resolve` does.
    """
    from qwenkit.models.resolve import resolve
    from qwenkit.settings import Settings

    spec = Settings.load().model_spec()
    return resolve(
        model,
        home=spec.qwenkit_home,
        dtype=dtype,
        hub_token=spec.hub_token,
        offline=spec.hub_offline,
        progress=console.progress,
    )
