"""One session of a run: from its start, or from its newest checkpoint, to its end or a stop.

What happens around single steps is in `loop`, what is left at the end in `finish`, and what is said
of it in `outcome`.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from qwenkit.adapters.read import read_adapter
from qwenkit.errors import InvalidSettings, QwenkitError
from qwenkit.extras import import_extra
from qwenkit.models.checkpoint import read_json
from qwenkit.models.fingerprint import fingerprint
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.training import base_model
from qwenkit.training.arguments import trainer_arguments
from qwenkit.training.checkpoints import Checkpoints
from qwenkit.training.data.packing import packed_row_lengths
from qwenkit.training.environment import describe_environment, describe_torch
from qwenkit.training.evaluate import Evaluation
from qwenkit.training.finish import (
    Finished,
    finish_adapter,
    finish_model,
    keep_adapter,
    keep_model,
)
from qwenkit.training.inputs import read_inputs
from qwenkit.training.job import Job
from qwenkit.training.loop import Loop, make_callback
from qwenkit.training.metrics import MetricsLog, cut_back, cut_last_look, read_metrics
from qwenkit.training.outcome import Learned, draw_metrics, make_report, stopped
from qwenkit.training.processes import Processes
from qwenkit.training.qat.prepare import prepare_qat
from qwenkit.training.qat_run import (
    QatOutcome,
    check_held_out,
    check_qat,
    finish_qat_run,
)
from qwenkit.training.quiet import PACKAGES
from qwenkit.training.request import FinetuneReport, FinetuneRequest, Stopped
from qwenkit.training.run_config import NativeOptions, RunConfig
from qwenkit.training.run_folder import RunFolder, write_json
from qwenkit.training.stopping import StopRequest, stop_on_signals
from qwenkit.training.trainers import make_trainer
from qwenkit.training.watching import Watch


class Session:
    """One session.

    Args:
        request: What to train.
        processes: Those of the run.
        progress: Told of reading, evaluating and writing.
        watch: Shows the steps.
        tell: Told what a person should know at once.

    Raises:
        InvalidSettings: Choices that the device or the data can't follow; the folder is there
            already; or what is resumed is another run.
        InvalidData: Rows can't be learned from.
    """

    def __init__(
        self,
        request: FinetuneRequest,
        processes: Processes,
        *,
        progress: ProgressFactory,
        watch: Watch,
        tell: Callable[[str], None],
    ) -> None:
        if isinstance(request.config.own, NativeOptions):
            raise InvalidSettings("these choices are of --trainer llama.cpp")
        self._own = request.config.own
        self._request = request
        self._config = config = request.config
        self._processes = processes
        self._progress = progress
        self._watch = watch
        self._tell = tell
        self._precision = base_model.choose_precision(config.loop.precision, processes.device)
        if config.lora.qlora:
            base_model.check_qlora(processes.device)
        if config.lora.start is not None:
            base_model.check_start(config.lora.start, request.checkpoint)
        _check_whole(config, processes)
        check_qat(config.run)
        self._folder = RunFolder(config.run.output)
        self._checkpoints = Checkpoints(self._folder.checkpoints, keep=config.loop.keep_checkpoints)
        if request.resume:
            self._folder.check_unfinished()
        else:
            self._folder.check_free()
        self._train, self._held_out = read_inputs(config, request.checkpoint, progress=progress)
        if config.run.qat is not None:
            check_held_out(self._held_out)
        self._record = self._describe()
        if request.resume:
            self._folder.check_same(self._record)

    def run(self) -> FinetuneReport | Stopped | None:
        """Train to the end, or until asked to stop.

        Raises:
            InvalidSettings: Options, data and LoRA don't go together, or the disk is full.
            ModelError: The base can't be trained.
            DecodeFailed: Training went astray.
        """
        self._processes.wait()  # nobody makes the folder while another still looks for it
        model = self._load_base()
        with self._folder.held() if self._processes.is_main else nullcontext():
            start = self._begin()
            trainer = self._make_trainer(model)
            learned = self._learn(trainer, start)
            if not self._processes.is_main:
                return None
            draw_metrics(self._request, self._folder, n_samples=len(self._train.samples))
            if learned.loop.is_stopped:
                return stopped(self._request, learned)
            return make_report(
                self._request,
                self._folder,
                learned,
                train=self._train,
                finished=self._finished(),
                qat=self._finish_qat(trainer.model),
            )

    def _describe(self) -> dict[str, Any]:
        """What `config.json` says."""
        return {
            "choices": self._config.choices(),
            "made_for": {
                "base": fingerprint(self._request.checkpoint.glob("*.safetensors")),
                "start_version": self._start_version(),
                "train": self._train.fingerprint,
                "held_out": self._held_out.fingerprint if self._held_out else None,
                "template": self._train.template_hash,
                "precision": self._precision,
                "n_processes": self._processes.n,
            },
        }

    def _start_version(self) -> str | None:
        start = self._config.lora.start
        return None if start is None else read_adapter(start).version()

    def _begin(self) -> _Start:
        """Make the folder what it should be."""
        start = _Start(*(self._checkpoints.newest() or (0, None)))
        if self._processes.is_main:
            self._checkpoints.clear_work()
            if self._folder.is_trained:
                cut_last_look(self._folder.metrics)
            else:
                cut_back(self._folder.metrics, step=start.step)
            facts = describe_environment(PACKAGES) | describe_torch(self._processes)
            write_json(self._folder.environment, facts)
            write_json(self._folder.config, self._record)
        self._processes.wait()
        return start

    def _load_base(self) -> Any:
        config = self._config
        if config.loop.n_threads is not None:
            import_extra("torch", extra="train").set_num_threads(config.loop.n_threads)
        model = base_model.load_base(
            self._request.checkpoint,
            config.lora,
            precision=self._precision,
            device=self._processes.device,
        )
        base_model.check_dora(model, config.lora)
        return model

    def _make_trainer(self, model: Any) -> Any:
        config, device = self._config, self._processes.device
        base = self._request.checkpoint
        job = Job(
            model=model,
            checkpoint=base,
            peft_config=base_model.lora_config(config.lora),
            tokenizer=base_model.load_tokenizer(base),
            train=self._train,
            held_out=self._held_out,
            max_length=config.data.max_length,
            packing=self._packs,
            arguments=trainer_arguments(
                config, precision=self._precision, device=device, work=self._checkpoints.work
            ),
            callbacks=[],
            prepare=partial(prepare_qat, scheme=config.run.qat) if config.run.qat else None,
        )
        try:
            trainer = make_trainer(job, self._own)
        except QwenkitError:
            if self._processes.is_main and not self._request.resume:
                shutil.rmtree(self._folder.path)  # nothing has begun
            raise
        if config.lora.start is not None:
            trainer._load_from_checkpoint(str(config.lora.start))
        # It prints every line of metrics to stdout.
        trainer.remove_callback(import_extra("transformers", extra="train").PrinterCallback)
        return trainer

    def _learn(self, trainer: Any, start: _Start) -> Learned:
        """Go through the steps, with a look at held-out data before and after."""
        before = self._look_before(trainer)
        with self._metrics() as metrics:
            began, first_step = time.monotonic(), start.step
            with stop_on_signals(self._tell) as stop:
                loop = self._loop(metrics, stop, trainer)
                if self._folder.is_trained:
                    trainer._load_from_checkpoint(str(self._folder.weights))
                    loop.take_up(read_metrics(self._folder.metrics))
                    first_step = loop.step
                else:
                    self._take_steps(trainer, loop, start, before)
            learned = Learned(loop, first_step, time.monotonic() - began, before)
            if loop.is_stopped:
                return learned
            self._keep_weights(trainer)
            learned.after = self._look(trainer, self._progress)
            if learned.after is not None:
                loop.record_evaluation(learned.after)
            return learned

    @contextmanager
    def _metrics(self) -> Iterator[MetricsLog | None]:
        if not self._processes.is_main:
            yield None
            return
        with closing(MetricsLog(self._folder.metrics)) as log:
            yield log

    def _loop(self, metrics: MetricsLog | None, stop: StopRequest, trainer: Any) -> Loop:
        return Loop(
            options=self._config.loop,
            processes=self._processes,
            checkpoints=self._checkpoints,
            metrics=metrics,
            stop=stop,
            watch=self._watch,
            look=lambda _: self._look(trainer),
            tokens_per_step=self._tokens_per_step(),
            scales_loss=self._precision == "fp16",
            again=self._request.again,
        )

    def _take_steps(
        self, trainer: Any, loop: Loop, start: _Start, before: Evaluation | None
    ) -> None:
        if before is not None and not start.step:
            loop.record_evaluation(before)
        trainer.add_callback(make_callback(loop))
        checkpoint = str(start.checkpoint) if start.checkpoint else None
        try:
            trainer.train(resume_from_checkpoint=checkpoint)
        finally:
            loop.end()

    def _tokens_per_step(self) -> float | None:
        """On average; what is yet to be generated is not known."""
        if self._config.run.method == "grpo":
            return None
        config, train = self._config, self._train
        rows = len(train.samples)
        if self._packs:
            rows = len(
                packed_row_lengths(
                    (sample.n_tokens for sample in train.samples),
                    length=config.data.max_length,
                )
            )
        in_step = config.batch_size * config.accumulate * self._processes.n
        return train.n_tokens * min(1.0, in_step / rows)

    @property
    def _packs(self) -> bool:
        return self._config.loop.packing and self._config.run.method == "sft"

    def _look(self, trainer: Any, progress: ProgressFactory = silent) -> Evaluation | None:
        """How good the model is at held-out data; None without such data."""
        if self._held_out is None:
            return None
        found: Evaluation = trainer.measure(self._held_out, progress=progress)
        return found

    def _look_before(self, trainer: Any) -> Evaluation | None:
        """How good it was before anything was learned; a resumed run remembers."""
        if self._folder.evaluation.exists():
            return Evaluation(**read_json(self._folder.evaluation))
        found = self._look(trainer, self._progress)
        if found is not None and self._processes.is_main:
            write_json(self._folder.evaluation, asdict(found))
        return found

    def _keep_weights(self, trainer: Any) -> None:
        """Leave what was learned in the folder; all processes have a part in it."""
        if self._folder.is_trained:
            return
        written = self._checkpoints.work / "final"
        if trainer.is_fsdp_enabled:
            trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
        trainer.save_model(str(written))
        self._processes.wait()
        if self._processes.is_main:
            if self._config.lora.full:
                keep_model(written, self._folder, checkpoint=self._request.checkpoint)
            else:
                keep_adapter(
                    written,
                    self._folder,
                    base_name=self._config.run.model,
                    template_hash=self._train.template_hash,
                )
            self._checkpoints.clear_work()
        self._processes.wait()

    def _finish_qat(self, model: Any) -> QatOutcome | None:
        run = self._config.run
        if run.qat is None:
            return None
        return finish_qat_run(
            model,
            run.qat,
            checkpoint=self._request.checkpoint,
            folder=self._folder,
            held_out=self._held_out,
            baseline=run.qat_baseline,
            progress=self._progress,
        )

    def _finished(self) -> Finished:
        if self._config.lora.full:
            return finish_model(self._folder)
        return finish_adapter(
            self._folder,
            base_name=self._config.run.model,
            checkpoint=self._request.checkpoint,
            is_judge=self._config.run.method == "reward",
        )


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a session begins: a step, and the checkpoint of it."""

    step: int
    checkpoint: Path | None


def _check_whole(config: RunConfig, processes: Processes) -> None:
    """Refuse what takes a whole model, where each process has a part of one.

    Raises:
        InvalidSettings: Something does.
    """
    run = config.run
    if processes.shards and (run.eval is not None or run.qat is not None):
        raise InvalidSettings(
            "measuring and grids take the whole model, and FSDP and DeepSpeed hold it in parts",
            hint="leave out --eval and --qat, or train without sharding",
        )
