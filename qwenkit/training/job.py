"""What every method gets to make its trainer of. Knows no method.

Each method is a module with a frozen dataclass of its own options and

    def make_trainer(job: Job, options: ItsOptions) -> Any

which gives one of TRL's trainers, not yet run: `job.arguments` go into TRL's configuration beside
the method's own, `job.callbacks` into the trainer, and `job.peft_config` attaches the LoRA.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from qwenkit.training.data.samples import PreparedData


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run, ready for its method.

    Args:
        model: The base as transformers loads it, without a LoRA. A reward trainer takes another
            head than the language model's: its method makes it of `checkpoint`.
        checkpoint: The folder that the base was loaded from.
        peft_config: A `peft.LoraConfig`; None for full training.
        tokenizer: transformers' fast tokenizer; nothing is tokenised with it, TRL asks for the
            padding token.
        train: What is learned from.
        held_out: What is only looked at.
        max_length: Most tokens of a sample, and of a packed row.
        packing: Whether samples share rows.
        arguments: For TRL's configuration, whatever the method: folders, batches, rates, steps,
            precision, seed, and that nothing is reported to anybody.
        callbacks: For the trainer.
        prepare: Applied to the trainer's model once the LoRA is attached, before the optimizer is
            made; None does nothing.
    """

    model: Any = field(repr=False)
    checkpoint: Any
    peft_config: Any | None
    tokenizer: Any = field(repr=False)
    train: PreparedData
    held_out: PreparedData | None
    max_length: int
    packing: bool
    arguments: dict[str, Any]
    callbacks: list[Any] = field(repr=False)
    prepare: Callable[[Any], object] | None = None
