"""Reward functions: what GRPO is told an answer is worth. Knows answers as text; no model.

A reward is named by a word:

- `exact:FIELD`: 1 where the answer is the row's field of that name, 0 elsewhere. Where the field
  holds several texts, one of them is enough. Space around either counts for nothing.
- `contains:FIELD`: the same where the answer has the field's text in it.
- `json`: 1 where the answer is valid JSON.
- `length:MIN-MAX` or `length:MAX`: 1 where the answer has so many tokens, reasoning included;
  outside the bounds less, in proportion.
- `judge:FOLDER`: the score of a reward model, see `qwenkit.training.judge`
- `package.module:function` or `path/to/file.py:function`: your own, called with one `Answer` and
  giving a number, or None where it has no opinion.

A number and a star before it is its weight: `0.5*json`. Naming a function of your own runs its
module: it is your code.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias

from qwenkit.chat.messages import JsonValue
from qwenkit.errors import InvalidData, InvalidSettings
from qwenkit.training.data.samples import PromptSample


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a reward function judges.

    Args:
        text: The answer, without reasoning and control tokens.
        reasoning: The reasoning before it; empty where there was none.
        raw: All that was generated, as text with its tags.
        ids: All that was generated, as tokens.
        is_finished: Whether the model ended it itself.
        prompt: Tokens of the prompt.
        messages: The conversation that it answers.
        fields: The row's other fields, such as a reference answer.
        place: The row, as `train.jsonl:17`.
    """

    text: str
    reasoning: str
    raw: str = field(repr=False)
    ids: tuple[int, ...] = field(repr=False)
    is_finished: bool
    prompt: tuple[int, ...] = field(repr=False)
    messages: JsonValue = field(repr=False)
    fields: Mapping[str, JsonValue] = field(repr=False)
    place: str


RewardFunction: TypeAlias = Callable[[Answer], float | None]
"""What a person writes: the worth of one answer, None for no opinion."""

ScoreAll: TypeAlias = Callable[[Sequence[Answer]], Sequence[float | None]]
"""The worth of each of several answers."""


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward function, ready to be asked.

    Args:
        name: What reports call it.
        weight: Its part of the sum.
        score: Judges answers.
        compared_with: The rows' field that answers are compared with; None compares with none.
    """

    name: str
    weight: float
    score: ScoreAll = field(repr=False)
    compared_with: str | None = None


def load_rewards(words: Sequence[str], *, judge: Callable[[Path], ScoreAll]) -> tuple[Reward, ...]:
    """The rewards that words name.

    Args:
        words: As `0.5*json` or `rewards.py:brief`.
        judge: Loads a reward model.

    Raises:
        InvalidSettings: There is none, or a word names nothing.
        ModelError: A reward model can't be used.
    """
    if not words:
        raise InvalidSettings(
            "grpo learns from rewards, and none is named",
            hint="name one, as in --set rewards=exact:answer or --set rewards=mine.py:brief",
        )
    return tuple(_load(word, judge) for word in words)


def check_fields(rewards: Sequence[Reward], samples: Sequence[PromptSample]) -> None:
    """Refuse rows without a field that their answers will be compared with.

    Raises:
        InvalidData: There is one.
    """
    for sample in samples:
        for reward in rewards:
            if reward.compared_with not in (None, *sample.fields):
                raise InvalidData(
                    f"{sample.place} has no field `{reward.compared_with}` to compare answers with",
                    hint="name a field that every row has",
                )


def _load(word: str, judge: Callable[[Path], ScoreAll]) -> Reward:
    name, weight = _weighed(word)
    kind, _, rest = name.partition(":")
    match kind:
        case "exact" | "contains" if rest:
            fits = str.__eq__ if kind == "exact" else str.__contains__
            return Reward(name, weight, _each(name, _against(rest, fits)), rest)
        case "json" if not rest:
            return Reward(name, weight, _each(name, _is_json))
        case "length" if rest:
            return Reward(name, weight, _each(name, _within(rest)))
        case "judge" if rest:
            return Reward(name, weight, judge(Path(rest)))
    return Reward(name, weight, _each(name, _own(name)))


def _weighed(word: str) -> tuple[str, float]:
    number, star, name = word.partition("*")
    if not star:
        return word, 1.0
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise InvalidSettings(f"`{number}` is no weight", hint="give a number, as in 0.5*json")
    return name.strip(), weight


def _against(name: str, fits: Callable[[str, str], bool]) -> RewardFunction:
    def score(answer: Answer) -> float:
        value = answer.fields[name]
        wanted = value if isinstance(value, list) else [value]
        return float(any(fits(answer.text.strip(), str(each).strip()) for each in wanted))

    return score


def _is_json(answer: Answer) -> float:
    try:
        json.loads(answer.text)
    except ValueError:
        return 0.0
    return 1.0


def _within(bounds: str) -> RewardFunction:
    low, dash, high = bounds.partition("-")
    numbers = [low, high] if dash else ["0", low]
    if not all(number.isdecimal() for number in numbers) or int(numbers[0]) > int(numbers[1]):
        raise InvalidSettings(
            f"`{bounds}` is no range of lengths", hint="give tokens, as in length:20-200"
        )
    least, most = map(int, numbers)

    def score(answer: Answer) -> float:
        n = len(answer.ids)
        if n > most:
            return most / n
        return n / least if n < least else 1.0

    return score


def _own(name: str) -> RewardFunction:
    where, colon, function = name.rpartition(":")
    if not colon:
        raise InvalidSettings(
            f"`{name}` is no reward",
            hint="rewards are exact:FIELD, contains:FIELD, json, length:MIN-MAX, judge:FOLDER, "
            "package.module:function and file.py:function",
        )
    module = _import_file(Path(where)) if where.endswith(".py") else _import_module(where)
    found = getattr(module, function, None)
    if not callable(found):
        raise InvalidSettings(f"`{where}` has no function `{function}`")
    own: RewardFunction = found
    return own


def _import_module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as exc:
        # A module that is there and lacks another is a failure of its own.
        if exc.name is None or not f"{name}.".startswith(f"{exc.name}."):
            raise
        raise InvalidSettings(
            f"there is no module `{name}`", hint="name a file instead, as in rewards.py:function"
        ) from exc


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise InvalidSettings(f"there is no file {path}")
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InvalidSettings(f"{path} is no Python file")
    module = module_from_spec(spec)
    # Dataclasses look their own module up.
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def _each(name: str, function: RewardFunction) -> ScoreAll:
    def score(answers: Sequence[Answer]) -> list[float | None]:
        return [_number(name, answer, function(answer)) for answer in answers]

    return score


def _number(name: str, answer: Answer, value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, Real) or not math.isfinite(value):
        raise InvalidSettings(
            f"the reward `{name}` gave {value!r} for an answer to {answer.place}",
            hint="a reward function gives a finite number, or None for no opinion",
        )
    return float(value)
