"""Which beginnings two requests are found to share."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.cluster.affinity import CHUNK, PROMPTS, Affinity, affinity_of

CHAT = "/v1/chat/completions"


def affinity(path: str = CHAT, **fields: Any) -> Affinity:
    found = affinity_of(path, json.dumps({"model": "qwen", **fields}).encode())
    assert found is not None
    return found


def said(*texts: str) -> list[dict[str, str]]:
    return [
        {"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(texts)
    ]


def test_a_conversation_keeps_all_links_when_it_goes_on() -> None:
    first = affinity(messages=said("hello " * 200))
    second = affinity(messages=said("hello " * 200, "hi " * 200, "and now?"))
    assert len(first.chain) > 3
    assert second.chain[: len(first.chain)] == first.chain


def test_a_short_conversation_is_known_again_by_how_it_began() -> None:
    first = affinity(messages=said("hello"))
    second = affinity(messages=said("hello", "hi there", "tell me more"))
    assert first.chain == second.chain[:1]


def test_two_conversations_with_one_long_system_prompt_share_it_and_no_more() -> None:
    system = {"role": "system", "content": "be kind " * 200}
    one = affinity(messages=[system, *said("a cat")])
    other = affinity(messages=[system, *said("a dog")])
    assert one.chain[0] != other.chain[0]
    assert one.chain[1:6] == other.chain[1:6]


def test_tools_and_the_model_are_part_of_the_beginning() -> None:
    plain = affinity(messages=said("hello"))
    assert affinity(messages=said("hello"), tools=[{"type": "function"}]).chain != plain.chain
    other = affinity_of(CHAT, json.dumps({"model": "b", "messages": said("hello")}).encode())
    assert other is not None
    assert other.chain != plain.chain


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/completions", {"prompt": "once " * 200}),
        ("/v1/responses", {"instructions": "be brief", "input": "once " * 200}),
        ("/v1/responses", {"input": said("once " * 200)}),
        ("/v1/messages", {"system": "be brief", "messages": said("once " * 200)}),
        ("/infill", {"input_prefix": "once " * 200}),
        ("/rerank", {"instruction": "be strict", "query": "once " * 200}),
        ("/v1/rerank", {"query": "once " * 200, "documents": ["a"]}),
        ("/v2/rerank", {"query": "once " * 200, "documents": ["a"]}),
    ],
)
def test_every_api_that_computes_a_prompt_has_a_chain(path: str, fields: dict[str, Any]) -> None:
    assert path in PROMPTS
    assert len(affinity(path, **fields).chain) > 2


def test_a_file_is_known_again_wherever_its_line_is_written_on() -> None:
    file = {"input_extra": [{"text": "other"}], "input_prefix": "line\n" * 200}
    first, second = (affinity("/infill", **file, prompt=line) for line in ("x = ", "x = 1 +"))
    assert len(first.chain) > 3
    assert second.chain[1:] == first.chain[1:]
    assert affinity("/infill", **file | {"input_prefix": "other"}).chain[1:] != first.chain[1:]


def test_what_embeds_has_a_model_and_no_prompt_that_comes_again() -> None:
    assert affinity("/v1/embeddings", input="x") == Affinity("qwen", ())


def test_the_adapter_is_that_of_llama_server_s_field_too() -> None:
    lora = [{"name": "off", "scale": 0}, {"name": "poet"}]
    asked = affinity(messages=said("hello"), lora=lora)
    assert asked.model == "poet"
    assert asked.chain != affinity(messages=said("hello")).chain


def test_what_a_response_goes_on_from_is_told() -> None:
    assert affinity("/v1/responses", input="x", previous_response_id="resp_1").follows == "resp_1"
    assert affinity("/v1/responses", input="x", previous_response_id=7).follows == ""


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_has_none(body: bytes) -> None:
    assert affinity_of(CHAT, body) is None


def test_a_route_that_computes_nothing_has_none() -> None:
    assert affinity_of("/tokenize", b'{"content": "x"}') is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.sampled_from(["messages", "input", "prompt", "tools", "model"]), JSON))
def test_any_object_has_a_chain_if_it_has_a_prompt(fields: dict[str, Any]) -> None:
    found = affinity_of(CHAT, json.dumps(fields).encode())
    assert found is not None
    assert bool(found.chain) == any(fields.get(name) for name in PROMPTS[CHAT])


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=4 * CHUNK), st.text(max_size=4 * CHUNK), st.text(max_size=4 * CHUNK))
def test_prompts_share_as_many_links_as_their_texts_share_chunks(
    shared: str, one: str, other: str
) -> None:
    first = affinity("/v1/completions", prompt=shared + one).chain[1:]
    second = affinity("/v1/completions", prompt=shared + other).chain[1:]
    same = next((n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    n_same = min(len(first), len(second)) if same is None else same
    assert n_same >= min(len(shared) // CHUNK, len(first), len(second))
