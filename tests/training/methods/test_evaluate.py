"""Perplexity, accuracy on pairs, and the verdict on what became of a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from qwenkit.errors import InvalidData
from qwenkit.training.data.samples import LabelSample, PreparedData, PromptSample, Sample
from qwenkit.training.evaluate import Evaluation, compare, evaluate
from qwenkit.training.reading import Text, log_likelihoods

TALK = [
    {"prompt": "What is qwenkit?", "completion": "A toolkit that serves and teaches Qwen3."},
    {"prompt": "2 + 3 = ?", "completion": "5"},
    {"prompt": "Tell me a story about a cat.", "completion": "Once there was a cat. " * 5},
]
PAIRS = [
    {"prompt": "2 + 3 = ?", "chosen": "5", "rejected": "Seven purple cats."},
    {"prompt": "What is qwenkit?", "chosen": "Zzz qq xx.", "rejected": "A toolkit."},
]


def of(*samples: Any) -> PreparedData:
    return PreparedData(samples, (), len(samples), "", "")


def loss_by_transformers(model: Any, ids: Any, learned: Any) -> tuple[float, int]:
    """Summed loss of one text as transformers computes it, and over how many tokens."""
    torch = pytest.importorskip("torch")
    labels = [token if flag else -100 for token, flag in zip(ids, learned, strict=True)]
    with torch.no_grad():
        loss = model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss.item()
    return loss * sum(learned), sum(learned)


@pytest.mark.parity
def test_perplexity_is_that_of_transformers_loss(
    prepare: Callable[..., PreparedData], load_base: Callable[[], Any]
) -> None:
    data, model = prepare("sft", TALK), load_base()
    pairs = [loss_by_transformers(model, s.ids, s.learned) for s in data.samples]
    total, n_tokens = map(sum, zip(*pairs, strict=True))
    found = evaluate(model, data, batch_size=2)
    assert found.n_tokens == n_tokens
    assert found.n_pairs == 0
    assert found.accuracy is None
    assert found.perplexity is not None
    assert math.log(found.perplexity) == pytest.approx(total / n_tokens, rel=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("batch_size", [1, 2, 8])
@pytest.mark.parametrize("max_logits", [1, 5000, 1 << 25])
def test_batches_and_pieces_change_no_likelihood(
    batch_size: int,
    max_logits: int,
    prepare: Callable[..., PreparedData],
    load_base: Callable[[], Any],
) -> None:
    model = load_base()
    texts = [Text(s.ids, s.learned) for s in prepare("sft", TALK).samples]
    found = log_likelihoods(model, texts, batch_size=batch_size, max_logits=max_logits)
    expected = [-loss_by_transformers(model, text.ids, text.learned)[0] for text in texts]
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parity
def test_a_text_in_pieces_is_as_likely_as_its_pieces_together(
    prepare: Callable[..., PreparedData], load_base: Callable[[], Any]
) -> None:
    (sample, *_), model = prepare("sft", TALK).samples, load_base()
    flags = sample.learned
    first = tuple(flag and i % 2 == 0 for i, flag in enumerate(flags))
    second = tuple(flag and i % 2 == 1 for i, flag in enumerate(flags))
    whole, *parts = log_likelihoods(
        model, [Text(sample.ids, each) for each in (flags, first, second)], batch_size=3
    )
    assert whole == pytest.approx(sum(parts), rel=1e-6)


@pytest.mark.parity
def test_pairs_are_won_by_the_summed_log_likelihood(
    prepare: Callable[..., PreparedData], load_base: Callable[[], Any]
) -> None:
    data, model = prepare("dpo", PAIRS), load_base()
    sums = [
        [
            -loss_by_transformers(
                model,
                (*sample.prompt, *answer),
                (False,) * len(sample.prompt) + (True,) * len(answer),
            )[0]
            for answer in (sample.chosen, sample.rejected)
        ]
        for sample in data.samples
    ]
    found = evaluate(model, data)
    assert [chosen > rejected for chosen, rejected in sums] == [True, False]
    assert found.accuracy == 0.5
    assert found.margin == pytest.approx(sum(a - b for a, b in sums) / 2, rel=1e-5)
    assert found.reward_accuracy is None
    n_tokens = sum(len(sample.chosen) for sample in data.samples)
    assert found.n_tokens == n_tokens
    assert found.perplexity == pytest.approx(math.exp(-sum(a for a, _ in sums) / n_tokens), 1e-4)


@pytest.mark.parity
def test_labels_are_paired_where_their_prompts_are_the_same(load_base: Callable[[], Any]) -> None:
    data = of(
        LabelSample((5, 6), (7, 8), True, "a"),
        LabelSample((5, 6), (9,), False, "b"),
        LabelSample((5, 6), (10,), False, "c"),
        LabelSample((6, 5), (9,), False, "d"),
    )
    found = evaluate(load_base(), data)
    assert found.n_pairs == 2
    assert found.n_tokens == 2


@pytest.mark.parity
def test_evaluating_leaves_a_model_as_it_was(
    prepare: Callable[..., PreparedData], load_base: Callable[[], Any]
) -> None:
    data, model = prepare("dpo", PAIRS), load_base().train()
    first = evaluate(model, data)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert evaluate(model, data) == first


@pytest.mark.parity
def test_half_precision_is_measured_too(
    prepare: Callable[..., PreparedData], load_base: Callable[[], Any]
) -> None:
    torch = pytest.importorskip("torch")
    data, model = prepare("sft", TALK), load_base()
    exact = evaluate(model, data).perplexity
    assert evaluate(model.to(torch.bfloat16), data).perplexity == pytest.approx(exact, rel=0.05)


@pytest.mark.parity
def test_prompts_alone_can_not_be_evaluated(load_base: Callable[[], Any]) -> None:
    with pytest.raises(InvalidData, match="prompts"):
        evaluate(load_base(), of(PromptSample((1, 2), [], {}, "a")))


@pytest.mark.parity
def test_a_text_without_targets_has_no_perplexity(load_base: Callable[[], Any]) -> None:
    found = evaluate(load_base(), of(Sample((1, 2), (False, False), "a")))
    assert (found.n_tokens, found.perplexity) == (0, None)


def measured(perplexity: float, accuracy: float | None = None) -> Evaluation:
    return Evaluation(n_tokens=10, perplexity=perplexity, accuracy=accuracy)


@pytest.mark.parametrize(
    ("before", "after", "flagged", "named"),
    [
        (measured(10.0), measured(9.0), False, "10 to 9"),
        (measured(10.0), measured(10.4), False, "perplexity"),
        (measured(10.0), measured(10.6), True, "perplexity went from 10 to 10.6, worse by"),
        (measured(10.0), measured(math.nan), True, "nan"),
        (measured(10.0), measured(math.inf), True, "inf"),
        (measured(10.0, 0.8), measured(8.0, 0.7), True, "accuracy on pairs went from 0.8 to 0.7"),
        (measured(10.0, 0.8), measured(8.0, 0.76), False, "accuracy"),
        (Evaluation(reward=-2.0), Evaluation(reward=-2.2), True, "reward"),
        (Evaluation(reward=-2.0), Evaluation(reward=-1.0), False, "reward"),
        (Evaluation(), Evaluation(), False, "nothing to compare"),
    ],
)
def test_an_adapter_that_got_worse_by_the_margin_is_flagged(
    before: Evaluation, after: Evaluation, flagged: bool, named: str
) -> None:
    verdict = compare(before, after, margin=0.05)
    assert verdict.flagged is flagged
    assert named in verdict.reason


def test_only_what_is_worse_is_named() -> None:
    reason = compare(measured(10.0, 0.5), measured(12.0, 0.9)).reason
    assert "perplexity" in reason
    assert "accuracy" not in reason


def test_evaluations_of_different_samples_are_not_compared() -> None:
    with pytest.raises(InvalidData, match="different samples"):
        compare(measured(1.0), Evaluation(n_tokens=11, perplexity=1.0))
