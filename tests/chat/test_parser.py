from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.chat.events import Delta, ReasoningDelta, TextDelta, ToolCallDelta, ToolCallStarted
from qwenkit.chat.parser import StreamParser

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'


@dataclass
class Parsed:
    reasoning: str = ""
    text: str = ""
    calls: list[list[str]] = field(default_factory=list)

    def add(self, deltas: Iterable[Delta]) -> None:
        for delta in deltas:
            match delta:
                case ReasoningDelta(text):
                    self.reasoning += text
                case TextDelta(text):
                    self.text += text
                case ToolCallStarted(index, _, name):
                    assert index == len(self.calls)
                    self.calls.append([name, ""])
                case ToolCallDelta(index, arguments):
                    assert index == len(self.calls) - 1
                    assert arguments
                    self.calls[index][1] += arguments


def parse(
    *pieces: str, inside: bool = False, continues: bool = False, tools: bool = True
) -> Parsed:
    ids = itertools.count()
    parser = StreamParser(
        inside_reasoning=inside,
        continues_text=continues,
        parse_tools=tools,
        new_id=lambda: f"call_{next(ids)}",
    )
    parsed = Parsed()
    for piece in pieces:
        parsed.add(parser.feed(piece))
    parsed.add(parser.flush())
    return parsed


def first_deltas(*pieces: str, inside: bool = False) -> list[list[Delta]]:
    parser = StreamParser(inside_reasoning=inside, new_id=lambda: "id")
    return [parser.feed(piece) for piece in pieces]


# What Qwen3 writes


def test_thinking_and_answer_are_told_apart() -> None:
    assert parse("<think>\nhm\n</think>\n\nHello") == Parsed("hm", "Hello")


def test_a_prompt_that_opened_the_block_starts_in_the_reasoning() -> None:
    assert parse("hm\n</think>\n\nHello", inside=True) == Parsed("hm", "Hello")


def test_an_answer_without_thinking_is_all_text() -> None:
    assert parse("Hello\n\nthere\n") == Parsed("", "Hello\n\nthere\n")


@pytest.mark.parametrize(
    "block", ["<think>\n\n</think>\n\n", "<think></think>", "<think>\n</think>"]
)
def test_an_empty_block_leaves_no_reasoning(block: str) -> None:
    assert parse(block + "Hello") == Parsed("", "Hello")


def test_only_the_formats_newlines_are_dropped() -> None:
    parsed = parse("<think>\n\n a\n\n</think>\n\n\n  b\n\n" + CALL)
    assert parsed == Parsed("\n a\n", "  b\n", [["add", '{"a": 1, "b": 2}']])


def test_a_continued_answer_keeps_its_leading_newline() -> None:
    assert parse("\n- two", continues=True) == Parsed("", "\n- two")


def test_a_tool_call_streams_its_name_before_its_arguments() -> None:
    deltas = first_deltas('<tool_call>\n{"name": "add"', ', "arguments": {"a"', ": 1}}")
    assert deltas == [
        [ToolCallStarted(0, "id", "add")],
        [ToolCallDelta(0, '{"a"')],
        [ToolCallDelta(0, ": 1}")],
    ]


def test_parallel_calls_are_numbered_and_the_space_between_them_is_dropped() -> None:
    parsed = parse(f"{CALL}\n{CALL}\n\n{CALL}\n")
    assert parsed == Parsed("", "", [["add", '{"a": 1, "b": 2}']] * 3)


def test_arguments_come_exactly_as_the_model_wrote_them() -> None:
    arguments = '{ "z":1.50,\n "a": [ {"é":"\\u00e9 } \\" ]"} ] , "n": null}'
    parsed = parse(f'<tool_call>\n{{"name": "f", "arguments": {arguments} }}\n</tool_call>')
    assert parsed.calls == [["f", arguments]]


# Known traps of other software


def test_a_closing_think_tag_split_over_two_deltas_never_reaches_the_content() -> None:
    text = "<think>\nhm\n</think>\n\nHello"
    for cut in range(len(text)):
        assert parse(text[:cut], text[cut:]) == Parsed("hm", "Hello")


def test_tool_choice_none_leaves_tool_call_markup_as_text() -> None:
    assert parse("a\n" + CALL, tools=False) == Parsed("", "a\n" + CALL)


