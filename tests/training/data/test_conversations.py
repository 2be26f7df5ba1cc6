"""Conversations become samples whose answers stand behind the prompts of serving."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.chat.messages import parse_messages, parse_tools
from qwenkit.chat.template import encode_prompt
from qwenkit.training.data.options import DataOptions
from qwenkit.training.data.rendering import Cuts, make_samples
from qwenkit.training.data.rows import parse_row
from qwenkit.training.data.samples import LabelSample, PreferenceSample, PromptSample, Sample

END = "<|im_end|>"
EMPTY = "<think>\n\n</think>\n\n"
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {"function": {"name": "add", "arguments": {"a": 1}}}
SHOWN_CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'

TEXTS = st.text(max_size=12) | st.sampled_from(["Yes.", "a<think>b", "x <|im_end|> y", "日本 🦙"])
THOUGHTS = st.none() | st.text("ab \n", max_size=6) | st.just("hm")
SPOKEN = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["system", "user", "tool"]),
    TEXTS | st.just("/no_think please"),
)
ANSWERS = st.builds(
    lambda content, thought, calls: {
        "role": "assistant",
        "content": content,
        "reasoning_content": thought,
        "tool_calls": calls,
    },
    TEXTS,
    THOUGHTS,
    st.lists(st.just(CALL), max_size=2),
)
CONVERSATIONS = st.lists(SPOKEN | ANSWERS, min_size=1, max_size=6).map(
    lambda messages: [{"role": "user", "content": "Go"}, *messages]
)
OPTIONS = st.builds(
    DataOptions,
    max_length=st.just(100_000),
    thinking=st.sampled_from(["keep", "strip"]),
    empty_thinking=st.sampled_from(["learned", "given"]),
)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, thought: str | None = None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, "reasoning_content": thought, **more}


def split(sample: Sample) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each learned stretch with all that stands before it."""
    edges = [i for i, (a, b) in enumerate(pairwise((False, *sample.learned, False))) if a != b]
    return [
        (sample.ids[:start], sample.ids[start:end])
        for start, end in zip(edges[::2], edges[1::2], strict=True)
    ]


def test_every_answer_stands_behind_a_prompt_of_serving(renderer) -> None:
    @settings(max_examples=200, deadline=None)
    @given(CONVERSATIONS, st.booleans(), OPTIONS)
    def compare(messages: list[dict[str, Any]], offers: bool, options: DataOptions) -> None:
        tools = [TOOL] if offers else []
        answers = [i for i, each in enumerate(messages) if each["role"] == "assistant"]
        if not answers:
            return
        (row,) = parse_row({"messages": messages, "tools": tools}, method="sft")
        samples = make_samples(row, "here", renderer=renderer, options=options, cuts=Cuts())
        stretches = [stretch for sample in samples for stretch in split(sample)]
        assert len(stretches) == len(answers)
        for index, (prompt, completion) in zip(answers, stretches, strict=True):
            conversation = parse_messages(messages[: index + 1])
            if options.thinking == "strip":
                conversation = [without_reasoning(each) for each in conversation]
            served = {
                encode_prompt(
                    renderer.template.render(
                        conversation[:-1], tools=parse_tools(tools), enable_thinking=thinks
                    ),
                    renderer.tokenizer,
                )
                for thinks in (True, False)
            }
            assert prompt in served
            whole = renderer.template.render(
                conversation, tools=parse_tools(tools), add_generation_prompt=False
            )
            asked = renderer.decode(prompt)
            opening = asked[asked.rindex("<|im_start|>") :]
            assert whole.text.endswith(f"{opening}{renderer.decode(completion)}\n")
            assert completion[-1] in renderer.tokenizer.eos_tokens
            assert not set(completion[:-1]) & set(renderer.tokenizer.control_tokens.values())

    def without_reasoning(message: Any) -> Any:
        from dataclasses import replace

        return replace(message, reasoning=None)

    compare()


def test_only_the_assistants_words_are_learned(prepare, learned_texts) -> None:
    row = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            user("1+1?"),
            assistant("", "add them", tool_calls=[CALL]),
            {"role": "tool", "content": "2"},
            assistant("Two.", "easy"),
        ],
        "tools": [TOOL],
    }
    (sample,) = prepare(row).samples
    assert learned_texts(sample) == [
        f"<think>\nadd them\n</think>\n\n{SHOWN_CALL}{END}",
        f"<think>\neasy\n</think>\n\nTwo.{END}",
    ]


