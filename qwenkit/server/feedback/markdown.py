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
_FENCE = re.compile(r"```+(?=[^`]*$)|~~~+")
_SET_IN = re.compile(r"[^`~](?:```|~~~)")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")


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
    yield _code(one.id)
    if one.thread_id and not goes_on:
        yield f"Conversation {_code(one.thread_id)}"
    yield ""
    if one.answer is None:
        yield NOT_KEPT
    else:
        yield from _texts(one, one.answer, goes_on=goes_on)
    for rating in answer.ratings:
        yield f"- {_rating(rating)}"


def _model(one: Interaction) -> str:
    name = one.model if one.adapter is None else f"{one.model} + {one.adapter.name}"
    return _one_line(name)


def _texts(one: Interaction, answer: AnswerText, *, goes_on: bool) -> Iterator[str]:
    if one.prompt is not None:
        yield from _said("Prompt", one.prompt)
    messages = one.messages or ()
    for message in _new(messages) if goes_on else messages:
        role = _one_line(str(message.get("role", "")))
        yield from _said(role.capitalize(), _content(message))
    if answer.reasoning_content:
        yield from ("<details><summary>Thinking</summary>", "")
        yield from (_quoted(answer.reasoning_content), "", "</details>", "")
    yield from _said("Answer", answer.content)
    for call in answer.tool_calls:
        yield from (f"Calls {_code(call.name)}:", "", *_fenced(call.arguments), "")


def _new(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """What came after the last answer."""
    answered = [i for i, each in enumerate(messages) if each.get("role") == "assistant"]
    return messages[answered[-1] + 1 :] if answered else messages


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    text = content if isinstance(content, str) else ""
    calls = [each.get("function", {}).get("name", "") for each in message.get("tool_calls") or ()]
    return "\n\n".join([text, *(f"Calls {_code(name)}." for name in calls)]).strip()


def _said(who: str, text: str) -> tuple[str, ...]:
    return (f"**{who}**", "", _quoted(text), "")


def _quoted(text: str) -> str:
    """A text as a quotation, which ends whatever it leaves open; its tags are no tags.

    In code they are left as they are, but where a fence is set in: whether it is one depends on
    lists and quotations around it, and none of the text is taken for code.
    """
    lines = [_with_spaces(line) for line in text.splitlines()]
    if any(map(_SET_IN.search, lines)):
        return "\n".join(f"> {_without_tags(line)}".rstrip() for line in lines)
    fence = ""
    for i, line in enumerate(lines):
        fence = _fence_after(fence, line)
        lines[i] = f"> {line if fence else _without_tags(line)}".rstrip()
    return "\n".join(lines)


def _with_spaces(line: str) -> str:
    """A line whose indentation stays the same behind other characters."""
    rest = line.lstrip(" \t")
    return line[: len(line) - len(rest)].expandtabs(4) + rest


def _fence_after(fence: str, line: str) -> str:
    """The fence of the code block that goes on behind a line; empty where there is none."""
    if fence:
        closed = re.fullmatch(f"{fence}{fence[0]}*[ \t]*", line)
        return "" if closed else fence
    opening = _FENCE.match(line)
    return opening[0] if opening else ""


def _without_tags(text: str) -> str:
    return _TAG.sub("&lt;", text)


def _code(text: str) -> str:
    """A name in a line; backticks would end it."""
    return f"`{_one_line(text).replace('`', chr(39))}`"


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
        said.append(f"{VERDICTS[rating.compared.verdict]} {_code(rating.compared.other_id)}")
    if rating.edited is not None:
        said.append(f"should say: {_one_line(rating.edited.content)}")
    if rating.comment:
        said.append(_one_line(rating.comment))
    return f"{_one_line(rating.rater)}: {' · '.join(said)}"


def _one_line(text: str) -> str:
    return _without_tags(" ".join(text.split()))
