"""What an answer is worth, by the rewards that a command names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from qwenkit.errors import InvalidData, InvalidSettings
from qwenkit.training.data.samples import PromptSample
from qwenkit.training.rewards import Answer, Reward, ScoreAll, check_fields, load_rewards


def answer(text: str = "", n: int = 1, **fields: Any) -> Answer:
    return Answer(
        text=text,
        reasoning="",
        raw=text,
        ids=tuple(range(n)),
        is_finished=True,
        prompt=(1,),
        messages=[],
        fields=fields,
        place="rows.jsonl:3",
    )


def no_judge(folder: Path) -> ScoreAll:
    raise AssertionError(folder)


def load(word: str) -> Reward:
    (reward,) = load_rewards([word], judge=no_judge)
    return reward


def score(word: str, given: Answer) -> float | None:
    (value,) = load(word).score([given])
    return value


@pytest.mark.parametrize(
    ("word", "given", "expected"),
    [
        ("exact:answer", answer(" 5\n", answer="5"), 1),
        ("exact:answer", answer("5", answer=5), 1),
        ("exact:answer", answer("It is 5", answer="5"), 0),
        ("exact:answer", answer("six", answer=["6", "six"]), 1),
        ("exact:answer", answer("", answer=[]), 0),
        ("contains:answer", answer("It is 5.", answer="5"), 1),
        ("contains:answer", answer("It is 4.", answer="5"), 0),
        ("json", answer('{"a": [1]}'), 1),
        ("json", answer('{"a": [1]'), 0),
        ("json", answer(""), 0),
        ("length:4", answer(n=4), 1),
        ("length:4", answer(n=0), 1),
        ("length:4", answer(n=8), 0.5),
        ("length:4-10", answer(n=10), 1),
        ("length:4-10", answer(n=20), 0.5),
        ("length:4-10", answer(n=1), 0.25),
    ],
)
def test_built_in_rewards_judge(word: str, given: Answer, expected: float) -> None:
    assert score(word, given) == expected


def test_a_weight_may_stand_before_a_reward() -> None:
    assert load("json").weight == 1
    weighed = load("0.5*exact:answer")
    assert (weighed.name, weighed.weight) == ("exact:answer", 0.5)


def test_a_row_without_the_field_is_named() -> None:
    rows = [
        PromptSample((1,), [], {name: "5"}, f"rows.jsonl:{i}")
        for i, name in enumerate(("answer", "other"))
    ]
    rewards = [load("json"), load("exact:answer")]
    check_fields(rewards, rows[:1])
    with pytest.raises(InvalidData, match=r"rows.jsonl:1.*`answer`"):
        check_fields(rewards, rows)


def test_a_function_of_ones_own_file_judges(tmp_path: Path) -> None:
    path = tmp_path / "brief_rewards.py"
    path.write_text(
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Limit:\n"
        "    n: int\n"
        "LIMIT = Limit(10)\n"
        "def brief(answer):\n"
        "    return None if not answer.text else LIMIT.n - len(answer.text)\n",
        encoding="utf-8",
    )
    reward = load(f"2*{path}:brief")
    assert reward.score([answer("four"), answer("")]) == [6, None]
    assert reward.weight == 2


def test_a_function_of_an_installed_module_judges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "judges_of_mine"
    package.mkdir()
    (package / "taste.py").write_text("def yes(answer): return True\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "judges_of_mine", raising=False)
    assert score("judges_of_mine.taste:yes", answer()) == 1


def test_a_reward_model_is_loaded_by_who_can() -> None:
    asked = []

    def judge(folder: Path) -> ScoreAll:
        asked.append(folder)
        return lambda answers: [0.25] * len(answers)

    (reward,) = load_rewards(["judge:runs/taste/adapter"], judge=judge)
    assert asked == [Path("runs/taste/adapter")]
    assert reward.score([answer(), answer()]) == [0.25, 0.25]


@pytest.mark.parametrize(
    "word",
    [
        "exact",
        "contains:",
        "json:5",
        "length",
        "length:many",
        "length:9-4",
        "length:-4",
        "half*json",
        "nan*json",
        "nothing",
        "no_such_package_here.rewards:f",
        "no_such_file.py:f",
        "json.decoder:no_such_function",
        "math:pi",
        "",
    ],
)
def test_words_that_name_nothing_are_refused(word: str) -> None:
    with pytest.raises(InvalidSettings):
        load(word)


def test_no_reward_at_all_is_refused() -> None:
    with pytest.raises(InvalidSettings, match="none is named"):
        load_rewards([], judge=no_judge)


@pytest.mark.parametrize("value", ["'high'", "float('nan')", "[1.0]"])
def test_what_is_no_number_is_refused(value: str, tmp_path: Path) -> None:
    path = tmp_path / f"odd_{abs(hash(value))}.py"
    path.write_text(f"def odd(answer): return {value}\n", encoding="utf-8")
    with pytest.raises(InvalidSettings, match=r"rows.jsonl:3"):
        score(f"{path}:odd", answer())


def test_a_module_that_lacks_another_keeps_its_own_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_more.py").write_text("import not_installed_anywhere\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        load("needs_more:f")