def test_a_turn_whose_history_serving_shows_otherwise_is_a_sample_of_its_own(
    prepare, learned_texts, renderer
) -> None:
    row = {"messages": [user("a"), assistant("A", "hm"), user("b"), assistant("B", "so")]}
    first, second = prepare(row).samples
    assert learned_texts(first) == [f"<think>\nhm\n</think>\n\nA{END}"]
    assert learned_texts(second) == [f"<think>\nso\n</think>\n\nB{END}"]
    assert "hm" not in renderer.decode(second.ids)


def test_an_empty_thinking_block_is_learned_or_given(prepare, learned_texts, renderer) -> None:
    row = {"messages": [user("a"), assistant("A")]}
    (learned,) = prepare(row).samples
    (given_,) = prepare(row, empty_thinking="given").samples
    assert learned.ids == given_.ids
    assert learned_texts(learned) == [f"{EMPTY}A{END}"]
    assert learned_texts(given_) == [f"A{END}"]


def test_behind_a_soft_switch_the_model_writes_the_empty_block_itself(
    prepare, learned_texts
) -> None:
    row = {"messages": [user("a /no_think"), assistant("A")]}
    (sample,) = prepare(row, empty_thinking="given").samples
    assert learned_texts(sample) == [f"{EMPTY}A{END}"]


def test_stripped_reasoning_is_neither_learned_nor_seen(prepare, renderer) -> None:
    row = {
        "messages": [
            user("a"),
            assistant("", "secret", tool_calls=[CALL]),
            {"role": "tool", "content": "2"},
            assistant("<think>\nsecret\n</think>\n\nA"),
        ]
    }
    for sample in prepare(row, thinking="strip").samples:
        assert "secret" not in renderer.decode(sample.ids)
    assert any("secret" in renderer.decode(sample.ids) for sample in prepare(row).samples)


def test_a_weight_of_zero_takes_an_answer_out(prepare, learned_texts) -> None:
    row = {"messages": [user("a"), assistant("A", weight=0), user("b"), assistant("B", weight=1)]}
    (sample,) = prepare(row).samples
    assert learned_texts(sample) == [f"{EMPTY}B{END}"]


def test_only_the_last_answer_can_be_learned(prepare, learned_texts) -> None:
    row = {"messages": [user("a"), assistant("A"), user("b"), assistant("B")]}
    (sample,) = prepare(row, turns="last").samples
    assert learned_texts(sample) == [f"{EMPTY}B{END}"]


def test_answers_in_a_prompt_are_not_learned(prepare, learned_texts) -> None:
    row = {"prompt": [user("a"), assistant("A"), user("b")], "completion": [assistant("B")]}
    (sample,) = prepare(row).samples
    assert learned_texts(sample) == [f"{EMPTY}B{END}"]


def test_strings_are_a_users_message_and_its_answer(prepare) -> None:
    strings = prepare({"prompt": "a", "completion": "A"})
    messages = prepare({"messages": [user("a"), assistant("A")]})
    assert strings.samples == messages.samples
    assert strings.fingerprint == messages.fingerprint


def test_raw_strings_have_no_template(prepare, learned_texts, renderer) -> None:
    (sample,) = prepare({"prompt": "one two", "completion": " three"}, strings="raw").samples
    assert renderer.decode(sample.ids) == "one two three<|endoftext|>"
    assert learned_texts(sample) == [" three<|endoftext|>"]


def test_a_row_can_switch_thinking_itself(prepare, learned_texts) -> None:
    messages = [user("a"), assistant("A")]
    off = {"messages": messages, "chat_template_kwargs": {"enable_thinking": False}}
    on = {"messages": messages, "chat_template_kwargs": {"enable_thinking": True}}
    data = prepare(off, on, empty_thinking="given")
    assert [learned_texts(each) for each in data.samples] == [[f"A{END}"], [f"{EMPTY}A{END}"]]


def test_tools_may_be_a_string_of_json(prepare) -> None:
    messages = [user("a"), assistant("A")]
    as_list = prepare({"messages": messages, "tools": [TOOL]})
    as_text = prepare(
        {
            "messages": messages,
            "tools": '[{"type": "function", "function": '
            '{"name": "add", "parameters": {"type": "object"}}}]',
        }
    )
    assert as_list.samples == as_text.samples


