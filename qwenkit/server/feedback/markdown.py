"""Answers for people to read: Markdown, one section an answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from qwenkit.feedback.query import RatedAnswer
from qwenkit.feedback.records import AnswerText, Interaction, Rating

THUMBS = {"up": "👍", "down": "👎"}
VERDICTS = {"better": "better than", "worse": "worse than", "tie": "as good as"}
NOT_KEPT = "*The text was not kept.*"


def markdown(answers: Iterable[RatedAnswer]) -> Iterator[str]:
    """The answers as a document, section by section.

    Of a conversation that goes on only what is new is shown.
    """
    yield "# Answers\n"
    thread_id: str | None = None
    for each in answers:
        one = each.interaction
        goes_on = one.thread_id is not None and one.thread_id == thread_id
        thread_id = one.thread_id
        yield "\n".join(["", *_section(each, goes_on=goes_on), ""])


def _section(answer: RatedAnswer, *, goes_on: bool) -> Iterator[str]:
    one = answer.interaction
    yield f"## {one.created_at[:19].replace('T', ' ')} · {_model(one)}"
    yield ""
    yield f"`{one.id}`"
    if one.thread_id and not goes_on:
        yield f"Conversation `{one.thread_id}`"
    yield ""
    if one.answer is None:
        yield NOT_KEPT
    else:
        yield from _texts(one, one.answer, goes_on=goes_on)
    for rating in answer.ratings:
        yield f"- {_rating(rating)}"


def _model(one: Interaction) -> str:
    return one.model if one.adapter is None else f"{one.model} + {one.adapter.name}"


def _texts(one: Interaction, answer: AnswerText, *, goes_on: bool) -> Iterator[str]:
    if one.prompt is not None:
        yield from _said("Prompt", one.prompt)
    messages = one.messages or ()
    for message in _new(messages) if goes_on else messages:
        yield from _said(str(message.get("role", "")).capitalize(), _content(message))
    if answer.reasoning_content:
        yield from ("<details><summary>Thinking</summary>", "")
        yield from (_safe(answer.reasoning_content), "", "</details>", "")
    yield from _said("Answer", answer.content)
    for call in answer.tool_calls:
        yield from (f"Calls `{call.name}`:", "", *_fenced(call.arguments), "")


def _new(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """What came after the last answer."""
    answered = [i for i, each in enumerate(messages) if each.get("role") == "assistant"]
    return messages[answered[-1] + 1 :] if answered else messages


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    text = content if isinstance(content, str) else ""
    calls = [each.get("function", {}).get("name", "") for each in message.get("tool_calls") or ()]
    return "\n\n".join([text, *(f"Calls `{name}`." for name in calls)]).strip()


def _said(who: str, text: str) -> tuple[str, ...]:
    return (f"**{who}**", "", _safe(text), "")


def _safe(text: str) -> str:
    """A text whose own headings don't cut the document up, nor end what is folded."""
    text = re.sub(r"(?m)^(#{1,6})(?=\s)", r"\\\1", text)
    return text.replace("</details>", "&lt;/details>")


def _fenced(text: str) -> tuple[str, ...]:
    longest = max((len(each) for each in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return (f"{fence}json", text, fence)


def _rating(rating: Rating) -> str:
    said = []
    if rating.thumb is not None:
        said.append(THUMBS[rating.thumb])
    if rating.scale is not None:
        said.append(f"{rating.scale}/5")
    if rating.compared is not None:
        said.append(f"{VERDICTS[rating.compared.verdict]} `{rating.compared.other_id}`")
    if rating.edited is not None:
        said.append(f"should say: {_one_line(rating.edited.content)}")
    if rating.comment:
        said.append(_one_line(rating.comment))
    return f"{rating.rater}: {' · '.join(said)}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
