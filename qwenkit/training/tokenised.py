"""What the trainers of all methods share: ids stay as they came, and nothing is sent.

Knows TRL's hooks and how a `Job` becomes a trainer's arguments; nothing of any one method.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

from qwenkit.errors import InvalidData, InvalidSettings
from qwenkit.extras import import_extra
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.training.data.samples import AnySample, PreparedData
from qwenkit.training.evaluate import Evaluation, evaluate
from qwenkit.training.job import Job

SampleType = TypeVar("SampleType", bound=AnySample)

IGNORED = -100
"""The label of a token that is no target."""

Columns: TypeAlias = Mapping[str, Sequence[object]]
"""A table: each column by its name, all of one length."""


class Tokenised:
    """Stands before a TRL trainer among its bases, and keeps it from doing what is done already.

    TRL would tokenise text, tell the Hub which trainer runs, and write a model card of its own into
    the run's folder at every checkpoint.
    """

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, as the trainer does."""
        with old_names():
            return super().train(*args, **kwargs)  # type: ignore[misc]

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Make the schedule; its warmup is a share of the steps, rounded down.

        transformers rounds up, and the first step of a warmup has a rate of 0: a run of one step
        would learn nothing.
        """
        args: Any = self.args  # type: ignore[attr-defined]
        if args.warmup_steps < 1:
            args.warmup_steps = int(args.warmup_steps * num_training_steps)
        return super().create_scheduler(num_training_steps, optimizer)  # type: ignore[misc]

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate, as the trainer does."""
        with old_names():
            return super().evaluate(*args, **kwargs)  # type: ignore[misc]

    def measure(
        self, data: PreparedData, *, batch_size: int = 8, progress: ProgressFactory = silent
    ) -> Evaluation:
        """How good the model is at samples of the trainer's method.

        Raises:
            InvalidData: The samples are of another method.
        """
        model: Any = self.model  # type: ignore[attr-defined]
        return evaluate(model, data, batch_size=batch_size, progress=progress)

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset

    def _send_telemetry(self) -> None:
        pass

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none."""


def tokenised(trainer_class: Any) -> Any:
    """A trainer of TRL's that takes token ids."""
    return type(f"Tokenised{trainer_class.__name__}", (Tokenised, trainer_class), {})


def build_trainer(
    trainer_class: Any,
    config: Any,
    job: Job,
    columns: Callable[[PreparedData], Columns],
    *,
    drops_out: bool = False,
    **more: Any,
) -> Any:
    """A TRL trainer over a job's samples, LoRA attached; not yet run.

    Args:
        trainer_class: What `tokenised` makes of one of TRL's.
        config: Its arguments.
        job: What is trained.
        columns: Turns samples into the table that the trainer reads.
        drops_out: Whether dropout has a place in this method.
        more: What this trainer takes besides; wins over the job.

    Raises:
        InvalidSettings: LoRA's dropout is on, and has no place.
    """
    if not drops_out:
        _refuse_dropout(job)
        _still_attention(job.model)
    table = import_extra("datasets", extra="train").Dataset.from_dict
    options = {
        "model": job.model,
        "args": config,
        "train_dataset": table(columns(job.train)),
        "eval_dataset": table(columns(job.held_out)) if job.held_out else None,
        "processing_class": job.tokenizer,
        "callbacks": job.callbacks,
        "peft_config": job.peft_config,
    }
    with old_names():
        trainer = trainer_class(**options | more)
    if job.prepare is not None:
        job.prepare(trainer.model)
    return trainer


def samples_of(data: PreparedData, kind: type[SampleType]) -> tuple[SampleType, ...]:
    """The samples of prepared data, which have to be of one kind.

    Raises:
        InvalidData: They are of another.
    """
    samples = tuple(sample for sample in data.samples if isinstance(sample, kind))
    if len(samples) != len(data.samples):
        found = type(data.samples[0]).__name__
        raise InvalidData(f"this method learns from {kind.__name__}s, and the data holds {found}s")
    return samples


@contextmanager
def old_names() -> Iterator[None]:
    """Within it TRL and PEFT may call transformers by names that it has replaced."""
    with warnings.catch_warnings():
        message = r"`\w*gradient_checkpointing\w*` is deprecated"
        warnings.filterwarnings("ignore", message, FutureWarning)
        yield


def _refuse_dropout(job: Job) -> None:
    if job.peft_config is not None and job.peft_config.lora_dropout:
        raise InvalidSettings(
            "dropout makes noise of what preference methods compare: the adapted model, and the "
            "same one without the adapter",
            hint="leave dropout at 0",
        )


def _still_attention(model: Any) -> None:
    # TRL turns `Dropout` modules off; attention has its dropout in a number instead.
    for module in model.modules():
        if getattr(module, "attention_dropout", 0):
            module.attention_dropout = 0.0
