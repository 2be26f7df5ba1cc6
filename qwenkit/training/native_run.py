"""A run by llama.cpp's trainer that leaves the same folder as one by torch. Needs no torch.

Knows which choices such a run can follow, and refuses those that would mean nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from qwenkit.errors import InvalidSettings
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.models.resolve import ResolvedModel
from qwenkit.training.data.options import DataOptions
from qwenkit.training.data.samples import PreparedData
from qwenkit.training.environment import describe_environment
from qwenkit.training.finish import Finished, finish_adapter
from qwenkit.training.inputs import read_inputs
from qwenkit.training.loss_plot import plot_loss
from qwenkit.training.metrics import MetricsLog
from qwenkit.training.native.request import NativeReport, NativeRequest
from qwenkit.training.native.train import train_native
from qwenkit.training.run_config import NativeOptions, RunConfig, names_of
from qwenkit.training.run_folder import RunFolder, write_json

_FOLLOWED = (
    *("model", "data", "method", "trainer", "eval", *names_of(DataOptions, NativeOptions)),
    *("rank", "targets", "n_epochs", "n_steps", "batch_size", "learning_rate", "schedule"),
    *("warmup", "max_grad_norm", "seed", "save_every", "keep_checkpoints", "n_threads"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeRunReport:
    """What came of a run.

    Args:
        output: The run's folder.
        training: What the trainer says.
        finished: The adapters.
    """

    output: Path
    training: NativeReport
    finished: Finished


def finetune_native(
    config: RunConfig,
    model: ResolvedModel,
    *,
    resume: bool = False,
    progress: ProgressFactory = silent,
    tell: Callable[[str], None] = lambda _: None,
) -> NativeRunReport:
    """Train an adapter by llama.cpp, and leave a run folder.

    A picture is drawn where matplotlib is installed, and an .onnx_adapter written where onnxruntime
    is: training itself takes neither.

    Args:
        config: All choices.
        model: The base, as `resolve` finds it with `dtype="f32"`.
        resume: Go on with the run that is in the output folder.
        progress: Told of reading and of steps.
        tell: Told what a person should know at once.

    Raises:
        InvalidSettings: A choice that this trainer can't follow; the folder is there already; or
            what is resumed is another run.
        InvalidData: Rows can't be learned from.
        ModelError: The base can't be trained.
        OutOfMemory: It wouldn't fit.
        DecodeFailed: Training went astray.
    """
    check_followed(config)
    folder = RunFolder(config.run.output)
    if resume:
        folder.check_unfinished()
    else:
        folder.check_free()
    train, held_out = read_inputs(config, model.checkpoint or model.path, progress=progress)
    made_for = {
        "base": model.content_id,
        "train": train.fingerprint,
        "held_out": held_out.fingerprint if held_out else None,
        "template": train.template_hash,
    }
    record = {"choices": config.choices(), "made_for": made_for}
    if resume:
        folder.check_same(record)
    request = _request(config, model, resume=resume, train=train, held_out=held_out)
    with folder.held(), folder.interruption_told(tell):
        write_json(folder.environment, describe_environment(("llama-cpp-python", "numpy")))
        write_json(folder.config, record)
        with _metrics(folder) as log:
            made = train_native(request, progress=progress, on_record=log.add)
        finished = finish_adapter(
            folder, base_name=config.run.model, checkpoint=model.checkpoint, is_judge=False
        )
        title = f"llama.cpp on {config.run.model}, {len(train.samples):,} samples"
        if find_spec("matplotlib") is not None:
            plot_loss(made.records, folder.picture, title=title)
        report = NativeRunReport(output=folder.path, training=made, finished=finished)
        write_json(folder.report, asdict(report))
    return report


def check_followed(config: RunConfig) -> None:
    """Refuse choices that mean nothing to this trainer.

    Raises:
        InvalidSettings: Somebody made one, or epochs are no whole number.
    """
    if config.run.method != "sft":
        raise InvalidSettings(
            f"llama.cpp's trainer learns by imitation only, and the method is {config.run.method}",
            hint="--trainer peft",
        )
    ignored = sorted(config.changed() - set(_FOLLOWED))
    if ignored:
        raise InvalidSettings(
            f"`{ignored[0]}` means nothing to llama.cpp's trainer", hint="--trainer peft"
        )
    if config.loop.n_epochs != int(config.loop.n_epochs):
        raise InvalidSettings(
            f"llama.cpp's trainer goes through whole epochs, not {config.loop.n_epochs}",
            hint="stop it by --n-steps",
        )


@contextmanager
def _metrics(folder: RunFolder) -> Iterator[MetricsLog]:
    # The trainer tells a resumed run's earlier lines again.
    folder.metrics.unlink(missing_ok=True)
    with closing(MetricsLog(folder.metrics)) as log:
        yield log


def _request(
    config: RunConfig,
    model: ResolvedModel,
    *,
    resume: bool,
    train: PreparedData,
    held_out: PreparedData | None,
) -> NativeRequest:
    loop, own = config.loop, config.own
    if not isinstance(own, NativeOptions):
        raise InvalidSettings("the choices are of another trainer", hint="--trainer llama.cpp")
    return NativeRequest(
        model=model,
        train=train,
        held_out=held_out,
        output=config.run.output,
        rank=config.lora.rank,
        targets=config.lora.targets,
        optimizer=own.optimizer,
        learning_rate=loop.learning_rate,
        schedule=loop.schedule,
        warmup=loop.warmup,
        n_epochs=int(loop.n_epochs),
        n_steps=loop.n_steps,
        n_ctx=config.data.max_length,
        batch_size=config.batch_size,
        max_grad_norm=loop.max_grad_norm,
        project_every=own.project_every,
        seed=loop.seed,
        n_threads=loop.n_threads or len(os.sched_getaffinity(0)),
        save_every=loop.save_every,
        keep_checkpoints=loop.keep_checkpoints,
        resume=resume,
    )
