"""Answers as Label Studio's tasks. Knows the data that `templates` show; no server.

Who answered is not shown, and which of two answers stands left is drawn by lot, the same lot each
time: neither a name nor a side shall decide.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, TypeAlias

from qwenkit.feedback.query import PromptGroup, RatedAnswer
from qwenkit.feedback.records import AnswerText, Interaction

Json: TypeAlias = dict[str, Any]
KEY = "qwenkit_key"
"""Under which a task's data says which task it is: a key is imported once."""


def pair_tasks(
    groups: Iterable[PromptGroup], *, max_pairs: int = 1, again: bool = False
) -> Iterator[Json]:
    """Pairs of different answers to one prompt that nobody has compared yet.

    Args:
        groups: Answers by prompt.
        max_pairs: Most pairs of a prompt; those by different models or adapters come first, then
            the newest.
        again: Take pairs that have been compared, too.
    """
    for group in groups:
        answers = [each for each in group.answers if _can_be_judged(each.interaction)]
        pairs = [
            pair
            for pair in combinations(answers, 2)
            if _text(pair[0]) != _text(pair[1]) and (again or not _compared(*pair))
        ]
        pairs.sort(key=_worth, reverse=True)
        yield from (_pair_task(*pair) for pair in pairs[:max_pairs])


def rating_tasks(answers: Iterable[RatedAnswer], *, again: bool = False) -> Iterator[Json]:
    """Single answers that nobody has rated yet; with `again`, all of them."""
    for answer in answers:
        if _can_be_judged(answer.interaction) and (again or not answer.ratings):
            yield _rating_task(answer.interaction)


def _can_be_judged(interaction: Interaction) -> bool:
    return interaction.answer is not None and interaction.finish_reason in ("stop", "tool_calls")


def _text(rated: RatedAnswer) -> str:
    return shown(rated.interaction)


def _compared(one: RatedAnswer, other: RatedAnswer) -> bool:
    ids = {one.interaction.id, other.interaction.id}
    return any(
        rating.compared is not None and {rating.answer_id, rating.compared.other_id} == ids
        for rating in (*one.ratings, *other.ratings)
    )


def _worth(pair: tuple[RatedAnswer, RatedAnswer]) -> tuple[bool, str, str]:
    one, other = (each.interaction for each in pair)
    by_others = (one.model, one.adapter) != (other.model, other.adapter)
    newest = max(one.created_at, other.created_at)
    return by_others, newest, min(one.id, other.id)


def _pair_task(one: RatedAnswer, other: RatedAnswer) -> Json:
    ordered = sorted((one.interaction, other.interaction), key=lambda each: each.id)
    key = _key("pair", *(each.id for each in ordered))
    left, right = ordered if int(key[-1], 16) % 2 else reversed(ordered)
    return {
        KEY: key,
        "conversation": conversation(left),
        "answer_a_id": left.id,
        "answer_b_id": right.id,
        "answer_a": shown(left),
        "answer_b": shown(right),
        "thinking_a": _thinking(left),
        "thinking_b": _thinking(right),
        "thread_id": left.thread_id if left.thread_id == right.thread_id else None,
    }


def _rating_task(interaction: Interaction) -> Json:
    return {
        KEY: _key("rating", interaction.id),
        "conversation": conversation(interaction),
        "answer_id": interaction.id,
        "answer": shown(interaction),
        "thinking": _thinking(interaction),
        "thread_id": interaction.thread_id,
    }


def _key(kind: str, *ids: str) -> str:
    digest = hashlib.sha256(json.dumps(ids).encode()).hexdigest()
    return f"{kind}-{digest[:32]}"


def conversation(interaction: Interaction) -> list[dict[str, str]]:
    """What came before the answer, as a dialogue of speakers and texts."""
    if interaction.messages is None:
        return [{"role": "text", "content": interaction.prompt or ""}]
    return [
        {"role": str(message.get("role", "")), "content": _content(message)}
        for message in interaction.messages
    ]


def shown(interaction: Interaction) -> str:
    """An answer as people read it: its text, then what it calls."""
    answer = interaction.answer
    return "" if answer is None else _joined(answer.content, _calls(answer))


def _thinking(interaction: Interaction) -> str:
    return (interaction.answer.reasoning_content or "") if interaction.answer else ""


def _calls(answer: AnswerText) -> list[tuple[str, str]]:
    return [(call.name, call.arguments) for call in answer.tool_calls]


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    functions = [
        call["function"]
        for call in message.get("tool_calls") or ()
        if isinstance(call, dict) and isinstance(call.get("function"), dict)
    ]
    calls = [(str(each.get("name")), _as_text(each.get("arguments"))) for each in functions]
    return _joined(content, calls)


def _as_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _joined(content: Any, calls: Sequence[tuple[str, str]]) -> str:
    lines = [str(content)] if content else []
    return "\n".join([*lines, *(f"→ {name} {arguments}" for name, arguments in calls)])
