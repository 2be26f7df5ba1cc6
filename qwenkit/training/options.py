"""How a run trains: the choices about the adapter and about the loop. Saved beside what they made.

Knows no method's own choices, no data and no library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from qwenkit.errors import InvalidSettings
from qwenkit.training.data.cost import LINEARS
from qwenkit.training.methods import Method

PrecisionChoice: TypeAlias = Literal["auto", "fp32", "bf16", "fp16"]
Schedule: TypeAlias = Literal["cosine", "linear", "constant"]

LEARNING_RATES: dict[Method, float] = {
    "sft": 2e-4,
    "dpo": 1e-5,
    "kto": 1e-5,
    "orpo": 1e-5,
    "reward": 1e-3,
    "grpo": 1e-5,
}
"""The highest learning rate of a LoRA, by method: ten times what TRL takes for all weights."""

BATCH_SIZES: dict[Method, int] = {"kto": 4}
"""What a process computes at once, of methods that learn from samples of one batch together."""

SAMPLES_A_STEP = 8
"""A process computes at least so many, in batches of any size, before the weights change."""

FULL_SHARE = 0.1
"""Of a LoRA's learning rate suits full training (Schulman et al., LoRA Without Regret, 2025)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraOptions:
    """What is trained.

    Args:
        rank: Columns of the small matrices.
        alpha: Strength: the change is scaled by alpha / rank, or alpha / √rank with `rslora`.
        dropout: Share of a LoRA's inputs that each step leaves out.
        targets: Kinds of matrices that get one.
        rslora: Scale by the root of the rank, which keeps high ranks learning (arXiv 2312.03732).
        dora: Learn the lengths of rows apart from their directions (arXiv 2402.09353); such an
            adapter can only be merged, not served.
        qlora: Hold the frozen matrices in 4 bits (arXiv 2305.14314); needs a CUDA GPU.
        full: Train every weight instead; the others of these options then mean nothing.
        start: PEFT folder of an adapter to go on from; its shape counts then, and `rank`, `alpha`,
            `targets`, `rslora` and `dora` mean nothing. What a preference is held to stays the
            base.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = LINEARS
    rslora: bool = False
    dora: bool = False
    qlora: bool = False
    full: bool = False
    start: Path | None = None

    def __post_init__(self) -> None:
        _require(self, "rank", self.rank >= 1, "at least 1")
        _require(self, "alpha", 0 < self.alpha < math.inf, "more than 0")
        _require(self, "dropout", 0 <= self.dropout < 1, "a share from 0 up to 1")
        unknown = [target for target in self.targets if target not in LINEARS]
        if unknown or not self.targets:
            raise InvalidSettings(
                f"`{', '.join(unknown) or 'nothing'}` can't get a LoRA",
                hint=f"targets are {', '.join(LINEARS)}",
            )
        for name in ("rslora", "dora", "qlora"):
            if self.full and getattr(self, name):
                raise InvalidSettings(f"full training has no LoRA, so {name} means nothing")
        if self.full and self.start is not None:
            raise InvalidSettings(
                "full training has no LoRA to go on from",
                hint="merge the adapter first: qwenkit lora merge",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopOptions:
    """How long, how fast and how precisely is trained.

    Args:
        n_epochs: How often the data is gone through.
        n_steps: Changes of the weights, instead of `n_epochs`.
        batch_size: Samples, pairs or packed rows that one process computes at once; None takes the
            method's default: 4 for kto, 1 for the others.
        accumulate: Such batches before the weights change; None takes as many as make 8 samples.
        learning_rate: The highest; None takes the method's default, a tenth of it in full training.
        schedule: How it falls after `warmup`: to 0 along half a cosine or a line, or not at all.
        warmup: Share of the steps in which it rises.
        weight_decay: AdamW's.
        max_grad_norm: Longest gradient; longer ones are shortened. 0 is without bound.
        seed: Decides the first weights of the LoRA, the order of samples, and dropout.
        precision: Number format of what is computed; `auto` is fp32 on a CPU, bf16 on a GPU that
            has it, fp16 on others.
        gradient_checkpointing: Compute layers again on the way back instead of keeping what they
            computed: far less memory, a third more time. None does it on GPUs.
        packing: Put several samples into one row of `max_length` tokens, of which none sees
            another; for sft.
        save_every: Steps between checkpoints; None is ten times a run, 0 only where it is stopped.
        keep_checkpoints: How many of the newest are kept.
        log_every: Steps between lines of metrics.
        eval_every: Steps between looks at held-out data; None is ten times a run, 0 only before and
            after.
        n_threads: CPU threads; None leaves that to torch.
    """

    n_epochs: float = 3.0
    n_steps: int | None = None
    batch_size: int | None = None
    accumulate: int | None = None
    learning_rate: float | None = None
    schedule: Schedule = "cosine"
    warmup: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 0
    precision: PrecisionChoice = "auto"
    gradient_checkpointing: bool | None = None
    packing: bool = True
    save_every: int | None = None
    keep_checkpoints: int = 2
    log_every: int = 1
    eval_every: int | None = None
    n_threads: int | None = None

    def __post_init__(self) -> None:
        _require(self, "n_epochs", 0 < self.n_epochs < math.inf, "more than 0")
        _require(self, "n_steps", self.n_steps is None or self.n_steps >= 1, "at least 1")
        _require(self, "warmup", 0 <= self.warmup < 1, "a share from 0 up to 1")
        rate = self.learning_rate
        _require(self, "learning_rate", rate is None or 0 < rate < math.inf, "more than 0")
        for name in ("batch_size", "accumulate", "keep_checkpoints", "log_every", "n_threads"):
            value = getattr(self, name)
            _require(self, name, value is None or value >= 1, "at least 1")
        for name in ("weight_decay", "max_grad_norm", "seed"):
            _require(self, name, 0 <= getattr(self, name) < math.inf, "0 or more")
        for name in ("save_every", "eval_every"):
            value = getattr(self, name)
            _require(self, name, value is None or value >= 0, "0 or more")

    def checkpoints_on(self, device: str) -> bool:
        """Whether layers are computed again on the way back, on a kind of device."""
        chosen = self.gradient_checkpointing
        return device != "cpu" if chosen is None else chosen

    def batch(self, method: Method) -> int:
        """What one process computes at once, the method's own where nothing was chosen."""
        return self.batch_size or BATCH_SIZES.get(method, 1)

    def batches(self, method: Method) -> int:
        """Such batches before the weights change."""
        return self.accumulate or math.ceil(SAMPLES_A_STEP / self.batch(method))

    def peak_learning_rate(self, method: Method, *, full: bool) -> float:
        """The highest learning rate, the method's own where none was chosen."""
        return self.learning_rate or LEARNING_RATES[method] * (FULL_SHARE if full else 1)


def _require(options: object, name: str, is_right: bool, rule: str) -> None:
    if not is_right:
        raise InvalidSettings(f"{name} is {getattr(options, name)}, it should be {rule}")
