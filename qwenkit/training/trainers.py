"""Every method by its name: its options, and how it makes its trainer."""

from __future__ import annotations

from typing import Any, TypeAlias

from qwenkit.training import grpo, preference, reward, sft
from qwenkit.training.job import Job
from qwenkit.training.methods import Method

MethodOptions: TypeAlias = (
    sft.SftOptions
    | preference.DpoOptions
    | preference.KtoOptions
    | preference.OrpoOptions
    | reward.RewardOptions
    | grpo.GrpoOptions
)

OPTIONS: dict[Method, type[MethodOptions]] = {
    "sft": sft.SftOptions,
    "dpo": preference.DpoOptions,
    "kto": preference.KtoOptions,
    "orpo": preference.OrpoOptions,
    "reward": reward.RewardOptions,
    "grpo": grpo.GrpoOptions,
}
"""The options of each method."""


def make_trainer(job: Job, options: MethodOptions) -> Any:
    """A trainer for the method whose options these are, LoRA attached; not yet run.

    Raises:
        InvalidData: The samples are of another method.
        InvalidSettings: Options, data and LoRA don't go together.
        MissingExtra: The training packages are not installed.
        ModelError: A reward model can't be used.
    """
    match options:
        case sft.SftOptions():
            return sft.make_trainer(job, options)
        case reward.RewardOptions():
            return reward.make_trainer(job, options)
        case grpo.GrpoOptions():
            return grpo.make_trainer(job, options)
        case _:
            return preference.make_trainer(job, options)
