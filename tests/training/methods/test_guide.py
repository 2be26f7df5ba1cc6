"""The guide on preferences shows what is true: its rows, its code, its choices and its rewards."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from qwenkit.training.data.samples import PreparedData
from qwenkit.training.grpo import GrpoOptions
from qwenkit.training.judge import load_judge
from qwenkit.training.preference import DpoOptions, KtoOptions, OrpoOptions
from qwenkit.training.reward import RewardOptions
from qwenkit.training.rewards import Answer, load_rewards

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "preferences.md"
TEXT = GUIDE.read_text(encoding="utf-8")
OPTIONS = {
    "dpo": DpoOptions,
    "kto": KtoOptions,
    "orpo": OrpoOptions,
    "reward": RewardOptions,
    "grpo": GrpoOptions,
}
ROWS = [
    (method, row)
    for methods, row in re.findall(r'```json title="([a-z ]+)"\n(.+?)\n```', TEXT, re.DOTALL)
    for method in methods.split()
]


def block(kind: str, title: str) -> str:
    (found,) = re.findall(rf'```{kind} title="{title}"\n(.+?)```', TEXT, re.DOTALL)
    return str(found)


def answer(text: str, *, is_finished: bool = True) -> Answer:
    return Answer(
        text=text,
        reasoning="",
        raw=text,
        ids=(1,),
        is_finished=is_finished,
        prompt=(1,),
        messages=[],
        fields={},
        place="a",
    )


@pytest.mark.parametrize("method", OPTIONS)
def test_every_choice_of_a_method_is_listed_with_its_default(method: str) -> None:
    (section,) = re.findall(rf"^### {method}\n(.+?)(?=^##)", TEXT, re.DOTALL | re.MULTILINE)
    listed = dict(re.findall(r"^\| `(\w+)` \| (?:`([^`]+)`)? ?\|", section, re.MULTILINE))
    expected = {
        field.name: "" if field.default is MISSING else str(field.default).lower()
        for field in fields(OPTIONS[method])
    }
    assert listed == expected


@pytest.mark.parametrize(("method", "row"), ROWS)
def test_a_row_of_the_guide_can_be_learned_from(
    method: str, row: str, prepare: Callable[..., PreparedData]
) -> None:
    import json

    assert prepare(method, [json.loads(row)]).samples


def test_the_reward_of_the_guide_judges(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(block("python", "mine.py"), encoding="utf-8")
    (reward,) = load_rewards([f"0.2*{path}:brief"], judge=lambda _: pytest.fail("no judge"))
    assert reward.weight == 0.2
    assert reward.score([answer("yes"), answer("x" * 200), answer("", is_finished=False)]) == [
        1,
        0,
        None,
    ]


def test_every_field_of_an_answer_is_listed() -> None:
    _, _, table = TEXT.partition("| Of an answer | |")
    listed = re.findall(r"^\| `(\w+)` \|", table.partition("\n\n")[0], re.MULTILINE)
    assert listed == [field.name for field in fields(Answer)]


def test_the_rewards_that_are_listed_are_known(tmp_path: Path) -> None:
    _, _, section = TEXT.partition("## Rewards")
    words = re.findall(r"`([^`]+)`", " ".join(re.findall(r"^\| (`.+?`) \|", section, re.MULTILINE)))
    named = [word for word in words if ":" in word or word == "json"][:6]
    assert {word.partition(":")[0] for word in named} >= {
        "exact",
        "contains",
        "json",
        "length",
        "judge",
    }
    judged: list[Any] = []
    for word in named:
        filled = word.replace("MIN-MAX", "1-2").replace("MAX", "2")
        load_rewards([filled], judge=lambda folder: judged.append(folder) or load_judge)
    assert judged == [Path("FOLDER")]


def test_the_comparison_of_the_guide_says_what_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    exec(block("python", "evaluate"), {})
    assert capsys.readouterr().out == block("text", "evaluate")
