"""LangChain's messages as a model reads them."""

import pytest
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from qwenkit.agent.conversation import NOT_RUN, to_openai
from qwenkit.chat.messages import parse_messages
from qwenkit.errors import InvalidMessages

CALL = {"name": "f", "args": {"a": 1}, "id": "c1", "type": "tool_call"}


def test_every_kind_of_message_has_its_place():
    conversation = to_openai(
        [
            SystemMessage("Be brief."),
            HumanMessage("hi"),
            AIMessage("", tool_calls=[CALL], additional_kwargs={"reasoning_content": "hm"}),
            ToolMessage("1", tool_call_id="c1", name="f"),
            AIMessage("done"),
            ChatMessage(role="user", content="more"),
        ]
    )
    assert [each["role"] for each in conversation] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    called = conversation[2]
    assert called["reasoning_content"] == "hm"
    assert called["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert conversation[3]["tool_call_id"] == "c1"
    assert len(parse_messages(conversation)) == 6


def test_reasoning_is_also_read_from_content_blocks():
    blocks = [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "yes"}]
    [message] = to_openai([AIMessage(content=blocks)])
    assert message == {"role": "assistant", "content": "yes", "reasoning_content": "hm"}


@pytest.mark.parametrize("after", [[], [HumanMessage("never mind")]])
def test_a_call_that_was_never_answered_is_answered_so(after):
    conversation = to_openai([HumanMessage("x"), AIMessage("", tool_calls=[CALL]), *after])
    assert conversation[2] == {
        "role": "tool",
        "tool_call_id": "c1",
        "name": "f",
        "content": NOT_RUN,
    }


def test_a_broken_call_is_shown_as_the_model_wrote_it():
    broken = {"name": "f", "args": '{"a":', "id": "c1", "error": None, "type": "invalid_tool_call"}
    [called, _] = to_openai([AIMessage("", invalid_tool_calls=[broken])])
    assert called["tool_calls"][0]["function"]["arguments"] == '{"a":'


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        (
            {"type": "image", "mimeType": "image/png", "metadata": {"name": "a.png"}},
            "a.png (image/png)",
        ),
        ({"type": "file", "mime_type": "application/pdf"}, "(application/pdf)"),
        ({"type": "image_url", "image_url": {"url": "data:"}}, "(image_url)"),
    ],
)
def test_what_a_text_model_can_not_read_is_named_in_its_place(part, shown):
    [message] = to_openai([HumanMessage([{"type": "text", "text": "see "}, part])])
    assert message["content"].startswith("see [attachment ")
    assert shown in message["content"]


def test_a_message_of_no_known_kind_is_refused():
    with pytest.raises(InvalidMessages):
        to_openai([FunctionMessage(name="f", content="x")])
