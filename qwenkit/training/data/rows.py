"""What a row says: its kind, and its parts in one form. Pure; knows no template and no tokens.

A kind is told by a row's fields: `chosen` and `rejected`; `label`; `messages`; `prompt` with
`completion`; `prompt` alone; `text`. Which kinds a method learns from is written here, and nowhere
else. Fields that mean nothing here are ignored, but for GRPO, whose rewards may read them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from qwenkit.chat.messages import JsonValue, Message, Role, Tool, parse_messages, parse_tools
from qwenkit.errors import InvalidData, InvalidMessages
from qwenkit.training.methods import METHODS, Method

Kind: TypeAlias = Literal["preference", "label", "messages", "completion", "prompt", "text"]

LEARNS_FROM: dict[Method, tuple[Kind, ...]] = {
    "sft": ("messages", "completion", "text"),
    "dpo": ("preference",),
    "kto": ("label", "preference"),
    "orpo": ("preference",),
    "reward": ("preference",),
    "grpo": ("prompt", "completion", "messages"),
}
"""The kinds of rows of each method."""

_LOOKS: dict[Kind, str] = {
    "preference": "`chosen` and `rejected`",
    "label": "`label` beside an answer",
    "messages": "`messages`",
    "completion": "`prompt` and `completion`",
    "prompt": "`prompt`",
    "text": "`text`",
}
_OWN_FIELDS = frozenset({"prompt", "messages", "tools", "chat_template_kwargs"})


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation, and what the template is told beside it.

    Args:
        messages: In order.
        tools: On offer.
        variables: More variables for the template.
        enable_thinking: The hard switch, where the row sets it.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    variables: Mapping[str, JsonValue] = field(default_factory=dict)
    enable_thinking: bool | None = None

    def with_messages(self, messages: Sequence[Message]) -> Chat:
        """The same with other messages."""
        return replace(self, messages=tuple(messages))


@dataclass(frozen=True, slots=True)
class ConversationRow:
    """A conversation with answers to imitate.

    Args:
        chat: All of it.
        learned: Indices of the assistant's messages that are learned.
    """

    chat: Chat
    learned: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TextRow:
    """Plain text, with no template around it.

    Args:
        given: Its beginning, which is not learned.
        text: What is learned.
    """

    given: str
    text: str


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """Two answers to one prompt; strings where they are plain text without a template."""

    prompt: Chat | str
    chosen: Message | str
    rejected: Message | str


@dataclass(frozen=True, slots=True)
class LabelRow:
    """An answer that is liked or not; strings where it is plain text without a template."""

    prompt: Chat | str
    answer: Message | str
    label: bool


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A prompt without an answer, and the row's other fields."""

    prompt: Chat | str
    fields: Mapping[str, JsonValue]


Row: TypeAlias = ConversationRow | TextRow | PreferenceRow | LabelRow | PromptRow


def parse_row(
    row: JsonValue,
    *,
    method: Method,
    strings: Literal["chat", "raw"] = "chat",
    turns: Literal["all", "last"] = "all",
) -> tuple[Row, ...]:
    """Read one row.

    Args:
        row: A JSON object.
        method: What is done with it.
        strings: What a prompt and an answer are that are strings.
        turns: Which answers of a conversation are learned.

    Returns:
        Usually one; a preference is two labelled answers to kto.

    Raises:
        InvalidData: Something is wrong; the message says what.
    """
    if not isinstance(row, Mapping):
        raise InvalidData("it is no JSON object")
    try:
        kind = _kind(row)
        if method == "kto":
            _check_label(row)
        _check_method(kind, method)
        if method == "grpo":
            return (_prompt_row(row, kind, strings),)
        match kind:
            case "preference":
                preference = _preference(row, strings)
                return _labelled(preference) if method == "kto" else (preference,)
            case "label":
                return (_label(row, strings),)
            case "text":
                return (TextRow("", _text(row, "text")),)
            case _:
                return (_imitation(row, kind, strings, turns),)
    except InvalidMessages as exc:
        raise InvalidData(_reason(exc)) from exc


def _reason(exc: InvalidMessages, name: str = "messages") -> str:
    """What is wrong and where, with the list of messages by the name that the row has for it."""
    given = exc.param or ""
    place = f"{name}{given.removeprefix('messages')}" if given.startswith("messages") else given
    return exc.message.replace(given, place) if given in exc.message else f"{place}: {exc.message}"


