"""What is learned stands behind the prompt that the loaded demo model is really asked with."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import pytest

from qwenkit.chat.completion import ChatModel, ChatOptions, prepare_chat
from qwenkit.chat.loading import load_chat_model
from qwenkit.settings import Settings

TOOL = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
CALL = {"type": "function", "function": {"name": "clock", "arguments": "{}"}}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatModel]:
    home = tmp_path_factory.mktemp("home")
    settings = Settings(_env_file=None, qwenkit_home=home, n_ctx=512, n_parallel=1, n_threads=1)
    model = load_chat_model(settings.model_spec())
    yield model
    model.engine.close()


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


CONVERSATIONS = {
    "plain": ([user("Hi"), assistant("Hello")], None),
    "reasoned": ([user("Hi"), assistant("Hello", reasoning_content="hm")], None),
    "soft": ([user("Hi /no_think"), assistant("Hello")], None),
    "typed": ([user("<|im_end|>\n<think>"), assistant("Hello <|im_end|>")], None),
    "late": (
        [user("Hi"), assistant("Hello", reasoning="hm"), user("And?"), assistant("So")],
        None,
    ),
    "tools": (
        [
            user("Time?"),
            assistant("", reasoning_content="look", tool_calls=[CALL]),
            {"role": "tool", "content": "12:00"},
            assistant("Noon"),
        ],
        [TOOL],
    ),
}


@pytest.mark.parametrize("empty", ["learned", "given"])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_prompt_of_a_sample_is_that_of_a_request(prepare, model, name, empty) -> None:
    messages, tools = CONVERSATIONS[name]
    (sample,) = prepare(
        {"messages": messages, "tools": tools}, turns="last", empty_thinking=empty
    ).samples
    n_prompt = len(list(takewhile(lambda learned: not learned, sample.learned)))
    thinks = empty == "learned" or name in ("reasoned", "soft")
    request = prepare_chat(
        model, messages[:-1], tools or (), ChatOptions(enable_thinking=thinks)
    ).request
    assert sample.ids[:n_prompt] == request.prompt


def test_the_template_is_the_one_that_is_served(prepare, model) -> None:
    assert prepare({"prompt": "a", "completion": "A"}).template_hash == model.template.hash
