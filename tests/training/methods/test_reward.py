"""A reward model of the demo model, trained, saved, loaded and asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qwenkit.errors import AdapterUnsupported, InvalidData, ModelNotFound
from qwenkit.training.data.samples import PreparedData
from qwenkit.training.evaluate import evaluate
from qwenkit.training.job import Job
from qwenkit.training.judge import load_judge, load_reward_model
from qwenkit.training.preference import DpoOptions
from qwenkit.training.preference import make_trainer as make_dpo_trainer
from qwenkit.training.reading import is_reward_model, scores
from qwenkit.training.reward import RewardOptions, add_head, make_trainer
from qwenkit.training.rewards import Answer

pytestmark = pytest.mark.parity

Prepare = Callable[..., PreparedData]
MakeJob = Callable[..., Job]


def pairs(*subjects: str) -> list[dict[str, str]]:
    return [
        {
            "prompt": f"Tell me about {subject}.",
            "chosen": f"Gladly! I like to talk about {subject}.",
            "rejected": f"No. I don't care for {subject}.",
        }
        for subject in subjects
    ]


KNOWN = pairs("cats", "rain", "bread", "music", "stones", "the sea")
UNKNOWN = pairs("dogs", "snow", "cheese", "silence")


def trained(job: Job) -> Any:
    trainer = make_trainer(job, RewardOptions())
    trainer.train()
    return trainer


def test_it_ranks_pairs_that_it_has_not_seen(prepare: Prepare, make_job: MakeJob) -> None:
    job = make_job(prepare("reward", KNOWN), learning_rate=1e-3, max_steps=15)
    held_out = prepare("reward", UNKNOWN)
    trainer = make_trainer(job, RewardOptions())
    before = evaluate(trainer.model, held_out)
    trainer.train()
    after = evaluate(trainer.model, held_out)
    assert (after.n_pairs, after.accuracy, after.perplexity) == (4, 1, None)
    assert before.margin is not None
    assert after.margin is not None
    assert after.margin > before.margin + 1


def test_a_batch_holds_the_very_tokens_of_the_samples(prepare: Prepare, make_job: MakeJob) -> None:
    data = prepare("reward", KNOWN)
    trainer = make_trainer(make_job(data, per_device_train_batch_size=6), RewardOptions())
    batch = next(iter(trainer.get_train_dataloader()))
    rows = [
        row[seen.bool()].tolist()
        for row, seen in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    expected = [[*s.prompt, *answer] for s in data.samples for answer in (s.chosen, s.rejected)]
    assert sorted(rows) == sorted(expected)


def test_the_loss_is_that_of_bradley_and_terry(prepare: Prepare, make_job: MakeJob) -> None:
    torch = pytest.importorskip("torch")
    data = prepare("reward", KNOWN)
    job = make_job(data, per_device_train_batch_size=6)
    trainer = make_trainer(job, RewardOptions(center=0.5))
    batch = next(iter(trainer.get_train_dataloader()))
    found = trainer.compute_loss(trainer.model, dict(batch)).item()
    sides = [
        torch.tensor(
            scores(
                trainer.model,
                [(*s.prompt, *getattr(s, side)) for s in data.samples],
                batch_size=1,
            )
        )
        for side in ("chosen", "rejected")
    ]
    expected = torch.nn.functional.softplus(sides[1] - sides[0]).mean()
    expected += 0.5 * (sides[0] + sides[1]).square().mean()
    assert found == pytest.approx(expected.item(), rel=1e-5)


def test_it_stands_on_the_very_weights_of_its_base(load_base: Callable[[], Any]) -> None:
    base = load_base()
    model = add_head(base, seed=1)
    assert is_reward_model(model)
    assert not is_reward_model(base)
    assert model.model is base.model
    assert not any(parameter.is_meta for parameter in model.parameters())
    assert add_head(base, seed=1).score.weight.equal(model.score.weight)
    assert not add_head(base, seed=2).score.weight.equal(model.score.weight)


def test_a_head_scores_what_a_base_in_half_precision_computed(
    load_base: Callable[[], Any],
) -> None:
    torch = pytest.importorskip("torch")
    texts = [(5, 6, 7), (8, 9)]
    (exact,) = scores(add_head(load_base(), seed=1), texts[:1], batch_size=2)
    model = add_head(load_base().to(torch.bfloat16), seed=1)
    assert model.score.weight.dtype == torch.float32
    assert scores(model, texts, batch_size=2)[0] == pytest.approx(exact, abs=0.05)


def test_its_adapter_judges_answers_as_it_did_itself(
    prepare: Prepare, make_job: MakeJob, load_base: Callable[[], Any], tmp_path: Path
) -> None:
    data = prepare("reward", UNKNOWN)
    trainer = trained(make_job(prepare("reward", KNOWN), max_steps=4))
    folder = tmp_path / "adapter"
    trainer.save_model(str(folder))
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert "score" in config["modules_to_save"]
    assert config["task_type"] == "SEQ_CLS"
    texts = [(*s.prompt, *s.chosen) for s in data.samples]
    expected = scores(trainer.model, texts, batch_size=4)
    base = load_base()
    judge = load_judge(folder, base, batch_size=3)
    answers = [
        Answer(
            text="",
            reasoning="",
            raw="",
            ids=s.chosen,
            is_finished=True,
            prompt=s.prompt,
            messages=[],
            fields={},
            place=s.place,
        )
        for s in data.samples
    ]
    assert judge(answers) == pytest.approx(expected, abs=1e-5)
    found = evaluate(load_reward_model(folder, load_base()), data)
    assert found.margin == pytest.approx(evaluate(trainer.model, data).margin, abs=1e-5)


def test_a_judge_leaves_the_base_that_it_shares_alone(
    prepare: Prepare, make_job: MakeJob, load_base: Callable[[], Any], tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    trained(make_job(prepare("reward", KNOWN), max_steps=1)).save_model(str(tmp_path / "adapter"))
    base, ids = load_base(), torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        expected = base(input_ids=ids).logits
    names = [name for name, _ in base.named_parameters()]
    load_judge(tmp_path / "adapter", base, batch_size=2)
    with torch.no_grad():
        assert base(input_ids=ids).logits.equal(expected)
    assert [name for name, _ in base.named_parameters()] == names


def test_what_is_no_reward_model_is_no_judge(
    prepare: Prepare, make_job: MakeJob, load_base: Callable[[], Any], tmp_path: Path
) -> None:
    with pytest.raises(ModelNotFound):
        load_judge(tmp_path / "nothing", load_base(), batch_size=1)
    trainer = make_dpo_trainer(make_job(prepare("dpo", KNOWN)), DpoOptions())
    trainer.save_model(str(tmp_path / "dpo"))
    with pytest.raises(AdapterUnsupported, match="no reward model"):
        load_judge(tmp_path / "dpo", load_base(), batch_size=1)


def test_it_is_measured_on_pairs_only(load_base: Callable[[], Any], prepare: Prepare) -> None:
    data = prepare("sft", [{"prompt": "2 + 3 = ?", "completion": "5"}])
    with pytest.raises(InvalidData, match="pairs"):
        evaluate(add_head(load_base(), seed=0), data)


def test_a_resumed_run_ends_with_the_very_same_weights(
    prepare: Prepare, make_job: MakeJob, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    data = prepare("reward", KNOWN)
    saving = {"save_strategy": "steps", "save_steps": 2, "max_steps": 5}
    whole = trained(make_job(data, **saving))
    job = make_job(data, **saving, output_dir=str(tmp_path / "b"))
    resumed = make_trainer(job, RewardOptions())
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    expected = dict(whole.model.named_parameters())
    for name, value in resumed.model.named_parameters():
        assert torch.equal(value, expected[name]), name
