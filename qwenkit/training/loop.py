"""What happens around the steps of a run: metrics, looks at held-out data, checkpoints, stopping.

Called back by a trainer of transformers', whatever the method. It counts by what the trainer says,
and adds no work of its own to a step but where something is due.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwenkit.errors import DecodeFailed, InvalidSettings
from qwenkit.extras import import_extra
from qwenkit.models.atomic import require_space
from qwenkit.training.checkpoints import Checkpoints
from qwenkit.training.evaluate import Evaluation
from qwenkit.training.metrics import HELD_OUT, MetricsLog, Record
from qwenkit.training.options import LoopOptions
from qwenkit.training.processes import Processes
from qwenkit.training.stopping import StopRequest
from qwenkit.training.watching import Standing, Watch

N_TIMES = 10
"""Checkpoints of a run, and looks at held-out data, where nobody said how many."""

_N_RECENT = 20
_TRAINABLE_BYTES = 12
# Sums of TRL's that say of the machine or of padding what is measured better here.
_LEFT_OUT = ("num_tokens", "total_flos", "epoch", "loss", "learning_rate", "grad_norm")


@dataclass(slots=True, kw_only=True)
class Loop:
    """One run, as far as it has come.

    Args:
        options: When what is due.
        processes: Those of the run; the first writes.
        checkpoints: Where they go.
        metrics: Where lines go; None in all processes but the first.
        stop: Whether somebody wants it to stop.
        watch: Shows where the run stands.
        look: Evaluates the model on held-out data; gives None without such data.
        tokens_per_step: On average; None where nobody knows before.
        scales_loss: Whether the trainer skips steps whose gradients are too large for fp16.
        again: The command that goes on with the run.
    """

    options: LoopOptions
    processes: Processes
    checkpoints: Checkpoints
    metrics: MetricsLog | None
    stop: StopRequest
    watch: Watch
    look: Callable[[Any], Evaluation | None]
    tokens_per_step: float | None
    scales_loss: bool
    again: str
    is_stopped: bool = False
    step: int = 0
    n_steps: int = 0
    epoch: float = 0.0
    _tell: Callable[[Standing], None] = lambda _: None
    _shown: ExitStack = field(default_factory=ExitStack)
    _held_out_loss: float | None = None
    _recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_N_RECENT))

    def take_up(self, records: Sequence[Record]) -> None:
        """Stand where a run that has taken all of its steps stood, by its lines of metrics."""
        if records:
            self.step, self.epoch = int(records[-1]["step"]), records[-1]["epoch"]

    def begin(self, step: int, n_steps: int) -> None:
        """Take the time, and begin to show."""
        self.step, self.n_steps = step, n_steps
        self._recent.append((time.perf_counter(), step))
        self._tell = self._shown.enter_context(self.watch(step=step, n_steps=n_steps))

    def end(self) -> None:
        """Show no more."""
        self._tell = lambda _: None
        self._shown.close()

    def after_step(self, state: Any, control: Any, model: Any) -> None:
        """Do, or have the trainer do, what is due after a step.

        Raises:
            InvalidSettings: The disk has no room for the checkpoint that is due.
        """
        self.step, self.epoch = state.global_step, state.epoch
        is_last = self.step >= self.n_steps
        if not is_last and self.processes.any(self.stop.is_made):
            self.is_stopped = control.should_training_stop = True
        every = _interval(self.options.save_every, self.n_steps)
        control.should_save = self.is_stopped or _is_due(every, self.step, is_last)
        if control.should_save:
            self._require_space(model)
        if control.should_save or is_last:
            # The loss is looked at before anything is kept.
            control.should_log = True
        every = _interval(self.options.eval_every, self.n_steps)
        if not self.is_stopped and _is_due(every, self.step, is_last):
            found = self.look(model)
            if found is not None:
                self.record_evaluation(found)

    def after_log(self, logs: Mapping[str, Any]) -> None:
        """Keep a line, and tell where the run stands.

        Raises:
            DecodeFailed: The loss, or the gradient, is no number.
        """
        if "loss" not in logs:
            return
        self._check(logs)
        self._recent.append((time.perf_counter(), self.step))
        if self.metrics is None:
            return
        standing = self._standing(logs["loss"])
        self.metrics.add(self._record(logs, standing))
        self._tell(standing)

    def after_save(self, written: Path) -> None:
        """Make what the trainer wrote a checkpoint, once all processes have written."""
        self.processes.wait()
        if self.processes.is_main:
            self.checkpoints.publish(written, step=self.step)
        self.processes.wait()

    def record_evaluation(self, found: Evaluation) -> None:
        """Keep what was found of held-out data."""
        record: Record = {"step": self.step, "epoch": self.epoch}
        names = ("perplexity", "accuracy", "margin", "reward_accuracy", "reward_margin", "reward")
        for name in names:
            value = getattr(found, name)
            if value is not None:
                record[HELD_OUT + name] = value
        if found.perplexity:
            self._held_out_loss = record[HELD_OUT + "loss"] = math.log(found.perplexity)
        if self.metrics is not None:
            self.metrics.add(record)

    def _check(self, logs: Mapping[str, Any]) -> None:
        norm = logs.get("grad_norm", 0.0)
        if math.isfinite(logs["loss"]) and (self.scales_loss or math.isfinite(norm)):
            return
        what = "gradient" if math.isfinite(logs["loss"]) else "loss"
        raise DecodeFailed(
            f"the {what} at step {self.step} is {norm if what == 'gradient' else logs['loss']}: "
            "training went astray",
            hint="start again with a lower --learning-rate or more --warmup, in bf16 or fp32 "
            "instead of fp16",
        )

    def _require_space(self, model: Any) -> None:
        needed = self.checkpoints.newest_bytes() or _TRAINABLE_BYTES * sum(
            each.numel() for each in model.parameters() if each.requires_grad
        )
        try:
            require_space(self.checkpoints.folder, needed, purpose=f"the checkpoint of {self.step}")
        except InvalidSettings as exc:
            raise InvalidSettings(
                exc.message, hint=f"free some space, then go on: {self.again}"
            ) from exc

    def _standing(self, loss: float) -> Standing:
        (then, first), (now, step) = self._recent[0], self._recent[-1]
        rate = (step - first) / (now - then) if step > first and now > then else None
        tokens = self.tokens_per_step
        return Standing(
            step=self.step,
            n_steps=self.n_steps,
            loss=loss,
            held_out_loss=self._held_out_loss,
            tokens_per_s=rate * tokens if rate and tokens else None,
            eta_s=(self.n_steps - self.step) / rate if rate else None,
        )

    def _record(self, logs: Mapping[str, Any], standing: Standing) -> Record:
        record: Record = {"step": self.step, "epoch": self.epoch}
        for name in ("loss", "learning_rate", "grad_norm"):
            if name in logs and math.isfinite(logs[name]):
                record[name] = logs[name]
        if self.tokens_per_step is not None:
            record["n_tokens"] = round(self.step * self.tokens_per_step)
        if standing.tokens_per_s is not None:
            record["tokens_per_s"] = round(standing.tokens_per_s, 1)
        more = {name: value for name, value in logs.items() if name not in _LEFT_OUT}
        return record | {name: value for name, value in more.items() if _is_number(value)}


def make_callback(loop: Loop) -> Any:
    """What a trainer calls back."""
    transformers = import_extra("transformers", extra="train")

    class Callback(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
            loop.begin(state.global_step, state.max_steps)

        def on_step_end(self, _args: Any, state: Any, control: Any, **more: Any) -> None:
            loop.after_step(state, control, more["model"])

        def on_log(self, _args: Any, _state: Any, _control: Any, **more: Any) -> None:
            loop.after_log(more["logs"])

        def on_save(self, args: Any, state: Any, _control: Any, **_: Any) -> None:
            loop.after_save(Path(args.output_dir, f"checkpoint-{state.global_step}"))

    return Callback()


def _interval(chosen: int | None, n_steps: int) -> int:
    return math.ceil(n_steps / N_TIMES) if chosen is None else chosen


def _is_due(every: int, step: int, is_last: bool) -> bool:
    """At the end all is done anyway, and better."""
    return not is_last and every > 0 and step % every == 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
