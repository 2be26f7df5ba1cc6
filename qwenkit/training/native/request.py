"""What native training is asked for, and what it reports. Checks what needs no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from qwenkit.adapters.base import GGUF_LINEARS
from qwenkit.errors import InvalidSettings
from qwenkit.models.resolve import ResolvedModel
from qwenkit.training.data.samples import PreparedData, Sample
from qwenkit.training.native.context import Optimizer
from qwenkit.training.native.schedule import Shape

Record: TypeAlias = dict[str, float | int]
"""A line of metrics: `step`, `epoch` and what was measured then."""

LINEARS = tuple(name.rpartition(".")[2] for name in GGUF_LINEARS)
CTX_STEP = 256
MAX_THREADS = 1024
"""A thread that the system refuses ends the process."""
DEFAULT_LEARNING_RATES: dict[Optimizer, float] = {"adamw": 1e-4, "sgd": 1e-1}


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeRequest:
    """What to train, on what, and how.

    Args:
        model: The base, as `resolve` finds it with `dtype="f32"`.
        train: Samples to learn from.
        held_out: Samples to measure the loss on, before training and after each epoch.
        output: Folder for `adapter.gguf`, the PEFT folder `adapter` and `checkpoints`.
        rank: Rank that the change of each matrix is reduced to.
        targets: Kinds of matrices to train.
        optimizer: `adamw`, or `sgd`, which needs half the memory and a far higher learning rate.
        learning_rate: The highest; the optimizer's own default when None.
        schedule: How it falls.
        warmup: Share of the steps in which it rises.
        n_epochs: Times that all samples are seen.
        n_steps: Stop after so many steps of the optimizer, whatever the epochs.
        n_ctx: Tokens of a window, a multiple of 256; every sample must fit one.
        batch_size: Windows a step.
        max_grad_norm: Longest gradient over all matrices; 0 is without bound.
        project_every: Steps between projections onto the rank; None is at the end of each epoch.
        seed: Of the order of windows.
        n_threads: CPU threads.
        save_every: Steps between checkpoints; None is at the end of each epoch; 0 keeps none.
        keep_checkpoints: How many of the newest are kept.
        resume: Go on from the newest checkpoint in `output`, if there is one.
        start: An adapter to begin from; what it is and what is learned become one adapter.
        save_model: Write the base with the adapter in it as one GGUF file.
        save_unprojected: Write the model as the optimizer left it, before the last projection.
    """

    model: ResolvedModel
    train: PreparedData
    held_out: PreparedData | None = None
    output: Path
    rank: int = 16
    targets: tuple[str, ...] = LINEARS
    optimizer: Optimizer = "adamw"
    learning_rate: float | None = None
    schedule: Shape = "cosine"
    warmup: float = 0.03
    n_epochs: int = 3
    n_steps: int | None = None
    n_ctx: int = 2048
    batch_size: int = 1
    max_grad_norm: float = 1.0
    project_every: int | None = None
    seed: int = 0
    n_threads: int = 1
    save_every: int | None = None
    keep_checkpoints: int = 2
    resume: bool = False
    start: Path | None = None
    save_model: Path | None = None
    save_unprojected: Path | None = None

    @property
    def peak_learning_rate(self) -> float:
        """The highest learning rate."""
        default = DEFAULT_LEARNING_RATES[self.optimizer]
        return default if self.learning_rate is None else self.learning_rate


@dataclass(frozen=True, slots=True)
class MatrixShare:
    """How well one matrix's change survives its rank.

    Args:
        module: As transformers names it.
        share: Part of the change that the rank keeps, of its squared Frobenius norm.
        norm: Frobenius norm of the change before it was reduced.
    """

    module: str
    share: float
    norm: float


@dataclass(frozen=True, slots=True)
class EpochResult:
    """One time through the data.

    Args:
        epoch: Counted from 1.
        n_steps: Steps of the optimizer so far.
        loss: Mean over the learned tokens, while they were learned.
        held_out_loss: Mean after the epoch's projection; None without such data.
        share: Part of all matrices' change that the rank kept at the epoch's end.
    """

    epoch: int
    n_steps: int
    loss: float
    held_out_loss: float | None
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeReport:
    """What came of it.

    Args:
        adapter: The adapter for llama.cpp.
        peft_folder: The same as a PEFT folder.
        held_out_loss_before: Mean over the held-out learned tokens, untrained.
        share: Part of the change, over all matrices, that the last projection kept.
        epochs: One for each, also those before a resume.
        matrices: One for each trained matrix, of the last projection.
        records: All lines of metrics.
        n_steps: Steps of the optimizer, also those before a resume.
        n_windows: Windows that the samples were packed into.
        n_tokens: Tokens that this run learned from or read, padding not counted.
        duration_s: Seconds that this run took.
        resumed_from: Step of the checkpoint it went on from; None for a run from the start.
    """

    adapter: Path
    peft_folder: Path
    held_out_loss_before: float | None
    share: float
    epochs: tuple[EpochResult, ...]
    matrices: tuple[MatrixShare, ...] = field(repr=False)
    records: tuple[Record, ...] = field(repr=False)
    n_steps: int
    n_windows: int
    n_tokens: int
    duration_s: float
    resumed_from: int | None

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second, measuring and writing included."""
        return self.n_tokens / self.duration_s if self.duration_s else 0.0


