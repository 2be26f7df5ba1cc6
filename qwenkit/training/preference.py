"""Learning from preferences: DPO, KTO and ORPO on TRL's trainers. Knows no files and no text.

The reference model of DPO and KTO is the base with the adapter off, so there is no second copy of
it. In full training its log-likelihoods are computed once, before the first step.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, TypeAlias

from qwenkit.errors import InvalidSettings
from qwenkit.extras import import_extra
from qwenkit.training.data.samples import LabelSample, PreferenceSample, PreparedData
from qwenkit.training.job import Job
from qwenkit.training.tokenised import IGNORED, Columns, build_trainer, samples_of, tokenised

DpoLoss: TypeAlias = Literal[
    "sigmoid", "sigmoid_norm", "hinge", "ipo", "robust", "apo_zero", "apo_down", "exo_pair"
]
KtoLoss: TypeAlias = Literal["kto", "apo_zero_unpaired"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DpoOptions:
    """Direct preference optimisation (arXiv 2305.18290).

    Args:
        beta: How strongly the model is held to what it was; the larger, the less it moves.
        loss: What becomes of the difference of the two log-ratios. `sigmoid` is the paper's;
            `sigmoid_norm` takes them per token, so that length says nothing; `ipo` (2310.12036)
            resists overfitting to pairs that are never contradicted; `robust` (2403.00409) expects
            a share of wrong pairs, given as `label_smoothing`; `apo_zero` and `apo_down`
            (2408.06266) raise, or lower, both answers; `exo_pair` (2402.00856) needs
            `label_smoothing` too.
        label_smoothing: Share of pairs that are the wrong way round; for `robust` and `exo_pair`.
        sft_weight: Weight of an additional loss that imitates the chosen answer, which keeps its
            likelihood from falling along with the other's (RPO, 2404.19733, takes 1).
    """

    beta: float = 0.1
    loss: DpoLoss = "sigmoid"
    label_smoothing: float = 0.0
    sft_weight: float = 0.0

    def __post_init__(self) -> None:
        _require_positive("beta", self.beta)
        if not 0 <= self.label_smoothing < 0.5:
            raise InvalidSettings(
                f"a label_smoothing of {self.label_smoothing} says that most pairs are wrong",
                hint="give a share from 0 up to, but not including, 0.5",
            )
        if self.loss == "exo_pair" and not self.label_smoothing:
            raise InvalidSettings("exo_pair needs label_smoothing", hint="its paper takes 0.001")


@dataclass(frozen=True, slots=True, kw_only=True)
class KtoOptions:
    """Kahneman-Tversky optimisation: single answers, liked or not (arXiv 2402.01306).

    Args:
        beta: How strongly the model is held to what it was.
        loss: The paper's, or `apo_zero_unpaired` (2408.06266), which needs no estimate of the
            model's drift and so no second answer in a batch.
        liked_weight: Weight of answers that are liked. None evens the two kinds out: the rarer one
            weighs as much more as it is rarer, which is equation 8 of the paper.
        disliked_weight: Of the others, likewise.
    """

    beta: float = 0.1
    loss: KtoLoss = "kto"
    liked_weight: float | None = None
    disliked_weight: float | None = None

    def __post_init__(self) -> None:
        _require_positive("beta", self.beta)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrpoOptions:
    """Odds-ratio preference optimisation: imitation and preference at once (arXiv 2403.07691).

    Args:
        beta: Weight of the preference beside the imitation, the paper's lambda.
    """

    beta: float = 0.1

    def __post_init__(self) -> None:
        _require_positive("beta", self.beta)


PreferenceOptions: TypeAlias = DpoOptions | KtoOptions | OrpoOptions


def make_trainer(job: Job, options: PreferenceOptions) -> Any:
    """A trainer for the method whose options these are, LoRA attached; not yet run.

    Raises:
        InvalidData: The samples are of another method.
        InvalidSettings: LoRA's dropout is on, or a batch is too small for KTO.
        MissingExtra: The training packages are not installed.
    """
    match options:
        case DpoOptions():
            return _dpo_trainer(job, options)
        case KtoOptions():
            return _kto_trainer(job, options)
        case OrpoOptions():
            return _orpo_trainer(job, options)


def pair_columns(data: PreparedData) -> Columns:
    """Pairs as DPO's collator takes them."""
    samples = samples_of(data, PreferenceSample)
    return {
        "prompt_ids": [list(sample.prompt) for sample in samples],
        "chosen_ids": [list(sample.chosen) for sample in samples],
        "rejected_ids": [list(sample.rejected) for sample in samples],
    }


def label_columns(samples: Sequence[LabelSample], *, batch_size: int) -> Columns:
    """Answers as KTO's collator takes them, each with another answer of its batch.

    How likely the model thinks answers to other prompts says how far it has drifted.
    """
    return {
        "prompt_ids": [list(sample.prompt) for sample in samples],
        "completion_ids": [list(sample.completion) for sample in samples],
        "KL_completion_ids": [
            list(samples[i].completion) for i in _neighbours(len(samples), batch_size)
        ],
        "label": [sample.label for sample in samples],
    }