def _kind(row: Mapping[str, Any]) -> Kind:
    present = {name for name, value in row.items() if value is not None}
    if present & {"chosen", "rejected"}:
        return "preference"
    answers: Kind | None = None
    if "messages" in present:
        answers = "messages"
    elif {"prompt", "completion"} <= present:
        answers = "completion"
    if answers is not None:
        return "label" if isinstance(row.get("label"), bool) else answers
    if "prompt" in present:
        return "prompt"
    if "text" in present:
        return "text"
    found = ", ".join(map(repr, sorted(map(str, present)))) or "nothing"
    raise InvalidData(f"it has {found}, and none of {', '.join(_LOOKS.values())}")


def _check_method(kind: Kind, method: Method) -> None:
    if kind in LEARNS_FROM[method]:
        return
    wanted = ", or ".join(_LOOKS[each] for each in LEARNS_FROM[method])
    others = [other for other in METHODS if kind in LEARNS_FROM[other]]
    raise InvalidData(
        f"it has {_LOOKS[kind]}, which {', '.join(others)} learns from; {method} needs {wanted}"
    )


def _check_label(row: Mapping[str, Any]) -> None:
    label = row.get("label")
    if label is not None and not isinstance(label, bool):
        raise InvalidData(f"its `label` is {label!r}, which is neither true nor false")


def _imitation(
    row: Mapping[str, Any],
    kind: Kind,
    strings: Literal["chat", "raw"],
    turns: Literal["all", "last"],
) -> Row:
    if kind == "messages":
        given, answers = [], _list(row, "messages")
    elif _is_raw(row, strings, "completion"):
        return TextRow(_text(row, "prompt"), _text(row, "completion"))
    else:
        given, answers = _prompt_list(row), _answer_list(row, "completion")
    messages = (*_messages(given, "prompt"), *_messages(answers, kind))
    learned = [
        index
        for index in range(len(given), len(messages))
        if messages[index].role is Role.ASSISTANT and _weight(answers[index - len(given)])
    ]
    if not learned:
        raise InvalidData("it has no assistant's message to learn")
    return ConversationRow(
        _chat(row, messages), tuple(learned[-1:] if turns == "last" else learned)
    )


def _weight(message: Any) -> bool:
    """Whether a message counts; OpenAI's format lets 0 take one out."""
    weight = message.get("weight") if isinstance(message, Mapping) else None
    if weight not in (None, 0, 1):
        raise InvalidData(f"a message's `weight` is {weight!r}; 0 and 1 can be used")
    return weight is None or bool(weight)


def _preference(row: Mapping[str, Any], strings: Literal["chat", "raw"]) -> PreferenceRow:
    for name in ("chosen", "rejected"):
        if row.get(name) is None:
            raise InvalidData(f"it has no `{name}`")
    if _is_raw(row, strings, "chosen", "rejected"):
        preference = PreferenceRow(
            _text(row, "prompt"), _text(row, "chosen"), _text(row, "rejected")
        )
    else:
        preference = _preference_of_messages(row)
    if preference.chosen == preference.rejected:
        raise InvalidData("`chosen` and `rejected` are the same")
    return preference


def _preference_of_messages(row: Mapping[str, Any]) -> PreferenceRow:
    chosen, rejected = (_messages(_answer_list(row, name), name) for name in ("chosen", "rejected"))
    if row.get("prompt") is None:
        prompt = _common_beginning(chosen, rejected)
        chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
        if not prompt:
            raise InvalidData("it has no `prompt`, and its answers no common beginning")
    else:
        prompt = _messages(_prompt_list(row), "prompt")
        chosen, rejected = (_without(prompt, answer) for answer in (chosen, rejected))
    _check_prompt(prompt)
    return PreferenceRow(
        _chat(row, prompt),
        _only_answer(chosen, "chosen"),
        _only_answer(rejected, "rejected"),
    )


def _labelled(preference: PreferenceRow) -> tuple[Row, ...]:
    prompt = preference.prompt
    return (
        LabelRow(prompt, preference.chosen, label=True),
        LabelRow(prompt, preference.rejected, label=False),
    )


