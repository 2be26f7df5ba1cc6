"""The whole stack on the demo model, by llama.cpp."""

import json

import openai
import pytest

from qwenkit.server.app import create_app
from qwenkit.settings import Settings

CALCULATOR = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Calculate an arithmetic expression",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}


@pytest.fixture(scope="module")
def url(tmp_path_factory, listening):
    settings = Settings(
        _env_file=None, qwenkit_home=tmp_path_factory.mktemp("home"), n_parallel=4, n_threads=1
    )
    with listening(create_app(settings)) as url:
        yield url


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(client, text, **options):
    return client.chat.completions.create(
        **{
            "model": "qwenkit-demo",
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": 256,
            **options,
        }
    )


def test_it_thinks_and_answers(client):
    answer = ask(client, "What is qwenkit?")
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "stop"
    assert "Qwen3" in message.content
    assert message.reasoning_content
    assert "<think>" not in message.content


def test_it_streams_what_it_answers(client):
    whole = ask(client, "What is qwenkit?").choices[0].message
    text = reasoning = ""
    for chunk in ask(client, "What is qwenkit?", stream=True):
        delta = chunk.choices[0].delta
        text += delta.content or ""
        reasoning += getattr(delta, "reasoning_content", None) or ""
    assert (text, reasoning) == (whole.content, whole.reasoning_content)


def test_it_answers_without_thinking(client):
    switch = {"chat_template_kwargs": {"enable_thinking": False}}
    message = ask(client, "What is qwenkit?", extra_body=switch).choices[0].message
    assert "Qwen3" in message.content
    assert not getattr(message, "reasoning_content", None)


def test_it_calls_a_tool(client):
    answer = ask(client, "What is 17 times 23?", tools=[CALCULATOR])
    (call,) = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "calculator"
    assert json.loads(call.function.arguments)


def test_it_keeps_to_a_schema_behind_its_thinking(client):
    schema = {
        "type": "object",
        "properties": {"answer": {"enum": ["yes", "no"]}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}}
    message = ask(client, "What is qwenkit?", response_format=form).choices[0].message
    assert json.loads(message.content)["answer"] in ("yes", "no")
    assert message.reasoning_content


def test_log_probabilities_are_those_of_the_greedy_choice(client):
    answer = ask(client, "What is qwenkit?", logprobs=True, top_logprobs=5, max_tokens=64)
    content = answer.choices[0].logprobs.content
    assert "".join(each.token for each in content) == answer.choices[0].message.content
    for each in content:
        assert each.top_logprobs[0].token == each.token
        assert each.top_logprobs[0].logprob == max(top.logprob for top in each.top_logprobs)


def test_two_choices_share_one_prompt(client):
    answer = ask(client, "What is qwenkit?", n=2)
    first, second = (choice.message.content for choice in answer.choices)
    assert first == second
    assert answer.usage.prompt_tokens == ask(client, "What is qwenkit?").usage.prompt_tokens
