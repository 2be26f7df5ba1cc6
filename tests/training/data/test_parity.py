"""What training learns from, what serving asks, and `apply_chat_template`: the same token ids."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qwenkit.models.demo import DEMO_DIR
from qwenkit.training.data.options import DataOptions
from qwenkit.training.data.rendering import Cuts, make_samples
from qwenkit.training.data.rows import parse_row
from qwenkit.training.data.samples import PreferenceSample, Sample

pytestmark = pytest.mark.parity

TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "Größe <&>", "parameters": {"type": "object"}},
}
# An answer that begins with white space may share a token with the line before it: what a server
# generates begins anew there, and so does what is learned.
WORDS = st.sampled_from(
    ["Yes.", "12345", "日本語 🦙", "a<think>b", "e\u0301 \u1100\u1161", "def f():\n    return 1\n"]
)
TEXTS = WORDS | st.text(max_size=20).map(lambda text: f"a{text}")
CALLS = st.builds(
    lambda arguments: {"function": {"name": "add", "arguments": arguments}},
    st.dictionaries(st.sampled_from("zab"), st.integers() | TEXTS, max_size=2),
)
SPOKEN = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "tool"]),
    TEXTS,
)
ANSWERS = st.builds(
    lambda content, thought, calls: {
        "role": "assistant",
        "content": content,
        "reasoning_content": thought,
        "tool_calls": calls,
    },
    TEXTS,
    st.sampled_from(["", "hm", "let me\n\nsee"]),
    st.lists(CALLS, max_size=2),
)
# Two answers in a row are left out: what the template shows of the first then depends on whether
# the second is there.
EXCHANGES = st.lists(st.tuples(SPOKEN, ANSWERS), min_size=1, max_size=3).map(
    lambda pairs: [{"role": "user", "content": "Go"}, *(each for pair in pairs for each in pair)]
)
OPTIONS = DataOptions(max_length=100_000)


@pytest.fixture(scope="module")
def theirs() -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(DEMO_DIR)


def ids_of(theirs: Any, messages: list[dict[str, Any]], tools: Any, **options: Any) -> list[int]:
    return theirs.apply_chat_template(
        messages, tools=tools or None, tokenize=True, return_dict=False, **options
    )


def test_prompts_and_answers_have_the_ids_of_apply_chat_template(theirs: Any, renderer) -> None:
    newline = list(renderer.encode_text("\n"))

    @settings(max_examples=200, deadline=None)
    @given(EXCHANGES, st.booleans(), st.sampled_from(["learned", "given"]))
    def compare(messages: list[dict[str, Any]], offers: bool, empty: str) -> None:
        # llama.cpp counts some tokens as control tokens that to transformers are ordinary ones.
        assume(not any(token in str(messages) for token in renderer.tokenizer.control_tokens))
        tools = [TOOL] if offers else []
        options = DataOptions(max_length=100_000, empty_thinking=empty)  # type: ignore[arg-type]
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            whole = messages[: index + 1]
            (row,) = parse_row({"messages": whole, "tools": tools}, method="sft", turns="last")
            (sample,) = make_samples(row, "", renderer=renderer, options=options, cuts=Cuts())
            assert isinstance(sample, Sample)
            prompt = [token for token, on in zip(*split(sample), strict=True) if not on]
            thinks = bool(message["reasoning_content"]) or empty == "learned"
            assert prompt == ids_of(
                theirs, whole[:-1], tools, add_generation_prompt=True, enable_thinking=thinks
            )
            assert [*sample.ids, *newline] == ids_of(theirs, whole, tools)

    def split(sample: Sample) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        return sample.ids, sample.learned

    compare()


def test_preferences_have_the_ids_of_apply_chat_template(theirs: Any, renderer) -> None:
    newline = list(renderer.encode_text("\n"))

    @settings(max_examples=100, deadline=None)
    @given(EXCHANGES, ANSWERS, ANSWERS)
    def compare(messages: list[dict[str, Any]], one: dict[str, Any], other: dict[str, Any]) -> None:
        prompt = messages[:-1]
        conversation = [*prompt, one, other]
        assume(not any(token in str(conversation) for token in renderer.tokenizer.control_tokens))
        assume(one != other)
        row = {"prompt": prompt, "chosen": [one], "rejected": [other]}
        (parsed,) = parse_row(row, method="dpo")
        (sample,) = make_samples(parsed, "", renderer=renderer, options=OPTIONS, cuts=Cuts())
        assert isinstance(sample, PreferenceSample)
        for answer, ids in ((one, sample.chosen), (other, sample.rejected)):
            expected = ids_of(theirs, [*prompt, answer], None)
            assert [*sample.prompt, *ids, *newline] == expected

    compare()
