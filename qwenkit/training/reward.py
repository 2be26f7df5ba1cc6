"""A reward model: the base with LoRA and a head that gives a text one number. Knows no files.

It learns from pairs that the chosen answer's number is the larger one (Bradley-Terry, as in arXiv
2203.02155). Its adapter is a PEFT folder that holds the head beside the matrices. No runtime serves
it: it judges answers while GRPO trains, and `evaluate` measures it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

from qwenkit.extras import import_extra
from qwenkit.training.data.samples import PreferenceSample, PreparedData
from qwenkit.training.job import Job
from qwenkit.training.tokenised import Columns, build_trainer, samples_of, tokenised

HEAD = "score"
"""What transformers calls the layer that makes the number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardOptions:
    """How a reward model learns.

    Args:
        center: Weight of a penalty on scores far from 0, which gives the scale a zero point; None
            leaves it out. 0.01 is customary (arXiv 2312.09244), and of use where scores of
            different prompts are compared. GRPO compares answers to one prompt only.
    """

    center: float | None = None


def make_trainer(job: Job, options: RewardOptions) -> Any:
    """A trainer of a reward model on the job's base; not yet run.

    Raises:
        InvalidData: The samples are no pairs.
        InvalidSettings: LoRA's dropout is on.
        MissingExtra: The training packages are not installed.
    """
    trl = import_extra("trl", extra="train")

    config = trl.RewardConfig(
        **job.arguments, max_length=None, center_rewards_coefficient=options.center
    )
    peft_config = job.peft_config
    if peft_config is not None:
        peft_config = replace(peft_config, task_type="SEQ_CLS", modules_to_save=[HEAD])
    return build_trainer(
        tokenised(trl.RewardTrainer),
        config,
        job,
        whole_columns,
        model=add_head(job.model, seed=config.seed),
        peft_config=peft_config,
    )


def whole_columns(data: PreparedData) -> Columns:
    """Pairs as the collator takes them: each answer behind its prompt."""
    samples = samples_of(data, PreferenceSample)
    return {
        "chosen_ids": [[*sample.prompt, *sample.chosen] for sample in samples],
        "rejected_ids": [[*sample.prompt, *sample.rejected] for sample in samples],
    }


def add_head(causal: Any, *, seed: int) -> Any:
    """A reward model around the very layers of a causal language model; no weight is copied.

    Args:
        causal: Gives the layers.
        seed: Decides the head's first numbers.
    """
    torch = import_extra("torch", extra="train")
    transformers = import_extra("transformers", extra="train")
    config = copy.deepcopy(causal.config)
    config.num_labels = 1
    with torch.device("meta"):
        model = transformers.AutoModelForSequenceClassification.from_config(config)
    model.model = causal.model
    head = torch.nn.Linear(config.hidden_size, 1, bias=False, device=causal.device)
    chance = torch.Generator().manual_seed(seed)
    first = torch.empty(head.weight.shape).normal_(0, config.initializer_range, generator=chance)
    with torch.no_grad():
        head.weight.copy_(first)
    # The head stays in float32, whatever the layers compute in.
    head.register_forward_pre_hook(_in_its_precision)
    setattr(model, HEAD, head)
    return model


def _in_its_precision(head: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (args[0].to(head.weight.dtype),)
