"""A round's training: `qwenkit.training`, told what to learn from and what to begin with.

Few pairs are gone through more often, until there are enough steps to learn anything; how far is
too far the held-out judgements tell afterwards. Chosen answers are imitated besides (`sft_weight`),
since DPO alone may make both answers of a pair less likely, and then the model says neither.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qwenkit.errors import InvalidSettings
from qwenkit.improve.check import Method
from qwenkit.improve.options import ImproveOptions
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.training.finetune import finetune
from qwenkit.training.options import SAMPLES_A_STEP
from qwenkit.training.request import FinetuneReport, FinetuneRequest, Stopped
from qwenkit.training.run_config import RunConfig, make_config
from qwenkit.training.run_folder import RunFolder
from qwenkit.training.watching import Watch, unwatched

ENOUGH_STEPS = 20
MAX_EPOCHS = 20

OWN = ("model", "data", "output", "method", "eval", "thinking", "start", "full", "trainer", "qat")
"""Choices of a training that a round makes itself."""

DEFAULTS: dict[Method, dict[str, Any]] = {"dpo": {"sft_weight": 1.0}, "kto": {}}
"""Of a round, where they are not the training's. A row that can't be learned from is passed over:
one odd answer among the rated ones should not stop the others."""


def training_config(
    choices: Mapping[str, Any],
    options: ImproveOptions,
    *,
    method: Method,
    model: str,
    data: Path,
    n_rows: int,
    output: Path,
    start: Path | None,
) -> RunConfig:
    """All choices of a round's training.

    Args:
        choices: The person's.
        options: The round's.
        method: What is learned by.
        model: What the base is called.
        data: Rows to learn from.
        n_rows: How many there are.
        output: The run's folder.
        start: PEFT folder of the adapter to begin with; None begins anew.

    Raises:
        InvalidSettings: A choice is unknown, wrong, or the round's own.
    """
    for name in choices:
        if name in OWN:
            raise InvalidSettings(
                f"`{name}` is what a round decides itself", hint="qwenkit improve --help"
            )
    return make_config(
        {"skip_bad": True, "overlong": "drop", "n_epochs": n_epochs(n_rows), "eval_every": 0}
        | DEFAULTS[method]
        | dict(choices)
        | {
            "model": model,
            "data": [str(data)],
            "output": output,
            "method": method,
            "thinking": options.thinking,
            "start": start,
        }
    )


def n_epochs(n_rows: int) -> int:
    """How often rows are gone through: three times, or more often if they are few."""
    return max(3, min(MAX_EPOCHS, math.ceil(ENOUGH_STEPS * SAMPLES_A_STEP / max(1, n_rows))))


def train(
    config: RunConfig,
    checkpoint: Path,
    *,
    progress: ProgressFactory = silent,
    watch: Watch = unwatched,
    tell: Callable[[str], None] = lambda _: None,
) -> FinetuneReport | Stopped:
    """Train, or go on with what a killed round began.

    Raises:
        QwenkitError: As `finetune` does.
    """
    folder = RunFolder(config.run.output)
    if folder.path.exists() and not folder.config.exists():
        shutil.rmtree(folder.path)  # it was killed before anything was learned
    request = FinetuneRequest(config=config, checkpoint=checkpoint, resume=folder.path.exists())
    made = finetune(request, progress=progress, watch=watch, tell=tell)
    if made is None:
        raise InvalidSettings(
            "a round trains in one process", hint="start it without accelerate launch"
        )
    return made