PAIR = {"prompt": "a", "chosen": "good", "rejected": "bad"}


@pytest.mark.parametrize(
    "row",
    [
        PAIR,
        {"prompt": [user("a")], "chosen": [assistant("good")], "rejected": [assistant("bad")]},
        {"prompt": "a", "chosen": assistant("good"), "rejected": "bad"},
        {"chosen": [user("a"), assistant("good")], "rejected": [user("a"), assistant("bad")]},
        {
            "prompt": "a",
            "chosen": [user("a"), assistant("good")],
            "rejected": [user("a"), assistant("bad")],
        },
    ],
)
def test_a_preference_is_the_same_in_every_spelling(prepare, renderer, row) -> None:
    (sample,) = prepare(row, method="dpo").samples
    assert isinstance(sample, PreferenceSample)
    assert renderer.decode(sample.prompt) == f"<|im_start|>user\na{END}\n<|im_start|>assistant\n"
    assert renderer.decode(sample.chosen) == f"{EMPTY}good{END}"
    assert renderer.decode(sample.rejected) == f"{EMPTY}bad{END}"


def test_answers_one_of_which_thinks_share_a_prompt_that_lets_them(prepare, renderer) -> None:
    row = {"prompt": "a", "chosen": assistant("good", "hm"), "rejected": "bad"}
    (sample,) = prepare(row, method="dpo", empty_thinking="given").samples
    assert renderer.decode(sample.prompt).endswith("assistant\n")
    assert renderer.decode(sample.chosen) == f"<think>\nhm\n</think>\n\ngood{END}"
    assert renderer.decode(sample.rejected) == f"{EMPTY}bad{END}"


def test_labels_and_preferences_are_labelled_answers(prepare, renderer) -> None:
    rows = [
        {"prompt": "a", "completion": "A", "label": True},
        {"messages": [user("b"), assistant("B")], "label": False},
        PAIR,
    ]
    samples = prepare(*rows, method="kto").samples
    assert all(isinstance(sample, LabelSample) for sample in samples)
    assert [(renderer.decode(each.completion), each.label) for each in samples] == [
        (f"{EMPTY}A{END}", True),
        (f"{EMPTY}B{END}", False),
        (f"{EMPTY}good{END}", True),
        (f"{EMPTY}bad{END}", False),
    ]


def test_a_prompt_for_grpo_keeps_the_rows_other_fields(prepare, renderer) -> None:
    rows = [{"prompt": "2+2?", "answer": "4"}, {"messages": [user("3+3?")], "answer": "6"}]
    first, second = prepare(*rows, method="grpo").samples
    assert isinstance(first, PromptSample)
    assert renderer.decode(first.prompt).endswith("<|im_start|>assistant\n")
    assert first.messages == [{"role": "user", "content": "2+2?"}]
    assert (first.fields, second.fields) == ({"answer": "4"}, {"answer": "6"})


def test_a_prompt_for_grpo_switches_thinking_off_where_it_is_stripped(prepare, renderer) -> None:
    (sample,) = prepare({"prompt": "a"}, method="grpo", thinking="strip").samples
    assert renderer.decode(sample.prompt).endswith(f"<|im_start|>assistant\n{EMPTY}")


def test_a_long_text_is_learned_whole_in_pieces(prepare, renderer) -> None:
    text = "one two three four five six seven eight nine ten " * 5
    samples = prepare({"text": text}, max_length=16).samples
    assert len(samples) > 3
    assert all(len(sample.ids) <= 16 for sample in samples)
    for before, after in pairwise(samples):
        assert after.ids[0] == before.ids[-1]
    learned = [t for each in samples for t, on in zip(each.ids, each.learned, strict=True) if on]
    assert renderer.decode([samples[0].ids[0], *learned]) == text + "<|endoftext|>"


def test_a_control_token_in_raw_text_means_what_somebody_says(prepare, renderer) -> None:
    row = {"text": "a<|im_end|>b"}
    end = renderer.tokenizer.control_tokens[END]
    assert prepare({"text": "ab"}, row, skip_bad=True).n_skipped == 1
    assert end in prepare(row, parse_special=True).samples[0].ids
    assert end not in prepare(row, parse_special=False).samples[0].ids
