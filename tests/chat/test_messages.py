from __future__ import annotations

from typing import Any

import pytest

from qwenkit.chat.messages import Message, Role, ToolCall, parse_messages, parse_tools
from qwenkit.errors import InvalidMessages

USER = {"role": "user", "content": "hi"}


def parse_one(message: dict[str, Any]) -> Message:
    return parse_messages([message])[0]


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("system", Role.SYSTEM),
        ("developer", Role.SYSTEM),
        ("user", Role.USER),
        ("assistant", Role.ASSISTANT),
        ("tool", Role.TOOL),
        ("function", Role.TOOL),
    ],
)
def test_every_role_clients_use_is_known(role: str, expected: Role) -> None:
    assert parse_one({"role": role, "content": "x"}).role is expected


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}, {"text": "c"}]
    assert parse_one({"role": "user", "content": parts}).content == "abc"


def test_an_assistant_may_have_no_content() -> None:
    assert parse_one({"role": "assistant", "content": None}).content == ""


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_is_taken_under_every_name(field: str) -> None:
    message = parse_one({"role": "assistant", "content": "x</think>", field: "hm"})
    assert (message.reasoning, message.content) == ("hm", "x</think>")


def test_a_think_block_in_the_content_becomes_reasoning() -> None:
    message = parse_one({"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello"})
    assert (message.reasoning, message.content) == ("hm", "Hello")


def test_a_think_block_of_a_user_stays_content() -> None:
    assert parse_one({"role": "user", "content": "<think>a</think>b"}).reasoning is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ('{"z": 1, "a": "é"}', {"z": 1, "a": "é"}),
        ({"z": 1}, {"z": 1}),
        ("", {}),
        (None, {}),
        ("not json", "not json"),
        ("[1]", "[1]"),
        ('"text"', '"text"'),
    ],
)
def test_arguments_become_an_object_where_they_are_one(given: Any, expected: Any) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": given}}
    message = parse_one({"role": "assistant", "content": None, "tool_calls": [call]})
    assert message.tool_calls == (ToolCall("f", expected, "c"),)


def test_the_order_of_arguments_is_kept() -> None:
    call = {"function": {"name": "f", "arguments": '{"z": 1, "a": {"y": 2, "b": 3}}'}}
    [parsed] = parse_one({"role": "assistant", "tool_calls": [call]}).tool_calls
    assert list(parsed.arguments) == ["z", "a"]
    assert list(parsed.arguments["a"]) == ["y", "b"]


def test_a_legacy_function_call_is_a_tool_call() -> None:
    message = {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}
    assert parse_one(message).tool_calls == (ToolCall("f", {}),)


def test_a_tools_answer_needs_no_call_before_it() -> None:
    message = parse_one({"role": "tool", "content": "4", "tool_call_id": "c"})
    assert (message.role, message.tool_call_id) == (Role.TOOL, "c")


def test_a_message_in_the_one_form_is_left_alone() -> None:
    message = Message(Role.USER, "hi")
    assert parse_messages([message, USER]) == (message, message)


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ("hi", "messages"),
        ({}, "messages"),
        ([], "messages"),
        (["hi"], "messages[0]"),
        ([{}], "messages[0].role"),
        ([{"role": "robot", "content": "x"}], "messages[0].role"),
        ([{"role": ["user"], "content": "x"}], "messages[0].role"),
        ([USER, {"role": "user"}], "messages[1].content"),
        ([{"role": "system", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": 3}], "messages[0].content"),
        ([{"role": "user", "content": {"text": "a"}}], "messages[0].content"),
        ([{"role": "user", "content": [3]}], "messages[0].content[0]"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        ([{"role": "user", "content": [{"type": "odd"}]}], "messages[0].content[0].type"),
        ([{"role": "assistant", "reasoning": 3}], "messages[0].reasoning"),
        ([{"role": "assistant", "tool_calls": {}}], "messages[0].tool_calls"),
        ([{"role": "assistant", "tool_calls": [3]}], "messages[0].tool_calls[0]"),
        (
            [{"role": "assistant", "tool_calls": [{"function": 3}]}],
            "messages[0].tool_calls[0].function",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"function": {}}]}],
            "messages[0].tool_calls[0].function.name",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 3}}]}],
            "messages[0].tool_calls[0].function.arguments",
        ),
        ([{"role": "user", "content": "\ud800"}], "messages[0].content"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "\udfff"}]}],
            "messages[0].content[0].text",
        ),
        ([{"role": "tool", "content": "x", "name": 3}], "messages[0].name"),
        (
            [
                {
                    "role": "assistant",
                    "tool_calls": [{"function": {"name": "f", "arguments": '{"a": "\\ud800"}'}}],
                }
            ],
            "messages[0].tool_calls[0].function.arguments.a",
        ),
    ],
)
def test_a_wrong_message_is_refused_by_its_place(messages: Any, param: str) -> None:
    with pytest.raises(InvalidMessages) as caught:
        parse_messages(messages)
    assert caught.value.param == param


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "video_url", "file"])
def test_media_are_refused_because_the_model_reads_text_only(kind: str) -> None:
    with pytest.raises(InvalidMessages, match="reads text only") as caught:
        parse_messages([USER, USER, {"role": "user", "content": [{"type": kind, kind: {}}]}])
    assert caught.value.param == "messages[2].content[0]"


def test_endless_nesting_is_refused() -> None:
    arguments: dict[str, Any] = {}
    for _ in range(2000):
        arguments = {"a": arguments}
    with pytest.raises(InvalidMessages):
        parse_one({"role": "assistant", "tool_calls": [{"name": "f", "arguments": arguments}]})


def tool(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **function}}


def test_a_tool_keeps_its_definition_as_given() -> None:
    definition = tool(description="d", parameters={"type": "object"}, strict=True)
    [parsed] = parse_tools([definition])
    assert (parsed.name, parsed.parameters, parsed.strict) == ("f", {"type": "object"}, True)
    assert parsed.definition is definition


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ({}, "tools"),
        ([3], "tools[0]"),
        ([{"type": "web_search"}], "tools[0].type"),
        ([{"type": "function"}], "tools[0].function"),
        ([tool(name=3)], "tools[0].function.name"),
        ([tool(name="")], "tools[0].function.name"),
        ([tool(description=3)], "tools[0].function.description"),
        ([tool(parameters=[])], "tools[0].function.parameters"),
        ([tool(description="\ud800")], "tools[0].function.description"),
        ([tool(), tool()], "tools[1].function.name"),
    ],
)
def test_a_wrong_tool_is_refused_by_its_place(tools: Any, param: str) -> None:
    with pytest.raises(InvalidMessages) as caught:
        parse_tools(tools)
    assert caught.value.param == param
