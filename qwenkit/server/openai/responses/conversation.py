"""Input items become a conversation in the chat API's form. Pure.

Thinking, text and calls of one answer are items of their own here and one message there. Every
complaint names the item (`input[2].content[0]`); of a kept conversation it names
`previous_response_id`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from qwenkit.errors import InvalidRequest
from qwenkit.server.openai.responses.tools import model_name

JsonObject: TypeAlias = dict[str, Any]
Placed: TypeAlias = tuple[str, Mapping[str, Any]]
"""An item, and where it stands."""

_ROLES = ("user", "system", "developer", "assistant")
_TEXTS = {
    "input_text": "text",
    "output_text": "text",
    "text": "text",
    "summary_text": "text",
    "reasoning_text": "text",
    "refusal": "refusal",
}
_MEDIA = ("input_image", "input_audio", "input_file", "input_video", "computer_screenshot")


class Conversation:
    """A conversation in the chat API's form.

    Args:
        instructions: What the model is told before everything else.
        items: What was said, oldest first.

    Attributes:
        messages: In the chat API's form.
        places: Where each of them begins.

    Raises:
        InvalidRequest: An item can't be read; `param` names it.
    """

    def __init__(self, instructions: str | None, items: Iterable[Placed]) -> None:
        self.messages: list[JsonObject] = []
        self.places: list[str] = []
        self._rules = [instructions] if instructions else []
        self._thoughts: list[str] = []
        self._answer: JsonObject | None = None
        self._results: list[JsonObject] = []
        self._place = "instructions"
        self._call_ids: set[str] = set()
        for place, item in items:
            self._read(place, item)
        self._end_answer()
        self._end_rules()
        if not self.messages:
            raise InvalidRequest("there is nothing to answer", param="input")

    def leave_out(self, begin: int, n: int) -> None:
        """Leave out some of the messages."""
        del self.messages[begin : begin + n]
        del self.places[begin : begin + n]

    def place_of(self, param: str) -> str:
        """A place in the messages as the request spells it."""
        if not param.startswith("messages["):
            return "input" if param == "messages" else param
        index, _, rest = param.removeprefix("messages[").partition("]")
        place = self.places[int(index)]
        # Only a message stands in one piece in both forms.
        return f"{place}{rest}" if rest.startswith(".content") else place

    def _read(self, place: str, item: Mapping[str, Any]) -> None:
        kind = item.get("type", "message")
        read = _READERS.get(kind) if isinstance(kind, str) else None
        if read is None:
            raise InvalidRequest(
                f"items of type {kind!r} can't be read here",
                param=f"{place}.type",
                hint=f"there are {', '.join(_READERS)}",
            )
        read(self, place, item)

    def _message(self, place: str, item: Mapping[str, Any]) -> None:
        role = item.get("role")
        if role not in _ROLES:
            raise InvalidRequest(
                f"{role!r} is no role; there are {', '.join(_ROLES)}", param=f"{place}.role"
            )
        text = _content(item.get("content"), f"{place}.content")
        if role == "assistant":
            answer = self._part_of_answer(place, unless=("content", "tool_calls"))
            answer["content"] = text
            return
        self._end_answer()
        if role != "user" and not self.messages:
            # Qwen3's template knows one system message, in front of the tools.
            self._place = self._place if self._rules else place
            self._rules.append(text)
            return
        self._end_rules()
        self._place = place
        self._put({"role": "user" if role == "user" else "system", "content": text})

    def _reasoning(self, place: str, item: Mapping[str, Any]) -> None:
        content, summary = item.get("content"), item.get("summary")
        text = _content(content, f"{place}.content") if content else ""
        text = text or _content(summary or [], f"{place}.summary")
        if text:  # there is nothing to read in what another server has encrypted
            self._part_of_answer(place, unless=("content", "tool_calls"))
            self._thoughts.append(text)

    def _call(self, place: str, item: Mapping[str, Any]) -> None:
        name = model_name(_text(item, "name", place), item.get("namespace"))
        arguments = _text(item, "arguments", place)
        self._called(place, _text(item, "call_id", place), name, arguments)

    def _custom_call(self, place: str, item: Mapping[str, Any]) -> None:
        name = model_name(_text(item, "name", place), item.get("namespace"))
        arguments = json.dumps({"input": _text(item, "input", place)}, ensure_ascii=False)
        self._called(place, _text(item, "call_id", place), name, arguments)

    def _mcp_call(self, place: str, item: Mapping[str, Any]) -> None:
        call_id, name = _text(item, "id", place), _text(item, "name", place)
        self._called(place, call_id, name, _text(item, "arguments", place))
        error = item.get("error")
        said = _error_text(error) if error is not None else item.get("output")
        result = said if isinstance(said, str) else ""
        self._results.append({"role": "tool", "tool_call_id": call_id, "content": result})

    def _called(self, place: str, call_id: str, name: str, arguments: str) -> None:
        answer = self._part_of_answer(place)
        function = {"name": name, "arguments": arguments}
        answer.setdefault("tool_calls", []).append(
            {"id": call_id, "type": "function", "function": function}
        )
        self._call_ids.add(call_id)

    def _output(self, place: str, item: Mapping[str, Any]) -> None:
        call_id = _text(item, "call_id", place)
        if call_id not in self._call_ids:
            raise InvalidRequest(
                f"no call has the id {call_id!r}",
                param=f"{place}.call_id",
                hint="send the call before its output, or previous_response_id",
            )
        self._end_answer()
        self._place = place
        text = _content(item.get("output"), f"{place}.output")
        self._put({"role": "tool", "tool_call_id": call_id, "content": text})

    def _nothing(self, place: str, item: Mapping[str, Any]) -> None:
        """What only tells the client something."""

    def _part_of_answer(self, place: str, *, unless: Sequence[str] = ()) -> JsonObject:
        """The answer that an item belongs to: the last one, unless that has something already."""
        answer = self._answer
        if answer is not None and not any(name in answer for name in unless):
            return answer
        self._end_answer()
        self._end_rules()
        self._place = place
        self._answer = {"role": "assistant"}
        return self._answer

    def _end_answer(self) -> None:
        answer, self._answer = self._answer, None
        results, self._results = self._results, []
        thoughts, self._thoughts = self._thoughts, []
        if answer is not None:
            thought = {"reasoning_content": "\n\n".join(thoughts)} if thoughts else {}
            self._put({"content": "", **answer, **thought})
        for each in results:
            self._put(each)

    def _end_rules(self) -> None:
        rules, self._rules = self._rules, []
        if rules:
            self._put({"role": "system", "content": "\n\n".join(rules)})

    def _put(self, message: JsonObject) -> None:
        self.messages.append(message)
        self.places.append(self._place)


_READERS: dict[str, Callable[[Conversation, str, Mapping[str, Any]], None]] = {
    "message": Conversation._message,
    "reasoning": Conversation._reasoning,
    "function_call": Conversation._call,
    "function_call_output": Conversation._output,
    "custom_tool_call": Conversation._custom_call,
    "custom_tool_call_output": Conversation._output,
    "mcp_call": Conversation._mcp_call,
    "mcp_list_tools": Conversation._nothing,
}


def _text(item: Mapping[str, Any], name: str, place: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"{place}.{name} must be a string", param=f"{place}.{name}")
    return value


def _content(content: Any, place: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"{place} must be a string or a list of parts", param=place)
    return "".join(_part(part, f"{place}[{index}]") for index, part in enumerate(content))


def _part(part: Any, place: str) -> str:
    if not isinstance(part, Mapping):
        raise InvalidRequest(f"{place} must be a part with a type", param=place)
    kind = part.get("type")
    if kind in _MEDIA:
        raise InvalidRequest(
            f"{place} is of type {kind!r}; this model reads text only", param=place
        )
    if not isinstance(kind, str) or kind not in _TEXTS:
        raise InvalidRequest(f"{kind!r} is no type of content", param=f"{place}.type")
    return _text(part, _TEXTS[kind], place)


def _error_text(error: Any) -> str:
    """What a call's error says, in any of the forms that it has had."""
    match error:
        case str():
            return error
        case {"message": str(message)}:
            return message
        case {"content": list(parts)}:
            texts = [each.get("text") for each in parts if isinstance(each, Mapping)]
            return "".join(text for text in texts if isinstance(text, str))
    return ""