def label_weights(samples: Sequence[LabelSample], options: KtoOptions) -> tuple[float, float]:
    """Weights of liked and of disliked answers."""
    n_liked = sum(sample.label for sample in samples)
    n_disliked = len(samples) - n_liked
    most = max(n_liked, n_disliked)
    liked, disliked = (most / n if n else 1.0 for n in (n_liked, n_disliked))
    return (
        liked if options.liked_weight is None else options.liked_weight,
        disliked if options.disliked_weight is None else options.disliked_weight,
    )


def odds_columns(data: PreparedData) -> Columns:
    """Pairs as ORPO's collator takes them."""
    samples = samples_of(data, PreferenceSample)
    columns: dict[str, Sequence[object]] = {}
    for side in ("chosen", "rejected"):
        answers = [getattr(sample, side) for sample in samples]
        texts = [[*s.prompt, *answer] for s, answer in zip(samples, answers, strict=True)]
        columns[f"{side}_input_ids"] = texts
        columns[f"{side}_attention_mask"] = [[1] * len(text) for text in texts]
        columns[f"{side}_labels"] = [
            [IGNORED] * len(sample.prompt) + list(answer)
            for sample, answer in zip(samples, answers, strict=True)
        ]
    return columns


def _dpo_trainer(job: Job, options: DpoOptions) -> Any:
    trl = import_extra("trl", extra="train")
    losses = {str(options.loss): 1.0}
    if options.sft_weight:
        losses["sft"] = options.sft_weight
    config = trl.DPOConfig(
        **job.arguments,
        beta=options.beta,
        loss_type=list(losses),
        loss_weights=list(losses.values()),
        label_smoothing=options.label_smoothing,
        max_length=None,
        precompute_ref_log_probs=job.peft_config is None,
    )
    return build_trainer(tokenised(trl.DPOTrainer), config, job, pair_columns)


def _kto_trainer(job: Job, options: KtoOptions) -> Any:
    trl = import_extra("trl", extra="train")
    liked, disliked = label_weights(samples_of(job.train, LabelSample), options)
    config = trl.KTOConfig(
        **job.arguments | {"train_sampling_strategy": "sequential"},
        beta=options.beta,
        loss_type=options.loss,
        desirable_weight=liked,
        undesirable_weight=disliked,
        max_length=None,
        precompute_ref_log_probs=job.peft_config is None,
    )
    batch_size = config.per_device_train_batch_size
    if options.loss == "kto" and batch_size < 2:
        raise InvalidSettings(
            "KTO estimates the model's drift from other answers of a batch, and this batch has one",
            hint="let batch_size be 2 or more, or the loss apo_zero_unpaired",
        )

    def columns(data: PreparedData) -> Columns:
        samples = list(samples_of(data, LabelSample))
        # TRL walks the rows in their order, which keeps answers that are compared in one batch.
        Random(config.seed).shuffle(samples)  # noqa: S311 - an order, no secret
        return label_columns(samples, batch_size=batch_size)

    return build_trainer(tokenised(trl.KTOTrainer), config, job, columns)


def _orpo_trainer(job: Job, options: OrpoOptions) -> Any:
    orpo = _import_orpo()
    config = orpo.ORPOConfig(
        **job.arguments | {"remove_unused_columns": False},
        beta=options.beta,
        max_length=job.max_length,
    )
    return build_trainer(_orpo_class(tokenised(orpo.ORPOTrainer)), config, job, odds_columns)


def _orpo_class(base: Any) -> Any:
    class OrpoTrainer(base):  # type: ignore[misc]
        @staticmethod
        def tokenize_row(*_: Any, **__: Any) -> dict[str, Any]:
            return {}

        # TRL imitates the prompt too; what a user said is nothing to learn here.
        def concatenated_forward(self, model: Any, batch: Mapping[str, Any]) -> tuple[Any, ...]:
            chosen, rejected, *logits, _ = super().concatenated_forward(model, batch)
            n_tokens = (batch["chosen_labels"][:, 1:] != IGNORED).sum(-1)
            return chosen, rejected, *logits, -(chosen * n_tokens).sum() / n_tokens.sum()

    return OrpoTrainer


def _neighbours(n: int, batch_size: int) -> list[int]:
    """For each row the one before it in its batch, the first of a batch taking the last.

    A row that is alone in the last batch takes the one before it, since its own would be no other.
    """
    found = []
    for first in range(0, n, batch_size):
        last = min(first + batch_size, n) - 1
        found += [max(last if last > first else first - 1, 0), *range(first, last)]
    return found


def _import_orpo() -> Any:
    import_extra("trl", extra="train")
    with warnings.catch_warnings():
        # Whatever lies in this folder of TRL's warns that it is experimental.
        warnings.simplefilter("ignore")
        return import_extra("trl.experimental.orpo", extra="train")


def _require_positive(name: str, value: float) -> None:
    if value <= 0:
        raise InvalidSettings(f"{name} is {value}, and has to be above 0")
