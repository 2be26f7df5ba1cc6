"""All choices of a run under one list of names."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from qwenkit.errors import InvalidSettings
from qwenkit.training.config_file import read_config_file
from qwenkit.training.dry_run import plan_of
from qwenkit.training.methods import METHODS
from qwenkit.training.options import LEARNING_RATES
from qwenkit.training.run_config import COMMON, NativeOptions, RunConfig, make_config, names_of
from qwenkit.training.trainers import OPTIONS

DOCS = Path(__file__).parents[2] / "docs"


def config(**values: Any) -> RunConfig:
    return make_config({"model": "m", "data": "d.jsonl", "output": "run"} | values)


def test_what_is_left_out_has_its_default() -> None:
    made = config()
    assert made.run.data == ("d.jsonl",)
    assert made.run.output == Path("run")
    assert made.lora.rank == 16
    assert made.learning_rate == LEARNING_RATES["sft"]


def test_full_training_takes_a_tenth_of_the_learning_rate_unless_one_is_given() -> None:
    assert config(full=True).learning_rate == pytest.approx(LEARNING_RATES["sft"] / 10)
    assert config(full=True, learning_rate=3e-5).learning_rate == 3e-5


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, (1, 8)),
        ({"method": "kto"}, (4, 2)),
        ({"method": "kto", "batch_size": 2}, (2, 4)),
        ({"batch_size": 3}, (3, 3)),
        ({"batch_size": 16}, (16, 1)),
        ({"method": "kto", "accumulate": 1}, (4, 1)),
    ],
    ids=str,
)
def test_a_step_takes_eight_samples_in_batches_of_the_methods_size_unless_one_is_given(
    values: dict[str, Any], expected: tuple[int, int]
) -> None:
    made = config(**values)
    plan = plan_of(made, precision="fp32", device="cpu")
    assert (made.batch_size, made.accumulate) == (plan.batch_size, plan.accumulate) == expected
    assert made.changed() == values.keys() - {"method"}


def test_names_of_matrices_may_stand_in_a_row() -> None:
    assert config(targets="q_proj, v_proj").lora.targets == ("q_proj", "v_proj")
    assert config(data="a, b.jsonl").run.data == ("a, b.jsonl",)


def test_a_number_may_be_spelled_as_yaml_and_shells_do() -> None:
    made = config(learning_rate="1e-4", n_steps="7", targets="q_proj", packing="no")
    assert made.loop.learning_rate == 1e-4
    assert made.loop.n_steps == 7
    assert made.lora.targets == ("q_proj",)
    assert made.loop.packing is False


@pytest.mark.parametrize(
    ("name", "near"), [("learning_rat", "learning_rate"), ("ranks", "rank"), ("bata", "data")]
)
def test_an_unknown_name_is_refused_with_the_closest_known_one(name: str, near: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        config(**{name: 1})
    assert f"`{name}`" in caught.value.message
    assert f"`{near}`" in caught.value.hint


def test_a_name_of_another_method_is_refused_with_the_method() -> None:
    with pytest.raises(InvalidSettings, match="dpo and kto and orpo"):
        config(beta=0.1)
    assert config(method="dpo", beta=0.3).own.beta == 0.3  # type: ignore[union-attr]
    with pytest.raises(InvalidSettings, match=r"llama\.cpp"):
        config(optimizer="sgd")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"rank": "many"}, "`rank` is 'many'"),
        ({"dropout": 1}, "dropout is 1"),
        ({"targets": ["lm_head"]}, "`lm_head`"),
        ({"full": True, "dora": True}, "dora"),
        ({"batch_size": 0}, "batch_size"),
        ({"precision": "fp8"}, "`precision` is 'fp8'"),
        ({"learning_rate": -1}, "learning_rate is -1"),
        ({"method": "ppo"}, "`ppo`"),
        ({"max_length": 1}, "max_length of 1"),
        ({"output": None}, "`output`"),
        ({"method": "grpo"}, "no `rewards`"),
        ({"margin": -1}, "margin is -1"),
        ({"warmup": 1.5}, "warmup is 1.5"),
    ],
    ids=str,
)
def test_values_that_cant_be_are_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        config(**values)
    assert named in caught.value.message


@pytest.mark.parametrize("value", ["0", "1", "1.5", "-0.1"])
def test_a_share_to_hold_out_lies_between_nothing_and_all(value: str) -> None:
    with pytest.raises(InvalidSettings, match=value):
        _ = config(eval=value).run.held_out_share
    assert config(eval="0.1").run.held_out_share == 0.1
    assert config(eval="held.jsonl").run.held_out_share is None


def test_no_name_means_two_things() -> None:
    for method in METHODS:
        names = Counter(names_of(*COMMON, OPTIONS[method]))
        assert max(names.values()) == 1, names
    assert max(Counter(names_of(*COMMON, NativeOptions)).values()) == 1


def test_all_choices_make_the_same_run_again() -> None:
    made = config(method="dpo", beta=0.2, eval="0.1", rank=4)
    again = make_config(
        {name: value for name, value in made.choices().items() if value is not None}
        | {"output": "elsewhere"}
    )
    assert again.choices() == made.choices()


def test_the_guides_example_is_a_run(tmp_path: Path) -> None:
    guide = (DOCS / "guides" / "finetune.md").read_text(encoding="utf-8")
    (example,) = re.findall(r'```yaml title="run.yaml"\n(.*?)```', guide, re.DOTALL)
    path = tmp_path / "run.yaml"
    path.write_text(example, encoding="utf-8")
    made = make_config(read_config_file(path))
    assert made.run.model == "Qwen/Qwen3-8B"
    assert made.run.held_out_share == 0.02
    assert made.batch_size * made.accumulate * made.data.max_length == 16_384


@pytest.mark.parametrize(
    ("text", "named"),
    [("- rank", "names"), ("lora:\n  rank: 4", "`lora`"), ("rank: [", "YAML")],
)
def test_a_file_of_something_else_is_refused(text: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidSettings, match=named):
        read_config_file(path)


def test_an_empty_file_chooses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("# rank: 4\n", encoding="utf-8")
    assert read_config_file(path) == {}
