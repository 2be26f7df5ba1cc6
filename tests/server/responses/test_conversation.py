"""How items become messages."""

import pytest

from qwenkit.errors import InvalidRequest
from qwenkit.server.openai.responses.conversation import Conversation


def read(*items, instructions=None):
    placed = [(f"input[{index}]", item) for index, item in enumerate(items)]
    return Conversation(instructions, placed)


def call(name, call_id="c1", arguments="{}"):
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def made(name, call_id="c1", arguments="{}"):
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": function}


def output(text, call_id="c1"):
    return {"type": "function_call_output", "call_id": call_id, "output": text}


def thought(text):
    return {
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": text}],
    }


USER = {"role": "user", "content": "hi"}


def test_one_answers_items_are_one_message():
    said = {"role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]}
    conversation = read(USER, thought("Hm."), said, call("f"), call("g", "c2"), output("1"))
    assert conversation.messages == [
        USER,
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning_content": "Hm.",
            "tool_calls": [made("f"), made("g", "c2")],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
    ]
    assert conversation.places == ["input[0]", "input[1]", "input[5]"]


def test_answers_that_follow_each_other_stay_apart():
    one, two = ({"role": "assistant", "content": text} for text in ("one", "two"))
    assert read(USER, one, two).messages == [USER, one, two]
    kept = read(USER, thought("a"), one, thought("b"), two).messages
    assert [each.get("reasoning_content") for each in kept] == [None, "a", "b"]


def test_instructions_and_what_the_system_says_first_are_one_message():
    rule = {"role": "developer", "content": "Be brief."}
    conversation = read(rule, USER, rule, instructions="Be kind.")
    assert conversation.messages == [
        {"role": "system", "content": "Be kind.\n\nBe brief."},
        USER,
        {"role": "system", "content": "Be brief."},
    ]


def test_a_call_of_ours_is_a_call_and_its_result():
    ours = {
        "type": "mcp_call",
        "id": "m1",
        "server_label": "s",
        "name": "f",
        "arguments": "{}",
        "output": "sunny",
        "error": None,
    }
    failed = ours | {"id": "m2", "output": None}
    failed["error"] = {"type": "mcp_tool_execution_error", "content": [{"text": "broken"}]}
    listed = {"type": "mcp_list_tools", "server_label": "s", "tools": []}
    said = {"role": "assistant", "content": "Sunny."}
    assert read(listed, USER, ours, failed, thought("So."), said).messages == [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [made("f", "m1"), made("f", "m2")]},
        {"role": "tool", "tool_call_id": "m1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "m2", "content": "broken"},
        {"role": "assistant", "reasoning_content": "So.", "content": "Sunny."},
    ]


def test_a_custom_call_and_a_namespaced_one_have_the_models_names():
    custom = {"type": "custom_tool_call", "call_id": "c1", "name": "sh", "input": 'a "b"'}
    answer = {"type": "custom_tool_call_output", "call_id": "c1", "output": "done"}
    inside = call("f", "c2") | {"namespace": "box"}
    _, said, result, later = read(USER, custom, answer, inside).messages
    assert said["tool_calls"] == [made("sh", arguments='{"input": "a \\"b\\""}')]
    assert result["content"] == "done"
    assert later["tool_calls"] == [made("box__f", "c2")]


def test_a_summary_stands_for_thinking_that_is_not_there():
    summed = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "So."}]}
    sealed = {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}
    said = {"role": "assistant", "content": "x"}
    assert read(USER, summed, said).messages[1]["reasoning_content"] == "So."
    assert "reasoning_content" not in read(USER, sealed, said).messages[1]


def test_a_place_among_the_messages_is_told_as_the_items():
    conversation = read(USER, thought("Hm."), call("f"), output("x"), instructions="r")
    assert conversation.place_of("messages[1].content") == "input[0].content"
    assert conversation.place_of("messages[2].tool_calls[0].function.name") == "input[1]"
    assert conversation.place_of("messages[3].content[0]") == "input[3].content[0]"
    assert conversation.place_of("messages") == "input"
    assert conversation.place_of("tools[0]") == "tools[0]"


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "reasoning", "content": 5}, "input[0].content"),
        ({"type": "function_call", "call_id": "c", "name": 5}, "input[0].name"),
        ({"type": "function_call", "call_id": "c", "name": "f"}, "input[0].arguments"),
        ({"type": ["x"]}, "input[0].type"),
        ({"type": "mcp_approval_response"}, "input[0].type"),
        ({"role": "user", "content": ["x"]}, "input[0].content[0]"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[0].content[0].text"),
        ({"role": "user", "content": [{"type": ["x"]}]}, "input[0].content[0].type"),
        ({"role": "tool", "content": "x"}, "input[0].role"),
    ],
)
def test_what_can_not_be_read_is_refused_with_its_place(item, param):
    with pytest.raises(InvalidRequest) as caught:
        read(item)
    assert caught.value.param == param
