"""The next turn's prompt, computed while the engine is idle."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.chat.completion import ChatModel, ChatOptions, collect, stream_chat
from qwenkit.chat.messages import parse_messages
from qwenkit.chat.next_turn import next_prompt_head
from qwenkit.chat.template import ChatTemplate
from qwenkit.engine.engine import Engine

ANSWER = "<think>\nLet me think about that at some length.\n</think>\n\nIt is a long story. " * 1
TURNS = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "first"},
    {"role": "assistant", "content": "It is a long story. "},
    {"role": "user", "content": "second"},
]


def template(backend: ScriptedBackend) -> ChatTemplate:
    return ChatTemplate(None, control_tokens=backend.tokenizer.control_tokens)


def test_the_head_is_what_any_next_prompt_begins_with() -> None:
    chat = template(ScriptedBackend({}))
    head = next_prompt_head(chat, parse_messages(TURNS[:3]), ())
    assert head.text.endswith("<|im_start|>user\n")
    assert chat.render(parse_messages(TURNS)).text.startswith(head.text)
    assert all(head.text[start:end].startswith("<|im_") for start, end in head.control_spans)


def has_computed(backend: ScriptedBackend, tokens: Sequence[int]) -> bool:
    """Whether a prompt's last two tokens went through one decode, as those of no answer do."""
    last = {(len(tokens) - n, tokens[-n]) for n in (1, 2)}
    return any(
        last <= set(zip(rows.positions.tolist(), rows.tokens.tolist(), strict=True))
        for rows in backend.decodes
    )


@pytest.mark.anyio
async def test_the_second_turn_finds_the_first_answer_without_its_reasoning_computed() -> None:
    backend = ScriptedBackend({"first": ANSWER, "second": ANSWER}, n_ctx=2048)
    engine = Engine(backend).start()
    try:
        model = ChatModel("scripted", engine, template(backend))
        await collect(stream_chat(model, TURNS[:2]))
        head = next_prompt_head(model.template, parse_messages(TURNS[:3]), ())
        tokens = engine.tokenizer.encode(head.text, special=True)
        while not has_computed(backend, tokens) or engine.snapshot().n_running:
            await asyncio.sleep(0)
        second = await collect(stream_chat(model, TURNS))
        assert second.usage.n_cached == len(tokens)
    finally:
        await asyncio.to_thread(engine.close)


@pytest.mark.anyio
async def test_an_answer_cut_short_is_not_prepared_for() -> None:
    backend = ScriptedBackend({"first": ANSWER})
    engine = Engine(backend).start()
    try:
        model = ChatModel("scripted", engine, template(backend))
        await collect(stream_chat(model, TURNS[:2], (), ChatOptions(max_tokens=3)))
        n_decodes = len(backend.decodes)
        await collect(stream_chat(model, TURNS[:2], (), ChatOptions(max_tokens=3)))
        assert len(backend.decodes) == n_decodes + 3
    finally:
        await asyncio.to_thread(engine.close)
