"""Conversations in Anthropic's format become conversations in OpenAI's."""

from __future__ import annotations

from typing import Any

import pytest

from qwenkit.chat.messages import parse_messages
from qwenkit.errors import InvalidMessages
from qwenkit.server.anthropic.conversation import chat_messages
from qwenkit.server.anthropic.schema import MessageIn
from qwenkit.server.anthropic.signature import sign


def read(*messages: tuple[str, Any], system: Any = None) -> list[dict[str, Any]]:
    given = [MessageIn(role=role, content=content) for role, content in messages]
    conversation = chat_messages(given, system)
    parse_messages(conversation)
    return conversation


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def call(call_id: str, name: str = "weather", kind: str = "tool_use") -> dict[str, Any]:
    return {"type": kind, "id": call_id, "name": name, "input": {"city": "Oslo"}}


def result(call_id: str, content: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content, **fields}


def test_strings_and_blocks_say_the_same() -> None:
    assert read(("user", "hi"), system="Be brief.") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
    ]
    assert read(("user", [text("hi")]), system=[text("Be brief.")]) == read(
        ("user", "hi"), system="Be brief."
    )


def test_cache_control_changes_nothing() -> None:
    marked = text("hi") | {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert read(("user", [marked])) == read(("user", "hi"))


def test_a_users_blocks_begin_lines_and_an_assistants_go_on() -> None:
    conversation = read(
        ("user", [text("one"), text("two")]), ("assistant", [text("a"), text("b")]), ("user", "c")
    )
    assert [each["content"] for each in conversation] == ["one\ntwo", "ab", "c"]


def test_turns_of_one_role_become_one() -> None:
    conversation = read(
        ("user", "one"), ("user", "two"), ("assistant", "a"), ("assistant", "b"), ("user", "c")
    )
    assert [each["role"] for each in conversation] == ["user", "assistant", "user"]
    assert conversation[1]["content"] == "ab"


def test_calls_and_results_become_an_assistants_and_a_tools_messages() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": sign("hm")}
    said, answered, asked = read(
        ("assistant", [thinking, text("Let me see."), call("1")]),
        ("user", [result("1", [text("rain"), text("wind")]), text("and now?")]),
    )
    function = {"name": "weather", "arguments": {"city": "Oslo"}}
    assert said == {
        "role": "assistant",
        "content": "Let me see.",
        "reasoning_content": "hm",
        "tool_calls": [{"id": "1", "type": "function", "function": function}],
    }
    assert answered == {
        "role": "tool",
        "tool_call_id": "1",
        "name": "weather",
        "content": "rain\nwind",
    }
    assert asked == {"role": "user", "content": "and now?"}


def test_a_failed_tool_that_says_nothing_is_still_told() -> None:
    _, answered = read(("assistant", [call("1")]), ("user", [result("1", None, is_error=True)]))
    assert answered["content"] == "the tool failed"


def test_what_tools_said_here_stands_between_what_the_assistant_said() -> None:
    told = {"type": "mcp_tool_result", "tool_use_id": "1", "content": [text("rain")]}
    conversation = read(
        ("user", "weather?"),
        ("assistant", [text("One moment."), call("1", kind="mcp_tool_use"), told, text("Rain.")]),
        ("user", "thanks"),
    )
    roles = [each["role"] for each in conversation]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]
    assert conversation[3]["content"] == "Rain."


def test_only_thinking_that_was_altered_is_refused() -> None:
    def think(words: str, signature: str) -> list[dict[str, Any]]:
        block = {"type": "thinking", "thinking": words, "signature": signature}
        return read(("user", "?"), ("assistant", [block, text("a")]), ("user", "?"))

    assert think("hm", sign("hm"))[1]["reasoning_content"] == "hm"
    assert think("hm", "EqoBCkgIARABGAIi")[1]["reasoning_content"] == "hm"
    assert "reasoning_content" not in think("", sign("hm"))[1]
    with pytest.raises(InvalidMessages) as caught:
        think("hmm", sign("hm"))
    assert caught.value.param == "messages[1].content[0].signature"


def test_encrypted_thinking_is_passed_over() -> None:
    hidden = {"type": "redacted_thinking", "data": "xxx"}
    assert read(("assistant", [hidden, text("a")]))[0] == {"role": "assistant", "content": "a"}


def test_the_line_that_differs_with_every_request_of_claude_code_is_left_out() -> None:
    billing = "x-anthropic-billing-header: cc_version=2.1; cch={};"
    blocks = [[text(billing.format(each)), text("You are Claude Code.")] for each in "ab"]
    first, second = (read(("user", "hi"), system=each) for each in blocks)
    assert first == second
    assert first[0]["content"] == "You are Claude Code."
    together = read(("user", "hi"), system=f"{billing.format('c')}\nYou are Claude Code.")
    assert together == first


def test_texts_of_documents_and_search_results_are_read() -> None:
    plain = {"type": "text", "media_type": "text/plain", "data": "Once upon a time"}
    document = {"type": "document", "title": "A tale", "source": plain}
    parts = {"type": "content", "content": [text("one"), text("two")]}
    found = {"type": "search_result", "title": "T", "source": "s.txt", "content": [text("x")]}
    blocks = [document, {"type": "document", "source": parts}, found]
    (asked,) = read(("user", blocks))
    assert asked["content"] == "A tale\nOnce upon a time\none\ntwo\nT\ns.txt\nx"


@pytest.mark.parametrize(
    ("messages", "place"),
    [
        ([("user", [{"type": "image", "source": {}}])], "messages[0].content[0]"),
        ([("user", [{"type": "document", "source": {"type": "url"}}])], "messages[0].content[0]"),
        ([("user", [{"text": "no type"}])], "messages[0].content[0]"),
        ([("user", [{"type": "text"}])], "messages[0].content[0].text"),
        ([("user", [call("1")])], "messages[0].content[0]"),
        ([("user", "a"), ("assistant", [])], "messages[1].content"),
        ([("assistant", [{"type": "tool_use", "id": "1", "name": "a"}])], "messages[0].content[0]"),
        ([("assistant", [result("1", "x")])], "messages[0].content[0]"),
        ([("user", [result("1", 5)])], "messages[0].content[0].content"),
        ([("user", [{"type": "tool_result"}])], "messages[0].content[0].tool_use_id"),
        ([("user", "a"), ("assistant", [call("1")])], "messages[1]"),
    ],
)
def test_a_complaint_names_its_place(messages: list[Any], place: str) -> None:
    with pytest.raises(InvalidMessages) as caught:
        read(*messages)
    assert (caught.value.param or "").startswith(place)
