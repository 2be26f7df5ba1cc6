"""Imitation: what rows become, and that no sample of a row sees another."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from qwenkit.models.demo import DEMO_DIR
from qwenkit.training.data.samples import PreparedData, Sample
from qwenkit.training.sft import RowCollator, row_columns
from qwenkit.training.tokenised import IGNORED

pytestmark = pytest.mark.parity

LENGTHS = (17, 5, 40, 9, 23)


def prepared(*samples: Sample) -> PreparedData:
    return PreparedData(samples, (), len(samples), "0123456", "abcdef")


@pytest.fixture
def data() -> PreparedData:
    chance = Random(0)
    return prepared(
        *(
            Sample(
                tuple(chance.randrange(900) for _ in range(n)),
                (False,) * (n // 2) + (True,) * (n - n // 2),
                str(n),
            )
            for n in LENGTHS
        )
    )


@pytest.fixture(scope="module")
def model() -> Any:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(
        DEMO_DIR, dtype=torch.float32, attn_implementation="sdpa"
    )


def rows_of(data: PreparedData, length: int | None) -> list[dict[str, Any]]:
    columns = row_columns(data, length=length)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def learn(model: Any, batches: list[list[dict[str, Any]]]) -> tuple[float, dict[str, Any]]:
    """Loss a target, and its gradients, of batches taken together."""
    import torch

    model.zero_grad()
    made = [RowCollator(pad_id=0)(batch) for batch in batches]
    n_targets = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in made)
    total = 0.0
    for batch in made:
        labels = batch.pop("labels")[:, 1:].flatten()
        logits = model(**batch, use_cache=False).logits[:, :-1].flatten(0, 1)
        loss = (
            torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
            / n_targets
        )
        loss.backward()
        total += loss.item()
    return total, {name: each.grad.clone() for name, each in model.named_parameters()}


@pytest.mark.parametrize(
    "arrange",
    [
        lambda data: [rows_of(data, None)],
        lambda data: [[row] for row in rows_of(data, 64)],
        lambda data: [rows_of(data, 64)],
        lambda data: [rows_of(data, sum(LENGTHS))],
    ],
    ids=["padded", "packed", "packed and padded", "all in one row"],
)
def test_samples_that_share_a_batch_or_a_row_learn_what_they_learn_alone(
    model: Any, data: PreparedData, arrange: Any
) -> None:
    alone = learn(model, [[row] for row in rows_of(data, None)])
    together = learn(model, arrange(data))
    assert together[0] == pytest.approx(alone[0], abs=1e-5)
    for name, gradient in alone[1].items():
        assert (together[1][name] - gradient).abs().max() < 1e-5, name


def test_only_what_is_learned_has_a_label() -> None:
    (row,) = rows_of(prepared(Sample((7, 8, 9), (False, False, True), "x")), None)
    assert row["labels"] == [IGNORED, IGNORED, 9]


def test_the_first_token_of_a_packed_sample_is_no_target_and_positions_begin_anew() -> None:
    data = prepared(Sample((1, 2, 3), (True,) * 3, "a"), Sample((4, 5), (True,) * 2, "b"))
    (row,) = rows_of(data, 8)
    batch = RowCollator(pad_id=0)(
        [row, {"input_ids": [6] * 7, "labels": [6] * 7, "seq_lengths": [7]}]
    )
    assert row["labels"] == [IGNORED, 2, 3, IGNORED, 5]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6]]
    assert batch["labels"][0].tolist() == [IGNORED, 2, 3, IGNORED, 5, IGNORED, IGNORED]
    assert "attention_mask" not in batch