def check_request(request: NativeRequest) -> None:
    """Refuse what can't be trained, whatever the model.

    Raises:
        InvalidSettings: A number is out of its range, a target is unknown, or the data is of
            another method than SFT.
    """
    for name, is_right, rule in (
        ("rank", request.rank >= 1, "at least 1"),
        ("n_epochs", request.n_epochs >= 1, "at least 1"),
        ("n_steps", request.n_steps is None or request.n_steps >= 1, "at least 1"),
        ("batch_size", request.batch_size >= 1, "at least 1"),
        ("n_threads", 1 <= request.n_threads <= MAX_THREADS, f"from 1 to {MAX_THREADS}"),
        ("learning_rate", 0 < request.peak_learning_rate < 1e3, "more than 0"),
        ("warmup", 0 <= request.warmup < 1, "a share from 0 up to 1"),
        ("max_grad_norm", request.max_grad_norm >= 0, "0 or more"),
        ("project_every", request.project_every is None or request.project_every >= 1, "1 or more"),
        ("save_every", request.save_every is None or request.save_every >= 0, "0 or more"),
        ("keep_checkpoints", request.keep_checkpoints >= 1, "at least 1"),
        ("seed", request.seed >= 0, "0 or more"),
    ):
        if not is_right:
            raise InvalidSettings(f"{name} is {getattr(request, name)}, it should be {rule}")
    if request.n_ctx < CTX_STEP or request.n_ctx % CTX_STEP:
        raise InvalidSettings(
            f"the context is {request.n_ctx} tokens, llama.cpp trains on multiples of {CTX_STEP}",
            hint=f"set it to {max(1, -(-request.n_ctx // CTX_STEP)) * CTX_STEP}",
        )
    unknown = [target for target in request.targets if target not in LINEARS]
    if unknown or not request.targets:
        raise InvalidSettings(
            f"`{', '.join(unknown) or 'nothing'}` can't be trained",
            hint=f"targets are {', '.join(LINEARS)}",
        )


def samples_of(data: PreparedData) -> list[Sample]:
    """The samples to imitate.

    Raises:
        InvalidSettings: They are of another method.
    """
    samples = [sample for sample in data.samples if isinstance(sample, Sample)]
    if len(samples) != len(data.samples):
        raise InvalidSettings(
            "llama.cpp's trainer learns by imitation only",
            hint="use --method sft, or --trainer peft for preferences and rewards",
        )
    return samples
