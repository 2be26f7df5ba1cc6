"""GRPO on the demo model: it answers, is judged, and learns."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import pytest

from qwenkit.errors import InvalidData, InvalidSettings
from qwenkit.training.answers import generate_answers, open_reader
from qwenkit.training.data.samples import PreparedData, PromptSample
from qwenkit.training.evaluate import compare
from qwenkit.training.grpo import GrpoLoss, GrpoOptions, make_trainer
from qwenkit.training.job import Job
from qwenkit.training.reward import RewardOptions
from qwenkit.training.reward import make_trainer as make_reward_trainer

pytestmark = pytest.mark.parity

Prepare = Callable[..., PreparedData]
MakeJob = Callable[..., Job]

PROMPTS = [
    {"prompt": "2 + 3 = ?", "answer": "5"},
    {"prompt": "What is qwenkit?", "answer": "toolkit"},
    {"prompt": "Tell me a story about a cat.", "answer": "cat"},
    {"prompt": "Who are you?", "answer": "qwenkit"},
    {"prompt": "Say hello.", "answer": "hello"},
]
VARIED = "return sum(answer.ids) % 7"
"""A reward that has no two answers alike."""
BATCH = {"per_device_train_batch_size": 8}


def options(*rewards: str, **fields: Any) -> GrpoOptions:
    known: dict[str, Any] = {"n_answers": 4, "max_new_tokens": 16, "temperature": 2.0}
    return GrpoOptions(rewards=rewards, **known | fields)


def rewards_of(trainer: Any) -> list[float]:
    return [line["reward"] for line in trainer.state.log_history if "reward" in line]


def own_reward(folder: Path, body: str) -> str:
    path = folder / "own_rewards.py"
    path.write_text(f"def judge(answer):\n    {body}\n", encoding="utf-8")
    return f"{path}:judge"


def test_the_mean_reward_rises(prepare: Prepare, make_job: MakeJob, tmp_path: Path) -> None:
    reward = own_reward(tmp_path, "return answer.text.lower().count('e') / 10")
    data = prepare("grpo", PROMPTS, empty_thinking="given")
    job = make_job(data, max_steps=16, learning_rate=5e-3, **BATCH)
    chosen = options(reward)
    trainer = make_trainer(job, chosen)
    before = trainer.measure(data)
    trainer.train()
    after = trainer.measure(data)
    earned = rewards_of(trainer)
    assert fmean(earned[-4:]) > fmean(earned[:4]) + 0.05
    assert after.reward > before.reward
    assert not compare(before, after).flagged
    assert compare(after, before).flagged


def test_answers_follow_the_very_tokens_of_the_samples(prepare: Prepare, make_job: MakeJob) -> None:
    data, held_out = prepare("grpo", PROMPTS), prepare("grpo", PROMPTS[:1])
    trainer = make_trainer(make_job(data, held_out=held_out, **BATCH), options("json"))
    rows = next(iter(trainer.get_train_dataloader()))
    numbers = [row["prompt"] for row in rows]
    ids, _, _ = trainer._tokenize_prompts(numbers)
    expected = [list(data.samples[number].prompt) for number in numbers]
    assert ids == expected
    assert len(ids) == 8
    (row,) = next(iter(trainer.get_eval_dataloader()))
    assert trainer._tokenize_prompts([row["prompt"]])[0] == [list(held_out.samples[0].prompt)]


def test_a_reward_sees_the_row_and_what_was_generated(
    prepare: Prepare, make_job: MakeJob, tmp_path: Path
) -> None:
    seen = tmp_path / "seen.jsonl"
    reward = own_reward(
        tmp_path,
        "import json, pathlib\n"
        f"    with pathlib.Path({str(seen)!r}).open('a', encoding='utf-8') as file:\n"
        "        told = (answer.place, answer.fields['answer'], len(answer.ids),\n"
        "                answer.is_finished, answer.text, answer.messages)\n"
        "        file.write(json.dumps(told) + '\\n')\n"
        "    return 1",
    )
    data = prepare("grpo", PROMPTS[:1], empty_thinking="given")
    job = make_job(data, max_steps=1, per_device_train_batch_size=4)
    trainer = make_trainer(job, options(reward, "json"))
    trainer.train()
    lines = [json.loads(line) for line in seen.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 4
    for place, answer, n_tokens, is_finished, text, messages in lines:
        assert place.endswith(":1")
        assert answer == "5"
        assert 1 <= n_tokens <= 16
        assert is_finished or n_tokens == 16
        assert "<|im_end|>" not in text
        assert messages[-1]["content"] == "2 + 3 = ?"
    (line,) = (line for line in trainer.state.log_history if "reward" in line)
    assert line[f"rewards/{reward}/mean"] == 1
    assert line["reward"] == pytest.approx(1 + line["rewards/json/mean"])


def test_weights_are_those_of_the_words(prepare: Prepare, make_job: MakeJob) -> None:
    job = make_job(prepare("grpo", PROMPTS), max_steps=1, **BATCH)
    trainer = make_trainer(job, options("0.25*length:1-16", "length:1-16"))
    trainer.train()
    assert rewards_of(trainer) == [1.25]


def test_the_same_seed_draws_the_same_answers(
    prepare: Prepare, make_job: MakeJob, tmp_path: Path
) -> None:
    data, reward = prepare("grpo", PROMPTS), own_reward(tmp_path, VARIED)
    runs = []
    for seed in (1, 1, 2):
        trainer = make_trainer(make_job(data, max_steps=2, seed=seed, **BATCH), options(reward))
        trainer.train()
        runs.append(rewards_of(trainer) + [line.get("loss") for line in trainer.state.log_history])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize(("beta", "step"), [(0.0, 1), (0.1, 2), (0.0, 3)])
def test_a_resumed_run_ends_with_the_very_same_weights(
    beta: float, step: int, prepare: Prepare, make_job: MakeJob, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    data = prepare("grpo", PROMPTS)
    chosen = options(own_reward(tmp_path, VARIED), "length:1-8", beta=beta)
    saving = {
        "save_strategy": "steps",
        "save_steps": 1,
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
    }
    whole = make_trainer(make_job(data, **saving), chosen)
    whole.train()
    assert all(line["grad_norm"] for line in whole.state.log_history if "grad_norm" in line)
    expected = dict(whole.model.named_parameters())
    resumed = make_trainer(make_job(data, **saving, output_dir=str(tmp_path / "b")), chosen)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / f"checkpoint-{step}"))
    assert resumed.state.epoch == whole.state.epoch == 2
    assert rewards_of(resumed) == rewards_of(whole)
    for name, value in resumed.model.named_parameters():
        assert torch.equal(value, expected[name]), name


def test_a_reward_model_judges(prepare: Prepare, make_job: MakeJob, tmp_path: Path) -> None:
    pairs = [{"prompt": "2 + 3 = ?", "chosen": "5", "rejected": "No."}]
    judge = make_reward_trainer(make_job(prepare("reward", pairs), max_steps=1), RewardOptions())
    judge.train()
    judge.save_model(str(tmp_path / "judge"))
    job = make_job(prepare("grpo", PROMPTS), max_steps=1, **BATCH)
    name = f"judge:{tmp_path / 'judge'}"
    trainer = make_trainer(job, options(name))
    trainer.train()
    (line,) = (line for line in trainer.state.log_history if "reward" in line)
    assert math.isfinite(line["reward"])
    assert line[f"rewards/{name}/std"] > 0


def test_held_out_prompts_are_judged_while_training(prepare: Prepare, make_job: MakeJob) -> None:
    data = prepare("grpo", PROMPTS)
    job = make_job(data, held_out=data, max_steps=1, eval_strategy="steps", eval_steps=1, **BATCH)
    trainer = make_trainer(job, options("length:1-16"))
    trainer.train()
    assert [line["eval_reward"] for line in trainer.state.log_history if "eval_reward" in line] == [
        1
    ]


def test_every_loss_is_one_that_trl_knows(
    prepare: Prepare, make_job: MakeJob, tmp_path: Path
) -> None:
    data, reward = prepare("grpo", PROMPTS), own_reward(tmp_path, VARIED)
    for loss in get_args(GrpoLoss):
        job = make_job(data, max_steps=1, **BATCH)
        trainer = make_trainer(job, options(reward, loss=loss, scale="none", epsilon_high=0.28))
        trainer.train()
        assert trainer.state.log_history[0]["grad_norm"] > 0, loss


def test_groups_have_to_fit_the_batch(prepare: Prepare, make_job: MakeJob) -> None:
    job = make_job(prepare("grpo", PROMPTS), per_device_train_batch_size=3)
    with pytest.raises(InvalidSettings, match="groups of 4"):
        make_trainer(job, options("json"))
    job = make_job(prepare("grpo", PROMPTS[:1]), per_device_train_batch_size=8)
    with pytest.raises(InvalidSettings, match="takes 2 prompts"):
        make_trainer(job, options("json"))


def test_a_reward_without_its_field_is_refused_before_a_step(
    prepare: Prepare, make_job: MakeJob
) -> None:
    job = make_job(prepare("grpo", PROMPTS), max_steps=1, **BATCH)
    with pytest.raises(InvalidData, match="`solution`"):
        make_trainer(job, options("exact:solution"))


def test_generated_tokens_are_cut_into_reasoning_and_answer(load_base: Callable[[], Any]) -> None:
    transformers = pytest.importorskip("transformers")
    from qwenkit.models.demo import DEMO_DIR

    tokenizer = transformers.AutoTokenizer.from_pretrained(DEMO_DIR)
    reader = open_reader(load_base(), tokenizer)

    def read(prompt: str, text: str) -> Any:
        sample = PromptSample(tuple(tokenizer.encode(prompt)), [], {}, "a")
        return reader.read(sample, tokenizer.encode(text))

    whole = read("hi", "<think>\nhm\n</think>\n\n5<|im_end|>")
    assert (whole.reasoning.strip(), whole.text, whole.is_finished) == ("hm", "5", True)
    assert whole.raw.endswith("<|im_end|>")
    cut = read("hi", "<think>\nhm")
    assert (cut.reasoning, cut.text, cut.is_finished) == ("hm", "", False)
    opened = read("hi<think>\n", "hm\n</think>\n\n5")
    assert (opened.reasoning.strip(), opened.text) == ("hm", "5")
    call = read("hi", '<tool_call>\n{"name": "f"}\n</tool_call>')
    assert '"name"' in call.text


def test_likeliest_answers_depend_on_nothing_beside(
    prepare: Prepare, load_base: Callable[[], Any], make_job: MakeJob
) -> None:
    data = prepare("grpo", PROMPTS, empty_thinking="given")
    model, job = load_base(), make_job(data)
    reader = open_reader(model, job.tokenizer)
    one, many = (
        generate_answers(model, data.samples, reader, max_new_tokens=12, batch_size=n)
        for n in (1, 3)
    )
    assert [answer.ids for answer in one] == [answer.ids for answer in many]
    assert [answer.place for answer in one] == [sample.place for sample in data.samples]
    assert all(answer.is_finished or len(answer.ids) == 12 for answer in one)


@pytest.mark.parametrize(
    "fields", [{"n_answers": 1}, {"max_new_tokens": 0}, {"temperature": 0.0}, {"beta": -0.1}]
)
def test_options_that_can_not_be_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettings):
        options("json", **fields)
