"""Trains an adapter by llama.cpp: steps of its optimizer on whole matrices, projected onto a rank.

The loop, and nothing of how a step is computed. Everything that the C library would answer with the
end of the process is refused before it is loaded.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from qwenkit.adapters.base import check_fit
from qwenkit.adapters.gguf_adapter import write_gguf_adapter
from qwenkit.adapters.peft_folder import write_peft
from qwenkit.adapters.read import read_adapter
from qwenkit.backends.llamacpp.sizing import available_memory
from qwenkit.errors import DecodeFailed
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.training.native.base import Base, check_fits, gguf_names, open_base
from qwenkit.training.native.change import Projection, add_adapter, project
from qwenkit.training.native.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from qwenkit.training.native.context import TrainingContext
from qwenkit.training.native.memory import require_memory, training_bytes
from qwenkit.training.native.request import (
    EpochResult,
    MatrixShare,
    NativeReport,
    NativeRequest,
    Record,
    check_request,
    samples_of,
)
from qwenkit.training.native.schedule import Schedule
from qwenkit.training.native.windows import Window, make_windows

ADAPTER_NAME = "adapter.gguf"
PEFT_NAME = "adapter"
CHECKPOINTS = "checkpoints"


def train_native(
    request: NativeRequest,
    *,
    progress: ProgressFactory = silent,
    on_record: Callable[[Record], None] = lambda _: None,
) -> NativeReport:
    """Train an adapter.

    An interruption (`KeyboardInterrupt`) ends the run when the window that is computed is through;
    the steps since the newest checkpoint are lost.

    Args:
        request: What to train, on what, and how.
        progress: Told the steps.
        on_record: Told each line of metrics as it comes; after a resume, the earlier ones first.

    Raises:
        InvalidSettings: A setting is out of range, contradicts the model or the data, or the
            checkpoint that is there is of another run.
        ModelError: The base can't be trained, or the adapter to start from doesn't fit.
        OutOfMemory: It wouldn't fit.
        DecodeFailed: Training went astray.
    """
    check_request(request)
    base = open_base(request.model)
    check_fits(base, kinds=request.targets, rank=request.rank, n_ctx=request.n_ctx)
    windows = make_windows(samples_of(request.train), n_ctx=request.n_ctx, n_vocab=base.n_vocab)
    held_out = _held_out(request, base)
    names = gguf_names(base, request.targets)
    n_trained = sum(math.prod(shape) for shape in base.matrices(request.targets).values())
    needed = training_bytes(
        base.header, n_trained=n_trained, n_ctx=request.n_ctx, optimizer=request.optimizer
    )
    require_memory(needed, available_memory(), n_ctx=request.n_ctx)
    with TrainingContext(
        base.path,
        targets=frozenset(names),
        n_ctx=request.n_ctx,
        n_threads=request.n_threads,
        optimizer=request.optimizer,
    ) as context:
        return _Run(request, base, context, names, windows, held_out, on_record).run(progress)


@dataclass(slots=True)
class _Run:
    """One run: where it is and what it has measured."""

    request: NativeRequest
    base: Base
    context: TrainingContext
    names: dict[str, str]
    windows: list[Window]
    held_out: list[Window]
    on_record: Callable[[Record], None]
    step: int = 0
    n_tokens: int = 0
    records: list[Record] = field(default_factory=list)
    matrices: tuple[MatrixShare, ...] = ()

    def run(self, progress: ProgressFactory) -> NativeReport:
        began = time.monotonic()
        self._begin_from_adapter()
        resumed_from = self._resume() if self.request.resume else None
        schedule = self._schedule()
        projection: Projection | None = None
        with progress("Training", total=schedule.n_steps, unit="steps") as advance:
            advance(self.step)
            if not self.step:
                self._measure()
            while self.step < schedule.n_steps:
                projection = self._one_step(schedule)
                advance(1)
        projection = projection or self._project()
        return self._report(projection, resumed_from, time.monotonic() - began)

    def _one_step(self, schedule: Schedule) -> Projection | None:
        """Take a step, and do what is due after it."""
        batch = self._batch(self.step)
        rate = schedule.at(self.step)
        result = self.context.step(
            batch,
            learning_rate=rate,
            n_steps=self.step + 1,
            max_norm=self.request.max_grad_norm,
        )
        if not math.isfinite(result.loss):
            raise DecodeFailed(
                f"training went astray: the loss of step {self.step + 1} is {result.loss}",
                hint="set a lower learning rate",
            )
        self.step += 1
        self.n_tokens += sum(window.n_tokens for window in batch)
        self._record(
            loss=result.loss,
            grad_norm=result.gradient_norm,
            learning_rate=rate,
            n_learned=result.n_learned,
        )
        ends_epoch = self.step % self._steps_an_epoch == 0 or self.step == schedule.n_steps
        projection = self._after_step(ends_epoch=ends_epoch, is_last=self.step == schedule.n_steps)
        every = self.request.save_every
        if ends_epoch if every is None else every and self.step % every == 0:
            self._save()
        return projection

    def _after_step(self, *, ends_epoch: bool, is_last: bool) -> Projection | None:
        every = self.request.project_every
        if is_last and self.request.save_unprojected:
            self.context.save(self.request.save_unprojected)
        if not ends_epoch and not (every and self.step % every == 0):
            return None
        projection = self._project()
        self.matrices = tuple(projection.shares())
        if ends_epoch:
            self._measure(share=projection.share)
        return projection

    def _measure(self, **facts: float) -> None:
        """Record the loss on the held-out samples, where there are any."""
        if self.held_out:
            total = sum(self.context.loss(window) for window in self.held_out)
            self.n_tokens += sum(window.n_tokens for window in self.held_out)
            facts["eval_loss"] = total / sum(window.n_learned for window in self.held_out)
        if facts:
            self._record(**facts)

    def _record(self, **facts: float) -> None:
        epoch = self.step / self._steps_an_epoch
        record: Record = {"step": self.step, "epoch": epoch, **facts}
        self.records.append(record)
        self.on_record(record)

    def _batch(self, step: int) -> Sequence[Window]:
        epoch, place = divmod(step, self._steps_an_epoch)
        order = np.random.default_rng((self.request.seed, epoch)).permutation(len(self.windows))
        size = self.request.batch_size
        return [self.windows[i] for i in order[place * size : (place + 1) * size]]

    @property
    def _steps_an_epoch(self) -> int:
        return -(-len(self.windows) // self.request.batch_size)

    def _schedule(self) -> Schedule:
        n_steps = self.request.n_epochs * self._steps_an_epoch
        n_steps = min(n_steps, self.request.n_steps or n_steps)
        return Schedule(
            peak=self.request.peak_learning_rate,
            n_steps=n_steps,
            n_warmup=math.ceil(self.request.warmup * n_steps),
            shape=self.request.schedule,
        )

    def _project(self) -> Projection:
        return project(self.base, self.context.weights, self.names, self.request.rank)

    def _begin_from_adapter(self) -> None:
        if self.request.start is not None:
            lora = read_adapter(self.request.start)
            check_fit(lora, self.base.shapes)
            add_adapter(self.context.weights, lora)

    def _resume(self) -> int | None:
        state = load_checkpoint(self.request.output / CHECKPOINTS, key=self._key())
        if state is None:
            return None
        for name, array in state.weights.items():
            self.context.weights[name][:] = array
        self.context.restore(dict(state.moments))
        self.step, self.matrices = state.step, state.matrices
        for record in state.records:
            self.records.append(record)
            self.on_record(record)
        return state.step

    def _save(self) -> None:
        if self.request.save_every == 0 or not self.step:
            return
        moments = {name: state.moments for name, state in self.context.states.items()}
        state = TrainingState(
            step=self.step,
            key=self._key(),
            records=self.records,
            matrices=self.matrices,
            weights=self.context.weights,
            moments=moments,
        )
        save_checkpoint(
            self.request.output / CHECKPOINTS, state, keep=self.request.keep_checkpoints
        )

    def _key(self) -> str:
        """Hash of what a step's result depends on."""
        request = self.request
        start = read_adapter(request.start).version() if request.start else ""
        held_out = request.held_out.fingerprint if request.held_out else ""
        facts = (
            request.model.content_id,
            request.train.fingerprint,
            held_out,
            start,
            request.rank,
            request.targets,
            request.optimizer,
            request.peak_learning_rate,
            request.schedule,
            request.warmup,
            request.n_epochs,
            request.n_steps,
            request.n_ctx,
            request.batch_size,
            request.max_grad_norm,
            request.project_every,
            request.seed,
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    def _report(
        self, projection: Projection, resumed_from: int | None, duration_s: float
    ) -> NativeReport:
        request = self.request
        lora = projection.lora(request.output, template_hash=request.train.template_hash)
        epochs = tuple(self._epochs())
        adapter, folder = request.output / ADAPTER_NAME, request.output / PEFT_NAME
        write_gguf_adapter(lora, adapter)
        write_peft(lora, folder, base=request.model.source)
        if request.save_model:
            self.context.save(request.save_model)
        return NativeReport(
            adapter=adapter,
            peft_folder=folder,
            held_out_loss_before=_first_eval_loss(self.records),
            share=epochs[-1].share,
            epochs=epochs,
            matrices=self.matrices,
            records=tuple(self.records),
            n_steps=self.step,
            n_windows=len(self.windows),
            n_tokens=self.n_tokens,
            duration_s=duration_s,
            resumed_from=resumed_from,
        )

    def _epochs(self) -> Iterator[EpochResult]:
        losses: list[tuple[float, float]] = []
        for record in self.records:
            if "loss" in record:
                losses.append((record["loss"], record["n_learned"]))
            elif "share" in record:
                n_learned = sum(n for _, n in losses)
                yield EpochResult(
                    epoch=-(-int(record["step"]) // self._steps_an_epoch),
                    n_steps=int(record["step"]),
                    loss=sum(loss * n for loss, n in losses) / n_learned,
                    held_out_loss=record.get("eval_loss"),
                    share=record["share"],
                )
                losses.clear()


def _held_out(request: NativeRequest, base: Base) -> list[Window]:
    if request.held_out is None:
        return []
    return make_windows(samples_of(request.held_out), n_ctx=request.n_ctx, n_vocab=base.n_vocab)


def _first_eval_loss(records: Sequence[Record]) -> float | None:
    first = records[0] if records else {}
    return first.get("eval_loss") if first.get("step") == 0 else None
