"""GRPO: the model answers prompts itself, and learns from what rewards say (arXiv 2402.03300).

For each prompt it writes several answers; those above the mean of their group become likelier, the
others less. transformers generates with the adapter as it is. Every answer is learned from once, so
a checkpoint always lies between two generations, and a run that is resumed from one draws the same
answers. Knows samples and rewards; no files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, TypeAlias

from qwenkit.errors import InvalidSettings
from qwenkit.extras import import_extra
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.training.answers import AnswerReader, generate_answers, open_reader
from qwenkit.training.data.samples import PreparedData, PromptSample
from qwenkit.training.evaluate import Evaluation
from qwenkit.training.job import Job
from qwenkit.training.judge import load_judge
from qwenkit.training.rewards import Reward, check_fields, load_rewards
from qwenkit.training.tokenised import Columns, build_trainer, samples_of, tokenised

GrpoLoss: TypeAlias = Literal["dapo", "grpo", "dr_grpo", "bnpo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpoOptions:
    """How a model learns from rewards.

    Args:
        rewards: What answers are judged by, as `qwenkit.training.rewards` names them.
        n_answers: Answers to each prompt, of which the mean is the yardstick. A step's batch, over
            all of its accumulation, holds whole groups of so many.
        max_new_tokens: Most tokens of an answer.
        temperature: Of sampling; answers that are all alike teach nothing.
        top_p: Share of the probability that is sampled from.
        top_k: Most tokens that are sampled from; 0 is no bound.
        beta: Weight of the distance to the base. 0, as in TRL, needs no second pass; LoRA stays
            near by itself, and more than 0.04 was not used by the paper either.
        epsilon: How far one step may change a token's probability before it is cut.
        epsilon_high: The same upwards, None for the same as downwards; DAPO (2503.14476) takes
            0.28, which lets rare tokens become more likely.
        loss: How tokens are weighed: all alike (`dapo`, `bnpo`), each answer alike (`grpo`), or
            without regard to length (`dr_grpo`, 2503.20783).
        scale: What advantages are divided by: the spread in their group, in the batch, or nothing,
            which keeps easy and hard prompts from counting more (2503.20783).
        skip_cut_off: Learn nothing from answers that reached `max_new_tokens`.
    """

    rewards: tuple[str, ...]
    n_answers: int = 8
    max_new_tokens: int = 512
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    beta: float = 0.0
    epsilon: float = 0.2
    epsilon_high: float | None = None
    loss: GrpoLoss = "dapo"
    scale: Literal["group", "batch", "none"] = "group"
    skip_cut_off: bool = False

    def __post_init__(self) -> None:
        if self.n_answers < 2:
            raise InvalidSettings(
                f"{self.n_answers} answers to a prompt have no mean to be better than",
                hint="give 2 or more",
            )
        if self.max_new_tokens < 1:
            raise InvalidSettings("max_new_tokens is below 1, so nothing would be generated")
        if self.temperature <= 0:
            raise InvalidSettings("a temperature of 0 or less makes all answers alike")
        if self.beta < 0:
            raise InvalidSettings(f"beta is {self.beta}, and has to be 0 or more")


def make_trainer(job: Job, options: GrpoOptions) -> Any:
    """A trainer that generates, judges and learns, LoRA attached; not yet run.

    Raises:
        InvalidData: The samples are no prompts, or lack a field that a reward compares with.
        InvalidSettings: LoRA's dropout is on, the batch holds no whole groups of answers, or a
            reward names nothing.
        MissingExtra: The training packages are not installed.
        ModelError: A reward model can't be used.
    """
    trl = import_extra("trl", extra="train")
    _require_groups(job, options)
    # Before the adapter is attached, so that a reward model finds the base as it was.
    rewards = open_rewards(job, options)
    reader = open_reader(job.model, job.tokenizer)
    n_train = len(job.train.samples)
    samples = samples_of(job.train, PromptSample)
    if job.held_out is not None:
        samples += samples_of(job.held_out, PromptSample)
    check_fields(rewards, samples)

    def columns(data: PreparedData) -> Columns:
        first = 0 if data is job.train else n_train
        return {"prompt": list(range(first, first + len(data.samples)))}

    def measure(model: Any, data: PreparedData, **how: Any) -> Evaluation:
        return evaluate_rewards(
            model, data, rewards, reader=reader, max_new_tokens=options.max_new_tokens, **how
        )

    config = trl.GRPOConfig(
        **job.arguments | {"remove_unused_columns": False},
        **_arguments(options),
        reward_weights=[reward.weight for reward in rewards],
    )
    return build_trainer(
        _grpo_class(tokenised(trl.GRPOTrainer), samples, measure),
        config,
        job,
        columns,
        reward_funcs=[_as_trl_calls(reward, samples, reader) for reward in rewards],
    )


def open_rewards(job: Job, options: GrpoOptions) -> tuple[Reward, ...]:
    """The rewards of a job, whose base has no adapter yet.

    Raises:
        InvalidSettings: A reward names nothing.
        ModelError: A reward model can't be used.
    """

    def judge(folder: Path) -> Any:
        return load_judge(
            folder, job.model, batch_size=options.n_answers, shares=job.peft_config is not None
        )

    return load_rewards(options.rewards, judge=judge)


def evaluate_rewards(
    model: Any,
    data: PreparedData,
    rewards: Sequence[Reward],
    *,
    reader: AnswerReader,
    max_new_tokens: int,
    batch_size: int = 8,
    progress: ProgressFactory = silent,
) -> Evaluation:
    """What rewards say on average of a model's likeliest answers to prompts.

    Answers of which no reward has an opinion are left out of the mean.

    Args:
        model: A causal language model, with or without an adapter.
        data: The prompts.
        rewards: What judges, as `open_rewards` gives them.
        reader: Reads what the model generated.
        max_new_tokens: Most tokens of an answer.
        batch_size: Prompts in one pass.
        progress: Counts answers.

    Raises:
        InvalidData: The samples are no prompts, or lack a field that a reward compares with.
    """
    samples = samples_of(data, PromptSample)
    check_fields(rewards, samples)
    answers = generate_answers(
        model,
        samples,
        reader,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        progress=progress,
    )
    by_reward = [reward.score(answers) for reward in rewards]
    sums = [
        math.fsum(reward.weight * value for reward, value in opinions)
        for values in zip(*by_reward, strict=True)
        if (opinions := [(r, v) for r, v in zip(rewards, values, strict=True) if v is not None])
    ]
    return Evaluation(n_answers=len(answers), reward=fmean(sums) if sums else None)


def _arguments(options: GrpoOptions) -> dict[str, Any]:
    return {
        "num_generations": options.n_answers,
        # Held-out prompts are answered once, so that batches of any size will do.
        "num_generations_eval": 1,
        "max_completion_length": options.max_new_tokens,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k,
        "beta": options.beta,
        "epsilon": options.epsilon,
        "epsilon_high": options.epsilon_high,
        "loss_type": options.loss,
        "scale_rewards": options.scale,
        "mask_truncated_completions": options.skip_cut_off,
        "disable_dropout": True,
    }


def _require_groups(job: Job, options: GrpoOptions) -> None:
    batch = job.arguments["per_device_train_batch_size"]
    accumulate = job.arguments["gradient_accumulation_steps"]
    n_prompts, rest = divmod(batch * accumulate, options.n_answers)
    if rest:
        raise InvalidSettings(
            f"a step of {batch} x {accumulate} answers holds no whole groups of "
            f"{options.n_answers}",
            hint=f"let batch_size times accumulate be a multiple of {options.n_answers}",
        )
    if n_prompts > len(job.train.samples):
        raise InvalidSettings(
            f"a step takes {n_prompts} prompts, and the data has {len(job.train.samples)}",
            hint="let batch_size times accumulate be less, or n_answers more",
        )


def _as_trl_calls(
    reward: Reward, samples: Sequence[PromptSample], reader: AnswerReader
) -> Callable[..., Sequence[float | None]]:
    def judge(
        *, prompts: Sequence[int], completion_ids: Sequence[Sequence[int]], **_: Any
    ) -> Sequence[float | None]:
        pairs = zip(prompts, completion_ids, strict=True)
        return reward.score([reader.read(samples[prompt], ids) for prompt, ids in pairs])

    # TRL calls a reward what its function is called.
    judge.__name__ = reward.name
    return judge


def _grpo_class(
    base: Any, samples: Sequence[PromptSample], measure: Callable[..., Evaluation]
) -> Any:
    class GrpoTrainer(base):  # type: ignore[misc]
        def measure(self, data: PreparedData, **how: Any) -> Evaluation:
            """What the rewards say of the model's likeliest answers."""
            return measure(self.model, data, **how)

        # To TRL a prompt is the number of a sample.
        def _tokenize_prompts(self, prompts: list[int]) -> tuple[list[list[int]], None, Any]:
            return [list(samples[prompt].prompt) for prompt in prompts], None, {}

        # TRL's sampler remembers how often it was asked; a resumed run would begin again.
        def _get_train_sampler(self, dataset: Any = None) -> _EpochOrder:
            sampler = super()._get_train_sampler(dataset)
            return _EpochOrder(sampler, self.args.seed, lambda: int(self.state.epoch or 0))

    return GrpoTrainer


@dataclass(frozen=True, slots=True)
class _EpochOrder:
    """An order of samples that depends on the epoch and the seed, and on nothing before.

    Args:
        sampler: TRL's, which repeats each sample as often as there are answers.
        seed: The run's.
        epoch: Tells which epoch begins.
    """

    sampler: Any
    seed: int
    epoch: Callable[[], int]

    def __iter__(self) -> Iterator[int]:
        self.sampler.generator.manual_seed(self.seed + self.epoch())
        yield from self.sampler

    def __len__(self) -> int:
        return len(self.sampler)
