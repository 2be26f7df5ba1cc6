"""How good a model is at given samples, in numbers, and whether it became worse at them.

- **Perplexity** is the exponential of the mean negative log-likelihood of the learned tokens, each
  of them counted once. Of pairs it is over the chosen answers, of labels over the liked ones.
- **Accuracy** is the share of pairs of which the model finds the chosen answer more likely. An
  answer's log-likelihood is the *sum* over its tokens, its end included. By the *mean* it is given
  too, since a sum prefers short answers. A reward model's accuracy is by its scores.
- **Reward accuracy** is the same of the implicit reward of DPO: by how much the adapter raises an
  answer's summed log-likelihood. It is known of a model with an adapter only.

A tie counts half. Samples with a label are paired where a liked and a disliked answer have the same
prompt. Knows samples and torch models; nothing of files.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qwenkit.errors import InvalidData
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.training.data.samples import LabelSample, PreferenceSample, PreparedData, Sample
from qwenkit.training.reading import (
    Text,
    adapter_off,
    continuation,
    has_adapter,
    is_reward_model,
    log_likelihoods,
    scores,
)

Pairs = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured; None where there was nothing to measure.

    Args:
        n_tokens: Learned tokens behind the perplexity.
        perplexity: Of the learned tokens.
        n_pairs: Pairs of answers.
        accuracy: Share of pairs with the chosen answer more likely, or scored higher.
        margin: By how much on average, in nats, or in scores.
        accuracy_per_token: The same by mean log-likelihood.
        reward_accuracy: Share of pairs of which the adapter raised the chosen answer more.
        reward_margin: By how much on average, in nats: the implicit reward without its beta.
        n_answers: Answers that were generated and judged.
        reward: What reward functions gave them on average.
    """

    n_tokens: int = 0
    perplexity: float | None = None
    n_pairs: int = 0
    accuracy: float | None = None
    margin: float | None = None
    accuracy_per_token: float | None = None
    reward_accuracy: float | None = None
    reward_margin: float | None = None
    n_answers: int = 0
    reward: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something became worse.

    Args:
        flagged: It did, by more than the margin.
        reason: One sentence with the numbers.
    """

    flagged: bool
    reason: str


def evaluate(
    model: Any,
    data: PreparedData,
    *,
    batch_size: int = 8,
    progress: ProgressFactory = silent,
) -> Evaluation:
    """Measure a model on samples.

    Args:
        model: A torch model with or without an adapter; a causal language model, or a reward model.
        data: The samples.
        batch_size: Texts in one pass.
        progress: Counts texts.

    Raises:
        InvalidData: The samples are prompts without answers, or not pairs for a reward model.
    """
    texts, pairs = _read(data)
    if is_reward_model(model):
        if not pairs:
            raise InvalidData("a reward model is measured on pairs, and the data holds none")
        found = scores(
            model, [text.ids for text in texts], batch_size=batch_size, progress=progress
        )
        return _of_pairs(found, pairs)
    found = log_likelihoods(model, texts, batch_size=batch_size, progress=progress)
    before = None
    if pairs and has_adapter(model):
        with adapter_off(model):
            before = log_likelihoods(
                model,
                texts,
                batch_size=batch_size,
                progress=progress,
                description="evaluating without the adapter",
            )
    return _of_texts(texts, found, before, pairs, _imitated(data))


def compare(before: Evaluation, after: Evaluation, *, margin: float = 0.05) -> Verdict:
    """Judge what became of a model.

    Args:
        before: Of the base.
        after: Of the base with the adapter, on the same samples.
        margin: How much worse is too much: a share of the perplexity and of the reward, and a
            share of pairs.

    Raises:
        InvalidData: They were measured on different samples.
    """
    counts = ("n_tokens", "n_pairs", "n_answers")
    if any(getattr(before, name) != getattr(after, name) for name in counts):
        raise InvalidData("the two evaluations are of different samples")
    worse, news = [], []
    for what, old, new, limit, is_cost in _measures(before, after, margin):
        sentence = f"{what} went from {old:.4g} to {new:.4g}"
        news.append(sentence)
        # Written so that a value that is not a number is worse.
        if not (new <= limit if is_cost else new >= limit):
            worse.append(f"{sentence}, worse by more than {margin:.0%}")
    return Verdict(bool(worse), "; ".join(worse or news) or "there was nothing to compare")


def _measures(
    before: Evaluation, after: Evaluation, margin: float
) -> list[tuple[str, float, float, float, bool]]:
    """Name, before, after, the worst that is well, and whether less is better."""
    found = []
    if before.perplexity is not None and after.perplexity is not None:
        limit = before.perplexity * (1 + margin)
        found.append(("perplexity", before.perplexity, after.perplexity, limit, True))
    if before.accuracy is not None and after.accuracy is not None:
        limit = before.accuracy - margin
        found.append(("accuracy on pairs", before.accuracy, after.accuracy, limit, False))
    if before.reward is not None and after.reward is not None:
        limit = before.reward - margin * abs(before.reward)
        found.append(("the mean reward", before.reward, after.reward, limit, False))
    return found


def _read(data: PreparedData) -> tuple[list[Text], Pairs]:
    """All texts, and which two of them are the chosen and the rejected answer to one prompt."""
    texts: list[Text] = []
    pairs: list[tuple[int, int]] = []
    by_prompt: dict[tuple[int, ...], tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for sample in data.samples:
        match sample:
            case Sample(ids, learned):
                texts.append(Text(ids, learned))
            case PreferenceSample(prompt, chosen, rejected):
                pairs.append((len(texts), len(texts) + 1))
                texts += [continuation(prompt, chosen), continuation(prompt, rejected)]
            case LabelSample(prompt, completion, label):
                by_prompt[prompt][0 if label else 1].append(len(texts))
                texts.append(continuation(prompt, completion))
            case _:
                raise InvalidData(
                    "prompts without answers can't be evaluated: there is nothing to find likely",
                    hint="evaluate with rewards, or on samples that hold answers",
                )
    pairs += [(i, j) for liked, others in by_prompt.values() for i in liked for j in others]
    return texts, pairs


def _imitated(data: PreparedData) -> list[bool]:
    """For each text whether perplexity is over it."""
    found: list[bool] = []
    for sample in data.samples:
        match sample:
            case PreferenceSample():
                found += [True, False]
            case LabelSample(label=label):
                found.append(label)
            case _:
                found.append(True)
    return found


def _of_texts(
    texts: Sequence[Text],
    found: Sequence[float],
    before: Sequence[float] | None,
    pairs: Pairs,
    imitated: Sequence[bool],
) -> Evaluation:
    n_tokens = sum(text.n_learned for text, wanted in zip(texts, imitated, strict=True) if wanted)
    total = math.fsum(value for value, wanted in zip(found, imitated, strict=True) if wanted)
    perplexity = _exp(-total / n_tokens) if n_tokens else None
    if not pairs:
        return Evaluation(n_tokens=n_tokens, perplexity=perplexity)
    means = [value / text.n_learned for value, text in zip(found, texts, strict=True)]
    gains = [value - old for value, old in zip(found, before, strict=True)] if before else None
    return Evaluation(
        n_tokens=n_tokens,
        perplexity=perplexity,
        n_pairs=len(pairs),
        accuracy=_accuracy(found, pairs),
        margin=_margin(found, pairs),
        accuracy_per_token=_accuracy(means, pairs),
        reward_accuracy=_accuracy(gains, pairs) if gains else None,
        reward_margin=_margin(gains, pairs) if gains else None,
    )


def _of_pairs(found: Sequence[float], pairs: Pairs) -> Evaluation:
    return Evaluation(
        n_pairs=len(pairs), accuracy=_accuracy(found, pairs), margin=_margin(found, pairs)
    )


def _accuracy(values: Sequence[float], pairs: Pairs) -> float:
    won = sum((values[i] > values[j]) + 0.5 * (values[i] == values[j]) for i, j in pairs)
    return won / len(pairs)


def _margin(values: Sequence[float], pairs: Pairs) -> float:
    return math.fsum(values[i] - values[j] for i, j in pairs) / len(pairs)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
