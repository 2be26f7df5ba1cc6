"""The official client of Anthropic's, unchanged."""

from __future__ import annotations

import anthropic
import pytest
from anthropic import beta_tool
from pydantic import BaseModel

HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {
    "name": "weather",
    "description": "The weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
THINKING = {"type": "enabled", "budget_tokens": 50}


@pytest.fixture(scope="module")
def url(make_shared_app, listening):
    """One server for all tests."""
    with listening(make_shared_app()) as url:
        yield url


@pytest.fixture
def client(url):
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def create(client):
    """Asks for a message."""

    def create(messages=HELLO, **options):
        asked = {"model": "scripted", "max_tokens": 1000, **options}
        return client.messages.create(messages=messages, **asked)

    return create


def test_an_answer_is_read(create):
    message = create()
    assert [block.type for block in message.content] == ["text"]
    assert message.content[0].text == "Hello there!"
    assert message.stop_reason == "end_turn"
    assert message.usage.input_tokens > 0
    assert message._request_id


def test_thinking_comes_before_the_answer_and_is_counted(create):
    message = create(thinking=THINKING)
    thinking, text = message.content
    assert thinking.thinking == "A greeting."
    assert thinking.signature
    assert text.text == "Hello there!"
    details = message.usage.output_tokens_details
    assert 0 < details.thinking_tokens < message.usage.output_tokens


def test_a_prompt_that_came_before_is_read_from_the_cache(create):
    own = [{"role": "user", "content": "words that no other test says"}]
    first, second = create(own).usage, create(own).usage
    assert second.cache_read_input_tokens > first.cache_read_input_tokens
    assert (
        second.cache_read_input_tokens + second.input_tokens
        == first.cache_read_input_tokens + first.input_tokens
    )


@pytest.mark.parametrize("body", [{}, {"thinking": THINKING}])
def test_the_stream_helper_puts_the_same_message_together(client, create, body):
    asked = {"model": "scripted", "max_tokens": 1000, "messages": HELLO, **body}
    with client.messages.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_message()
    whole = create(**body)
    assert [block.model_dump() for block in streamed.content] == [
        block.model_dump() for block in whole.content
    ]
    assert (streamed.stop_reason, streamed.stop_sequence) == ("end_turn", None)
    assert streamed.usage.output_tokens == whole.usage.output_tokens
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"


def test_tools_are_called_and_answered(create):
    asked = [{"role": "user", "content": "weather"}]
    message = create(asked, tools=[WEATHER], thinking=THINKING)
    assert message.stop_reason == "tool_use"
    thinking, call = message.content
    assert (call.type, call.name, call.input) == ("tool_use", "weather", {"city": "Oslo"})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "hello"}
    turn = [*asked, message.to_param(), {"role": "user", "content": [result]}]
    assert create(turn, tools=[WEATHER], thinking=THINKING).content[-1].text == "Hello there!"
    assert thinking.type == "thinking"


@pytest.mark.parametrize("streams", [False, True])
def test_the_tool_runner_runs_tools_to_the_answer(client, streams):
    asked = []

    @beta_tool
    def weather(city: str) -> str:
        """The weather in a city."""
        asked.append(city)
        return "hello"

    runner = client.beta.messages.tool_runner(
        model="scripted",
        max_tokens=1000,
        messages=[{"role": "user", "content": "weather"}],
        tools=[weather],
        stream=streams,
    )
    final = runner.until_done()
    assert asked == ["Oslo"]
    assert final.content[-1].text == "Hello there!"


class Person(BaseModel):
    name: str
    age: int


def test_a_schema_is_parsed(client):
    message = client.messages.parse(
        model="scripted",
        max_tokens=1000,
        messages=[{"role": "user", "content": "json"}],
        output_format=Person,
    )
    assert message.parsed_output == Person(name="Ada", age=36)


def test_the_tokens_of_a_prompt_are_counted_exactly(client, create):
    body = {"messages": HELLO, "system": "Be brief.", "tools": [WEATHER], "thinking": THINKING}
    count = client.messages.count_tokens(model="scripted", **body)
    usage = create(**body).usage
    assert count.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"model": "claude-x"}, anthropic.NotFoundError),
        ({"extra_body": {"temperature": -1}}, anthropic.BadRequestError),
        ({"messages": []}, anthropic.BadRequestError),
    ],
)
def test_errors_become_the_clients_own(create, body, error):
    with pytest.raises(error) as caught:
        create(**body)
    assert caught.value.body["type"] == "error"
    assert caught.value.request_id == caught.value.body["request_id"]


def test_an_error_in_mid_stream_is_raised(make_app, listening, backend):
    backend.failing_tokens = {7}
    asked = {"model": "scripted", "max_tokens": 100}
    poison = [{"role": "user", "content": "poison"}]
    with (
        listening(make_app()) as url,
        anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client,
        client.messages.create(messages=poison, stream=True, **asked) as stream,
        pytest.raises(anthropic.APIError) as caught,
    ):
        list(stream)
    assert caught.value.body["error"]["type"] == "api_error"


@pytest.mark.parametrize("spelling", ["api_key", "auth_token"])
def test_a_key_opens_as_either_header(make_app, listening, spelling):
    def models(url: str, key: str) -> int:
        with anthropic.Anthropic(base_url=url, max_retries=0, **{spelling: key}) as client:
            return client.messages.count_tokens(model="scripted", messages=HELLO).input_tokens

    with listening(make_app(api_keys="right")) as url:
        assert models(url, "right") > 0
        with pytest.raises(anthropic.AuthenticationError) as caught:
            models(url, "wrong")
    assert caught.value.body["error"]["type"] == "authentication_error"


@pytest.mark.anyio
async def test_the_async_client_reads_streams_and_may_break_them_off(url):
    async with anthropic.AsyncAnthropic(base_url=url, api_key="none") as client:
        asked = {"model": "scripted", "max_tokens": 4000}
        long = [{"role": "user", "content": "long"}]
        async with client.messages.stream(messages=long, **asked) as stream:
            async for text in stream.text_stream:
                assert text
                break
        async with client.messages.stream(messages=HELLO, **asked) as stream:
            assert await stream.get_final_text() == "Hello there!"