@pytest.mark.parametrize("between", ["\n\n", "", "\n", " \n"])
def test_a_tool_call_right_after_the_thinking_is_not_dropped(between: str) -> None:
    parsed = parse(f"<think>\nhm\n</think>{between}{CALL}")
    assert parsed == Parsed("hm", "", [["add", '{"a": 1, "b": 2}']])


def test_a_second_reasoning_block_joins_the_first() -> None:
    assert parse("<think>\na\n</think>\n\n<think>\nb\n</think>\n\nc") == Parsed("a\nb", "c")


def test_a_reasoning_block_between_tool_calls_is_reasoning() -> None:
    parsed = parse(f"{CALL}\n<think>\nb\n</think>\n{CALL}")
    assert (parsed.reasoning, parsed.text, len(parsed.calls)) == ("b", "", 2)


def test_text_before_a_tool_call_is_kept() -> None:
    assert parse("Let me see.\n" + CALL) == Parsed("", "Let me see.", [["add", '{"a": 1, "b": 2}']])


def test_thinking_cut_short_leaves_the_content_empty() -> None:
    assert parse("<think>\nI wonder\n</thi") == Parsed("I wonder\n</thi", "")


def test_a_tool_call_inside_the_thinking_is_a_thought() -> None:
    assert parse(f"<think>\n{CALL}\n</think>\n\nNo.") == Parsed(CALL, "No.")


# Where the format leaves room


@pytest.mark.parametrize("text", ["The `</think>` tag", "The <think> tag", "a</think>\n\nb"])
def test_think_tags_within_the_answer_are_text(text: str) -> None:
    assert parse(text) == Parsed("", text)


def test_a_stray_closing_tag_before_the_answer_disappears() -> None:
    assert parse("</think>\n\nHello") == Parsed("", "Hello")


@pytest.mark.parametrize(
    "body",
    [
        "",
        "\n\n",
        "not json",
        '\n{"arguments": {}}\n',
        '{"name": 3}',
        '{"name": ""}',
        '{"name": "\\ud800"}',
        '[{"name": "f"}]',
        '{name: "f"}',
        '{"name" "f"}',
        "\n{}\n",
    ],
)
@pytest.mark.parametrize("before", ["", "So:\n", "So: "])
def test_a_malformed_tool_call_is_given_back_as_text(body: str, before: str) -> None:
    text = f"{before}<tool_call>{body}</tool_call> and more"
    assert parse(text) == Parsed("", text)


def test_a_call_behind_a_malformed_one_is_still_a_call() -> None:
    parsed = parse("use <tool_call> like this: " + CALL)
    assert parsed == Parsed("", "use <tool_call> like this: ", [["add", '{"a": 1, "b": 2}']])


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ('{"name": "f"}', "{}"),
        ('{"name": "f", "arguments": {}', "{}"),
        ('{"name": "f", "arguments": {}}}}', "{}"),
        ('{"name": "f", "arguments":}', "{}"),
        ('{"arguments": {"a": 1}, "name": "f"}', '{"a": 1}'),
        ('{"name": "f", "parameters": {"a": 1}}', '{"a": 1}'),
        ('{"id": [1, {"name": "g"}], "name": "f", "arguments": {"a": 1}}', '{"a": 1}'),
        ('{"name": "f", "arguments": null}', "null"),
        ('{"name": "f", "arguments": {"a": </b>}}', '{"a": </b>}'),
        ('{"name": "f", "arguments": {"a": "</tool_call>"}}', '{"a": "</tool_call>"}'),
        ('{"name": "f", "arguments": {"a": "open\n', '{"a": "open\n'),
        ('{"name": "f", "arguments": "{\\"a\\": \\"\\\\n\\u00e9\\"}"}', '{"a": "\\né"}'),
        (
            '{"name": "f", "arguments": "{\\"a\\": \\"\\ud83d\\ude00\\"}"}',
            '{"a": "\\ud83d\\ude00"}',
        ),
        ('{"name": "f", "arguments": "plain"}', '"plain"'),
        ('{"name": "f", "arguments": ""}', '""'),
    ],
)
def test_a_call_with_a_name_is_a_call_whatever_its_arguments(body: str, arguments: str) -> None:
    parsed = parse(f"<tool_call>\n{body}</tool_call>\nok")
    assert parsed == Parsed("", "ok", [["f", arguments]])


def test_two_calls_in_one_block_are_two_calls() -> None:
    body = '{"name": "f", "arguments": {"a": 1}}\n{"name": "g"}'
    assert parse(f"<tool_call>{body}</tool_call>").calls == [["f", '{"a": 1}'], ["g", "{}"]]


