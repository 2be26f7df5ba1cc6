"""A run's folder: what lies where in it, who may write into it, and whether it is the same run.

config.json            every choice, and what model and data they were made for
environment.json       versions and device
metrics.jsonl          a line for each time that something was measured
loss.png               a picture of it
evaluation.json        how good the model was before
checkpoints/step-N/    to go on from
adapter/               PEFT's folder; `model/` after full training
adapter.gguf           the same for llama.cpp
adapter.onnx_adapter   the same for onnxruntime
report.json            what came of it
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from qwenkit.errors import InvalidSettings
from qwenkit.models.atomic import atomic_file
from qwenkit.models.checkpoint import read_json
from qwenkit.models.held import held_folder

FREE = (
    *("keep_checkpoints", "save_every", "log_every", "eval_every", "n_threads"),
    *("margin", "qat_baseline", "model", "data", "eval", "start"),
)
"""Choices that a resumed run may make anew: they don't decide what is learned. Where the base, the
data and the first adapter are is one of them, since what they hold is compared by itself."""


class RunFolder:
    """The folder of one run.

    Args:
        path: Where it is, or will be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.jsonl"
        self.picture = path / "loss.png"
        self.evaluation = path / "evaluation.json"
        self.checkpoints = path / "checkpoints"
        self.adapter = path / "adapter"
        self.model = path / "model"
        self.gguf_adapter = path / "adapter.gguf"
        self.onnx_adapter = path / "adapter.onnx_adapter"
        self.report = path / "report.json"

    @property
    def again(self) -> str:
        """The command that goes on with the run."""
        return f"qwenkit finetune --resume {shlex.quote(str(self.path))}"

    @property
    def weights(self) -> Path:
        """Where what was learned is, or will be."""
        return self.model if self.model.is_dir() else self.adapter

    @property
    def is_trained(self) -> bool:
        """Whether the weights are there, so that only what follows them is missing."""
        return self.weights.is_dir()

    def check_free(self) -> None:
        """Refuse to begin where something is.

        Raises:
            InvalidSettings: Something is, or nothing can be made there.
        """
        if self.path.exists():
            raise InvalidSettings(
                f"`{self.path}` is there already",
                hint=f"go on with it by `{self.again}`, or name another --output",
            )
        above = next(each for each in self.path.absolute().parents if each.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise InvalidSettings(
                f"`{self.path}` can't be made: `{above}` is no folder that can be written to",
                hint="name another --output",
            )

    def check_unfinished(self) -> None:
        """Refuse to go on where there is nothing to go on with.

        Raises:
            InvalidSettings: It is no run, or a finished one.
        """
        self.saved_config()
        if self.report.exists():
            raise InvalidSettings(
                f"`{self.path}` is finished, so there is nothing to go on with",
                hint="name another --output to train anew",
            )

    def check_same(self, record: Mapping[str, Any]) -> None:
        """Refuse to go on with something else.

        Args:
            record: What `config.json` would say.

        Raises:
            InvalidSettings: It says something else.
            ModelCorrupt: It is damaged.
        """
        differences = list(_differences(self.saved_config(), json.loads(_as_json(record))))
        if differences:
            raise InvalidSettings(
                f"`{self.path}` is a run of other choices: {'; '.join(differences)}",
                hint="go on with what it was started with, or name another --output",
            )

    def saved_config(self) -> dict[str, Any]:
        """What `config.json` says.

        Raises:
            InvalidSettings: There is none.
            ModelCorrupt: It is damaged.
        """
        saved = read_json(self.config) if self.config.is_file() else {}
        if not isinstance(saved.get("choices"), dict):
            raise InvalidSettings(
                f"`{self.path}` is no run: it holds no config.json with the choices of one",
                hint="--resume takes the folder that --output named",
            )
        return saved

    @contextmanager
    def interruption_told(self, tell: Callable[[str], None]) -> Iterator[None]:
        """Have whoever interrupts what is done here told how the run goes on, if it has begun."""
        try:
            yield
        except KeyboardInterrupt:
            if self.config.exists():
                tell(f"stopped at once; go on: {self.again}")
            raise

    def held(self) -> AbstractContextManager[None]:
        """Make the folder, and keep others from training in it.

        Raises:
            InvalidSettings: Another process does, or the folder can't be made.
        """
        taken = InvalidSettings(f"another process trains in `{self.path}`")
        return held_folder(self.path, taken=taken)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file of JSON, whole or not at all; paths become text."""
    with atomic_file(path) as partial:
        partial.write_text(_as_json(value) + "\n", encoding="utf-8")


def _as_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, default=str)


def _differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for part in ("choices", "made_for"):
        before, now = saved.get(part, {}), wanted[part]
        for name in sorted(before.keys() | now.keys()):
            if name not in FREE and before.get(name) != now.get(name):
                yield f"{name} was {_shown(before.get(name))} and is {_shown(now.get(name))}"


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
