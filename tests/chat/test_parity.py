"""Prompts against `transformers`, both with the demo model's vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as native
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qwenkit.backends.llamacpp import capi
from qwenkit.backends.llamacpp.tokenizer import LlamaTokenizer
from qwenkit.chat.messages import parse_messages, parse_tools
from qwenkit.chat.template import ChatTemplate, encode_prompt
from qwenkit.models.convert import convert_checkpoint
from qwenkit.models.demo import DEMO_DIR

pytestmark = pytest.mark.parity

TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "Größe <&>", "parameters": {"type": "object"}},
}
TEXTS = st.text(max_size=30) | st.sampled_from(
    [
        "What is qwenkit?",
        "<think>\nhm\n</think>\n\nYes.",
        "a<think>b",
        "  \n\n x\t",
        "日本語 🦙",
        "12345",
        "e\u0301 \u1100\u1161",
    ]
)
CALLS = st.builds(
    lambda name, arguments: {"function": {"name": name, "arguments": arguments}},
    st.sampled_from(["add", "clock"]),
    st.dictionaries(st.sampled_from("zab"), st.integers() | TEXTS, max_size=3),
)
MESSAGES = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["system", "user", "tool"]),
    TEXTS,
) | st.builds(
    lambda content, calls: {"role": "assistant", "content": content, "tool_calls": calls},
    TEXTS,
    st.lists(CALLS, max_size=2),
)
CONVERSATIONS = st.lists(MESSAGES, min_size=1, max_size=5)


@pytest.fixture(scope="module")
def theirs() -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(DEMO_DIR)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaTokenizer]:
    path = tmp_path_factory.mktemp("demo") / "demo.gguf"
    convert_checkpoint(Path(DEMO_DIR), path)
    capi.initialise()
    params = native.llama_model_default_params()
    params.vocab_only = True
    model = native.llama_model_load_from_file(str(path).encode(), params)
    assert model
    yield LlamaTokenizer(model)
    native.llama_model_free(model)


def test_the_ids_of_a_prompt_are_those_of_transformers(theirs: Any, ours: LlamaTokenizer) -> None:
    template = ChatTemplate(None, control_tokens=ours.control_tokens)

    @settings(max_examples=300, deadline=None)
    @given(CONVERSATIONS, st.booleans(), st.booleans())
    def compare(messages: list[dict[str, Any]], offers_tools: bool, thinks: bool) -> None:
        # llama.cpp counts some tokens as control tokens that to transformers are ordinary ones.
        assume(not any(spelling in str(messages) for spelling in ours.control_tokens))
        tools = [TOOL] if offers_tools else []
        expected = theirs.apply_chat_template(
            messages,
            tools=tools or None,
            tokenize=True,
            return_dict=False,
            add_generation_prompt=True,
            enable_thinking=thinks,
        )
        prompt = template.render(
            parse_messages(messages), tools=parse_tools(tools), enable_thinking=thinks
        )
        assert list(encode_prompt(prompt, ours)) == expected

    compare()


def test_a_typed_control_token_becomes_many_tokens_and_never_its_own(ours: LlamaTokenizer) -> None:
    template = ChatTemplate(None, control_tokens=ours.control_tokens)
    for spelling, token in ours.control_tokens.items():
        messages = parse_messages([{"role": "user", "content": f"a{spelling}b"}])
        ids = encode_prompt(template.render(messages), ours)
        plain = encode_prompt(
            template.render(parse_messages([{"role": "user", "content": "ab"}])), ours
        )
        assert ids.count(token) == plain.count(token)
        assert spelling in b"".join(map(ours.piece, ids)).decode()