def _label(row: Mapping[str, Any], strings: Literal["chat", "raw"]) -> LabelRow:
    label = bool(row["label"])
    if row.get("messages") is not None:
        messages = _messages(_list(row, "messages"), "messages")
        prompt, answer = messages[:-1], messages[-1:]
    elif _is_raw(row, strings, "completion"):
        return LabelRow(_text(row, "prompt"), _text(row, "completion"), label)
    else:
        prompt = _messages(_prompt_list(row), "prompt")
        answer = _messages(_answer_list(row, "completion"), "completion")
    _check_prompt(prompt)
    return LabelRow(_chat(row, prompt), _only_answer(answer, "the answer"), label)


def _prompt_row(row: Mapping[str, Any], kind: Kind, strings: Literal["chat", "raw"]) -> PromptRow:
    fields = {name: value for name, value in row.items() if name not in _OWN_FIELDS}
    if kind == "messages":
        messages = _messages(_list(row, "messages"), "messages")
    elif strings == "raw" and isinstance(row["prompt"], str):
        return PromptRow(_text(row, "prompt"), fields)
    else:
        messages = _messages(_prompt_list(row), "prompt")
    _check_prompt(messages)
    return PromptRow(_chat(row, messages), fields)


def _chat(row: Mapping[str, Any], messages: Sequence[Message]) -> Chat:
    variables = row.get("chat_template_kwargs") or {}
    if not isinstance(variables, Mapping):
        raise InvalidData("`chat_template_kwargs` is no object")
    rest = dict(variables)
    switch = rest.pop("enable_thinking", None)
    if not isinstance(switch, bool | None):
        raise InvalidData("`enable_thinking` is neither true nor false")
    return Chat(tuple(messages), _tools(row), rest, switch)


def _tools(row: Mapping[str, Any]) -> tuple[Tool, ...]:
    tools = row.get("tools") or ()
    if isinstance(tools, str):  # tables have no type for JSON schemas
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError) as exc:
            raise InvalidData(f"`tools` is a string and no JSON: {exc}") from exc
    return parse_tools(tools)


def _is_raw(row: Mapping[str, Any], strings: Literal["chat", "raw"], *answers: str) -> bool:
    parts = [row.get("prompt"), *map(row.get, answers)]
    return strings == "raw" and all(isinstance(part, str) for part in parts)


def _prompt_list(row: Mapping[str, Any]) -> list[Any]:
    if isinstance(row["prompt"], str):
        return [{"role": "user", "content": row["prompt"]}]
    return _list(row, "prompt")


def _answer_list(row: Mapping[str, Any], name: str) -> list[Any]:
    value = row[name]
    if isinstance(value, str):
        return [{"role": "assistant", "content": value}]
    return [value] if isinstance(value, Mapping) else _list(row, name)


def _list(row: Mapping[str, Any], name: str) -> list[Any]:
    value = row[name]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise InvalidData(f"`{name}` is neither a string nor a list of messages")
    if not value:
        raise InvalidData(f"`{name}` is empty")
    return list(value)


def _messages(values: Sequence[Any], name: str) -> tuple[Message, ...]:
    if not values:
        return ()
    try:
        return parse_messages(values)
    except InvalidMessages as exc:
        raise InvalidData(_reason(exc, name)) from exc


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise InvalidData(f"`{name}` is no string")
    if not value:
        raise InvalidData(f"`{name}` is empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidData(f"`{name}` holds half of a surrogate pair") from None
    return value


def _common_beginning(
    chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> tuple[Message, ...]:
    n = 0
    # What both end with is an answer, not a prompt.
    while n < min(len(chosen), len(rejected)) - 1 and chosen[n] == rejected[n]:
        n += 1
    return chosen[:n]


def _without(prompt: tuple[Message, ...], answer: tuple[Message, ...]) -> tuple[Message, ...]:
    """An answer that is given as a whole conversation, without the prompt that it begins with."""
    n = len(prompt)
    return answer[n:] if len(answer) > n and answer[:n] == prompt else answer


def _check_prompt(messages: Sequence[Message]) -> None:
    if not messages:
        raise InvalidData("it has an answer and no prompt before it")
    if messages[-1].role is Role.ASSISTANT:
        raise InvalidData("its prompt ends in an assistant's message")


def _only_answer(messages: Sequence[Message], name: str) -> Message:
    if len(messages) != 1 or messages[0].role is not Role.ASSISTANT:
        raise InvalidData(f"{name} is not one assistant's message behind the prompt")
    return messages[0]