def test_a_missing_closing_tag_loses_neither_the_call_nor_what_follows() -> None:
    parsed = parse('<tool_call>\n{"name": "f", "arguments": {}}\nDone.\n' + CALL)
    assert parsed == Parsed("", "Done.", [["f", "{}"], ["add", '{"a": 1, "b": 2}']])


def test_what_follows_a_broken_member_is_text() -> None:
    parsed = parse('<tool_call>{"name": "f", args: {"a": 1}}')
    assert parsed == Parsed("", 'args: {"a": 1}}', [["f", "{}"]])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('a\n<tool_call>\n{"na', Parsed("", 'a\n<tool_call>\n{"na')),
        ("a\n<tool_", Parsed("", "a\n<tool_")),
        ('<tool_call>{"name": "f"', Parsed("", "", [["f", ""]])),
        ('<tool_call>{"name": "f", "arguments": {"a": "b', Parsed("", "", [["f", '{"a": "b']])),
        (CALL.removesuffix("call>"), Parsed("", "", [["add", '{"a": 1, "b": 2}']])),
    ],
)
def test_an_answer_cut_inside_a_tool_call_keeps_what_came(text: str, expected: Parsed) -> None:
    parsed = parse(text)
    parsed.text = parsed.text.removesuffix("</tool_")
    assert parsed == expected


# Streaming


def test_text_that_can_be_no_tag_is_not_held_back() -> None:
    assert first_deltas("Hel", "lo <b", ">\n", "there")[:2] == [
        [TextDelta("Hel")],
        [TextDelta("lo <b")],
    ]


def test_only_what_could_begin_a_tag_is_held_back() -> None:
    assert first_deltas("hm\n</th", "ings", inside=True) == [
        [ReasoningDelta("hm")],
        [ReasoningDelta("\n</things")],
    ]


TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<", "</", "<t", CALL]
WORDS = ["a", "é", " ", "\n", "1", ",", ":", "{", "}", "[", "]", '"', "\\", "\\u00e9"]
JSON_PIECES = ['{"name": "f"', ', "arguments": ', '{"a": "b"}', '"{\\"a\\": 1}"', '"name"', '"x"']
TOKENS = st.sampled_from(TAGS + WORDS + JSON_PIECES)
ANSWERS = st.lists(TOKENS, max_size=14).map("".join)


@settings(max_examples=600, deadline=None)
@given(ANSWERS, st.data(), st.booleans(), st.booleans())
def test_the_merged_output_is_the_same_however_the_text_is_split(
    text: str, data: st.DataObject, inside: bool, tools: bool
) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8).map(sorted))
    ends: Sequence[int] = [0, *cuts, len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(ends)]
    whole = parse(text, inside=inside, tools=tools)
    assert parse(*pieces, inside=inside, tools=tools) == whole
    assert parse(*text, inside=inside, tools=tools) == whole


def test_every_split_in_two_or_three_gives_the_same_output() -> None:
    text = f"<think>\na\n</think>\n\nb\n{CALL}\n{CALL}"
    whole = parse(text)
    for i, j in itertools.combinations_with_replacement(range(len(text) + 1), 2):
        assert parse(text[:i], text[i:j], text[j:]) == whole


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=4), JSON, max_size=3)


@settings(deadline=None)
@given(st.text(min_size=1), OBJECTS, st.booleans(), st.booleans(), st.sampled_from([None, 1]))
def test_every_well_formed_call_comes_back(
    name: str, arguments: dict[str, object], ascii_only: bool, wrapped: bool, indent: int | None
) -> None:
    written = json.dumps(arguments, ensure_ascii=ascii_only, indent=indent)
    value = json.dumps(written, ensure_ascii=ascii_only) if wrapped else written
    body = f'{{"name": {json.dumps(name, ensure_ascii=ascii_only)}, "arguments": {value}}}'
    parsed = parse(f"<tool_call>\n{body}\n</tool_call>")
    assert parsed.text == ""
    assert [call[0] for call in parsed.calls] == [name]
    assert json.loads(parsed.calls[0][1]) == arguments
    assert wrapped or parsed.calls[0][1] == written


@settings(deadline=None)
@given(ANSWERS.filter(lambda text: "think>" not in text and "<tool_call>" not in text))
def test_text_without_tags_is_only_freed_of_leading_newlines(text: str) -> None:
    expected = text.lstrip("\n") if text.strip() else ""
    assert parse(text) == Parsed("", expected)
