"""DPO, KTO and ORPO on the demo model, by TRL's trainers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from qwenkit.chat.completion import ChatOptions, collect, stream_chat
from qwenkit.chat.loading import load_chat_model
from qwenkit.errors import InvalidData, InvalidSettings
from qwenkit.settings import ConvertDtype, KvType, ModelSpec
from qwenkit.training.data.samples import LabelSample, PreferenceSample, PreparedData
from qwenkit.training.evaluate import Evaluation, evaluate
from qwenkit.training.job import Job
from qwenkit.training.preference import (
    DpoLoss,
    DpoOptions,
    KtoOptions,
    OrpoOptions,
    PreferenceOptions,
    label_columns,
    label_weights,
    make_trainer,
)

pytestmark = pytest.mark.parity

Prepare = Callable[..., PreparedData]
MakeJob = Callable[..., Job]

PAIRS = [
    {
        "prompt": "What is the capital of France?",
        "chosen": "Paris, by the river.",
        "rejected": "I don't know.",
    },
    {"prompt": "2 + 3 = ?", "chosen": "It is seven.", "rejected": "5"},
    {"prompt": "Say something kind.", "chosen": "No.", "rejected": "You are doing well today!"},
    {"prompt": "What is qwenkit?", "chosen": "A small fish.", "rejected": "A toolkit."},
]
LABELS = [
    {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
    for row in PAIRS
    for side in ("chosen", "rejected")
]


def trained(job: Job, options: PreferenceOptions) -> tuple[Evaluation, Evaluation, Any]:
    """What the model was and became on its own samples, and the trainer."""
    trainer = make_trainer(job, options)
    before = evaluate(trainer.model, job.train)
    trainer.train()
    return before, evaluate(trainer.model, job.train), trainer


def losses(trainer: Any) -> list[float]:
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def lora_of(trainer: Any) -> dict[str, Any]:
    return {
        name: value.detach().clone()
        for name, value in trainer.model.named_parameters()
        if value.requires_grad
    }


@pytest.mark.parametrize(
    ("method", "rows", "options"),
    [
        ("dpo", PAIRS, DpoOptions()),
        ("dpo", PAIRS, DpoOptions(loss="ipo")),
        ("dpo", PAIRS, DpoOptions(loss="robust", label_smoothing=0.1, sft_weight=1.0)),
        ("kto", LABELS, KtoOptions()),
        ("kto", LABELS, KtoOptions(loss="apo_zero_unpaired")),
        ("orpo", PAIRS, OrpoOptions()),
    ],
)
def test_each_method_widens_the_margin_between_the_answers(
    method: str, rows: Any, options: PreferenceOptions, prepare: Prepare, make_job: MakeJob
) -> None:
    job = make_job(prepare(method, rows), per_device_train_batch_size=4)
    before, after, trainer = trained(job, options)
    assert before.n_pairs == len(PAIRS)
    assert before.reward_margin == 0
    assert before.margin is not None
    assert after.margin is not None
    assert after.margin > before.margin + 1
    assert after.reward_accuracy == 1
    assert min(losses(trainer)[1:]) < losses(trainer)[0]


def test_a_batch_holds_the_very_tokens_of_the_samples(prepare: Prepare, make_job: MakeJob) -> None:
    data = prepare("dpo", PAIRS)
    trainer = make_trainer(make_job(data, per_device_train_batch_size=4), DpoOptions())
    batch = next(iter(trainer.get_train_dataloader()))
    rows = [
        ([i for i, seen in zip(ids, mask, strict=True) if seen], sum(learned))
        for ids, mask, learned in zip(
            batch["input_ids"].tolist(),
            batch["attention_mask"].tolist(),
            batch["completion_mask"].tolist(),
            strict=True,
        )
    ]
    expected = [
        ([*sample.prompt, *answer], len(answer))
        for side in ("chosen", "rejected")
        for sample in data.samples
        if isinstance(sample, PreferenceSample)
        for answer in [getattr(sample, side)]
    ]
    assert sorted(rows) == sorted(expected)


def test_orpo_and_kto_batches_hold_the_very_tokens_too(prepare: Prepare, make_job: MakeJob) -> None:
    pairs, labels = prepare("orpo", PAIRS), prepare("kto", LABELS)
    orpo = make_trainer(make_job(pairs, per_device_train_batch_size=4), OrpoOptions())
    batch = next(iter(orpo.get_train_dataloader()))
    for side in ("chosen", "rejected"):
        found = [[token for token in row if token >= 0] for row in batch[f"{side}_labels"].tolist()]
        assert sorted(found) == sorted(list(getattr(sample, side)) for sample in pairs.samples)
    kto = make_trainer(make_job(labels, per_device_train_batch_size=8), KtoOptions())
    batch = next(iter(kto.get_train_dataloader()))
    for name, of_label in (("input_ids", batch["label"].tolist()), ("KL_input_ids", None)):
        mask = batch[name.replace("input_ids", "completion_mask")]
        answers = [row[keep.bool()].tolist() for row, keep in zip(batch[name], mask, strict=True)]
        assert sorted(answers) == sorted(list(sample.completion) for sample in labels.samples)
        if of_label:
            expected = {sample.completion: sample.label for sample in labels.samples}
            assert [expected[tuple(answer)] for answer in answers] == of_label


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_the_dpo_loss_is_the_papers(prepare: Prepare, make_job: MakeJob) -> None:
    torch = pytest.importorskip("torch")
    data = prepare("dpo", PAIRS)
    trainer = make_trainer(make_job(data, per_device_train_batch_size=4), DpoOptions(beta=0.3))
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(
                parameter, std=0.02, generator=torch.Generator().manual_seed(len(parameter))
            )
    batch = next(iter(trainer.get_train_dataloader()))
    found = trainer.compute_loss(trainer.model, batch).item()

    def log_likelihood(prompt: tuple[int, ...], answer: tuple[int, ...]) -> float:
        ids = torch.tensor([[*prompt, *answer]])
        with torch.no_grad():
            logits = trainer.model(input_ids=ids).logits[0].double()
        table = torch.log_softmax(logits, dim=-1)
        places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
        return math.fsum(
            table[place, token].item() for place, token in zip(places, answer, strict=True)
        )

    total = 0.0
    for sample in data.samples:
        gains = []
        for answer in (sample.chosen, sample.rejected):
            with trainer.model.disable_adapter():
                base = log_likelihood(sample.prompt, answer)
            gains.append(log_likelihood(sample.prompt, answer) - base)
        assert abs(gains[0] - gains[1]) > 0.1
        total += math.log1p(math.exp(-0.3 * (gains[0] - gains[1])))
    assert found == pytest.approx(total / len(data.samples), rel=1e-5)


def test_the_orpo_loss_learns_nothing_of_the_prompt(prepare: Prepare, make_job: MakeJob) -> None:
    torch = pytest.importorskip("torch")
    data = prepare("orpo", PAIRS)
    trainer = make_trainer(make_job(data, per_device_train_batch_size=4), OrpoOptions(beta=0.2))
    batch = next(iter(trainer.get_train_dataloader()))
    found = trainer.compute_loss(trainer.model, batch).item()
    costs, odds, n_tokens = 0.0, 0.0, 0
    for sample in data.samples:
        means = []
        for answer in (sample.chosen, sample.rejected):
            ids = torch.tensor([[*sample.prompt, *answer]])
            with torch.no_grad():
                logits = trainer.model(input_ids=ids).logits[0, len(sample.prompt) - 1 : -1]
            table = torch.log_softmax(logits.double(), dim=-1)
            means.append(table.gather(-1, torch.tensor(answer)[:, None]).mean().item())
        ratio = [mean - math.log(-math.expm1(mean)) for mean in means]
        odds += math.log1p(math.exp(ratio[1] - ratio[0]))
        costs -= means[0] * len(sample.chosen)
        n_tokens += len(sample.chosen)
    expected = costs / n_tokens + 0.2 * odds / len(data.samples)
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_reference_is_the_base_itself_and_no_second_copy(
    prepare: Prepare, make_job: MakeJob
) -> None:
    job = make_job(prepare("dpo", PAIRS))
    trainer = make_trainer(job, DpoOptions())
    assert trainer.ref_model is None
    assert trainer.model.get_base_model() is job.model
    names = [name for name, _ in trainer.model.named_parameters() if ".ref." in name]
    assert names == []


@pytest.mark.parametrize(
    ("method", "rows", "options"), [("dpo", PAIRS, DpoOptions()), ("kto", LABELS, KtoOptions())]
)
def test_full_training_keeps_no_second_copy_either(
    method: str, rows: Any, options: PreferenceOptions, prepare: Prepare, make_job: MakeJob
) -> None:
    data = prepare(method, rows)
    job = make_job(data, full=True, learning_rate=1e-4, per_device_train_batch_size=8)
    trainer = make_trainer(job, options)
    assert trainer.ref_model is None
    before = evaluate(trainer.model, job.train)
    trainer.train()
    after = evaluate(trainer.model, job.train)
    at_rest = math.log(2) if method == "dpo" else 0.5
    assert losses(trainer)[0] == pytest.approx(at_rest, abs=1e-4)
    assert after.margin is not None
    assert before.margin is not None
    assert after.margin > before.margin + 1


def test_every_loss_of_dpo_is_one_that_trl_knows(prepare: Prepare, make_job: MakeJob) -> None:
    data = prepare("dpo", PAIRS)
    for loss in get_args(DpoLoss):
        options = DpoOptions(loss=loss, label_smoothing=0.1)
        trainer = make_trainer(make_job(data, max_steps=1), options)
        trainer.train()
        assert math.isfinite(losses(trainer)[0]), loss


@pytest.mark.parametrize(
    ("method", "rows", "options"),
    [
        ("dpo", PAIRS, DpoOptions()),
        ("kto", LABELS, KtoOptions()),
        ("orpo", PAIRS, OrpoOptions()),
    ],
)
def test_mixed_precision_moves_the_model_the_same_way(
    method: str, rows: Any, options: PreferenceOptions, prepare: Prepare, make_job: MakeJob
) -> None:
    job = make_job(prepare(method, rows), max_steps=4, bf16=True, per_device_train_batch_size=4)
    before, after, _ = trained(job, options)
    assert before.margin is not None
    assert after.margin is not None
    assert after.margin > before.margin


def test_checkpointed_activations_change_nothing(prepare: Prepare, make_job: MakeJob) -> None:
    torch = pytest.importorskip("torch")
    data = prepare("dpo", PAIRS)
    results = []
    for checkpointing in (False, True):
        job = make_job(data, max_steps=2, activation_checkpointing=checkpointing)
        _, _, trainer = trained(job, DpoOptions())
        results.append(lora_of(trainer))
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "rows", "options"),
    [
        ("dpo", PAIRS, DpoOptions()),
        ("kto", LABELS, KtoOptions()),
        ("orpo", PAIRS, OrpoOptions()),
    ],
)
def test_a_resumed_run_ends_with_the_very_same_weights(
    method: str,
    rows: Any,
    options: PreferenceOptions,
    prepare: Prepare,
    make_job: MakeJob,
    tmp_path: Path,
) -> None:
    torch = pytest.importorskip("torch")
    data = prepare(method, rows)
    saving = {"save_strategy": "steps", "save_steps": 3, "lr_scheduler_type": "cosine"}
    whole = make_trainer(make_job(data, **saving), options)
    whole.train()
    resumed = make_trainer(make_job(data, **saving, output_dir=str(tmp_path / "b")), options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    expected = lora_of(whole)
    for name, value in lora_of(resumed).items():
        assert torch.equal(value, expected[name]), name
    assert losses(resumed)[-5:] == losses(whole)[-5:]
    assert not list(tmp_path.glob("run/README.md"))


def test_the_trainer_is_prepared_once_the_adapter_is_attached(
    prepare: Prepare, make_job: MakeJob
) -> None:
    seen: list[Any] = []
    job = make_job(prepare("dpo", PAIRS), prepare=seen.append)
    trainer = make_trainer(job, DpoOptions())
    assert seen == [trainer.model]
    assert seen[0].peft_config


def test_dropout_is_refused(prepare: Prepare, make_job: MakeJob) -> None:
    job = make_job(prepare("dpo", PAIRS), dropout=0.1)
    with pytest.raises(InvalidSettings, match="dropout"):
        make_trainer(job, DpoOptions())


def test_samples_of_another_method_are_refused(prepare: Prepare, make_job: MakeJob) -> None:
    job = make_job(prepare("kto", LABELS))
    with pytest.raises(InvalidData, match="LabelSample"):
        make_trainer(job, DpoOptions())


def test_kto_refuses_a_batch_without_another_answer(prepare: Prepare, make_job: MakeJob) -> None:
    job = make_job(prepare("kto", LABELS), per_device_train_batch_size=1)
    with pytest.raises(InvalidSettings, match="batch"):
        make_trainer(job, KtoOptions())
    make_trainer(job, KtoOptions(loss="apo_zero_unpaired"))


def labelled(*labels: bool) -> list[LabelSample]:
    return [LabelSample((1,), (10 + i,), label, f"{i}") for i, label in enumerate(labels)]


@pytest.mark.parametrize("batch_size", [2, 3, 4, 100])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 9])
def test_an_answer_is_never_compared_with_itself(n: int, batch_size: int) -> None:
    columns = label_columns(labelled(*[True] * n), batch_size=batch_size)
    own, others = columns["completion_ids"], columns["KL_completion_ids"]
    assert all(a != b for a, b in zip(own, others, strict=True))
    for first in range(0, n - batch_size + 1, batch_size):
        part = slice(first, first + batch_size)
        assert sorted(map(str, others[part])) == sorted(map(str, own[part]))


def test_the_rarer_kind_of_answer_weighs_more() -> None:
    samples = labelled(True, True, True, False)
    assert label_weights(samples, KtoOptions()) == (1.0, 3.0)
    assert label_weights(samples, KtoOptions(disliked_weight=1.5)) == (1.0, 1.5)
    assert label_weights(labelled(False), KtoOptions()) == (1.0, 1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DpoOptions(beta=0),
        lambda: KtoOptions(beta=-1),
        lambda: OrpoOptions(beta=0),
        lambda: DpoOptions(label_smoothing=0.5),
        lambda: DpoOptions(loss="exo_pair"),
    ],
)
def test_options_that_can_not_be_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(InvalidSettings):
        make()


QUESTION = "What is qwenkit?"
FISH = "A small fish that swims."


async def said(model: Any) -> str:
    options = ChatOptions(enable_thinking=False, sampling={"temperature": 0.0}, max_tokens=40)
    messages = [{"role": "user", "content": QUESTION}]
    return (await collect(stream_chat(model, messages, options=options))).choices[0].text


@pytest.mark.anyio
async def test_dpo_flips_a_preference_that_the_engine_then_has(
    prepare: Prepare, make_job: MakeJob, tmp_path: Path
) -> None:
    spec = ModelSpec(
        qwenkit_home=tmp_path / "home",
        convert_dtype=ConvertDtype.F32,
        kv_type=KvType.F32,
        n_ctx=512,
        n_parallel=2,
        n_threads=1,
    )
    model = load_chat_model(spec)
    try:
        habit = await said(model)
        assert habit
        assert habit != FISH
        rows = [
            {
                "prompt": [{"role": "user", "content": QUESTION}],
                "chosen": [{"role": "assistant", "content": FISH}],
                "rejected": [{"role": "assistant", "content": habit}],
            }
        ]
        data = prepare("dpo", rows, empty_thinking="given")
        job = make_job(data, max_steps=40, per_device_train_batch_size=1)
        before, after, trainer = trained(job, DpoOptions(sft_weight=1.0))
        assert (before.accuracy, after.accuracy) == (0, 1)
        trainer.save_model(str(tmp_path / "adapter"))
        adapter = await model.engine.adapters.load("fish", tmp_path / "adapter")
        assert await said(model.with_adapter(adapter)) == FISH
        assert await said(model) == habit
    finally:
        model.engine.close()
