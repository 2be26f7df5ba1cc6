"""`/v1/messages` as it is on the wire."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.chat.completion import ChatModel
from qwenkit.chat.template import ChatTemplate
from qwenkit.engine.engine import Engine

pytestmark = pytest.mark.anyio

URL = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
WEATHER = {
    "name": "weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
CLOCK = {
    "name": "clock",
    "input_schema": {"type": "object", "properties": {"zone": {"type": "string"}}},
}
WEATHER_CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
CLOCK_CALL = '<tool_call>\n{"name": "clock", "arguments": {"zone": "UTC"}}\n</tool_call>'
ANSWERS = {
    "": "<think>\n\n</think>\n\nI do not know.",
    "hello": "<think>\nA greeting.\n</think>\n\nHello there!",
    "count": "<think>\n\n</think>\n\none two three four five",
    "both": f"<think>\n\n</think>\n\n{WEATHER_CALL}\n{CLOCK_CALL}",
    "time": f"<think>\n\n</think>\n\n{CLOCK_CALL}",
    "json": '<think>\n\n</think>\n\n{"name": "Ada", "age": 36}',
    "long": "<think>\n\n</think>\n\n" + "la " * 1000,
}


@pytest.fixture
def backend() -> ScriptedBackend:
    return ScriptedBackend(ANSWERS, n_slots=4, n_ctx=8192)


def asked(text: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "scripted", "max_tokens": 2000, "messages": messages, **fields}


async def post(client: Any, body: dict[str, Any], url: str = URL) -> dict[str, Any]:
    answer = await client.post(url, json=body)
    assert answer.status_code == 200, answer.text
    read: dict[str, Any] = answer.json()
    return read


def texts(message: dict[str, Any]) -> str:
    return "".join(each["text"] for each in message["content"] if each["type"] == "text")


async def test_a_message_has_anthropics_fields(client):
    message = await post(client, asked("hello"))
    assert message.pop("id").startswith("msg_")
    usage = message.pop("usage")
    assert message == {
        "type": "message",
        "role": "assistant",
        "model": "scripted",
        "content": [{"type": "text", "text": "Hello there!"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
    }
    assert set(usage) == {
        "input_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "output_tokens",
    }


async def test_events_carry_their_names(client):
    answer = await client.post(URL, json=asked("hello", stream=True))
    lines = answer.text.splitlines()
    names = [each.removeprefix("event: ") for each in lines if each.startswith("event: ")]
    kinds = [json.loads(each[6:])["type"] for each in lines if each.startswith("data: ")]
    assert names == kinds
    assert names[:2] == ["message_start", "content_block_start"]
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_the_model_thinks_only_where_it_is_asked_to(client):
    thinking = {"type": "enabled", "budget_tokens": 1024}
    for field, kinds in [
        ({}, ["text"]),
        ({"thinking": {"type": "disabled"}}, ["text"]),
        ({"thinking": thinking}, ["thinking", "text"]),
        ({"thinking": {"type": "adaptive"}}, ["thinking", "text"]),
        ({"thinking": {"type": "between_tools"}}, ["text"]),
    ]:
        message = await post(client, asked("hello", **field))
        assert [each["type"] for each in message["content"]] == kinds


async def test_between_tools_thinks_behind_a_tools_result(client):
    call = {"type": "tool_use", "id": "1", "name": "weather", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "1", "content": "hello"}
    body = asked("weather", tools=[WEATHER], thinking={"type": "between_tools"})
    body["messages"] += [
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result]},
    ]
    message = await post(client, body)
    assert [each["type"] for each in message["content"]] == ["thinking", "text"]


async def test_a_budget_ends_the_thinking(client):
    body = asked("hello", thinking={"type": "enabled", "budget_tokens": 3})
    message = await post(client, body)
    assert message["content"][0]["thinking"].startswith("A ")
    assert "limited time" in message["content"][0]["thinking"]


async def test_a_stop_sequence_is_named_and_left_out(client):
    message = await post(client, asked("count", stop_sequences=["four", "three"]))
    assert texts(message) == "one two "
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "three")


async def test_an_answer_that_is_cut_off_says_why(client):
    message = await post(client, asked("count", max_tokens=5))
    assert message["stop_reason"] == "max_tokens"
    assert message["usage"]["output_tokens"] == 5
    full = asked("long " + "x" * 8000, max_tokens=20_000)
    assert (await post(client, full))["stop_reason"] == "model_context_window_exceeded"


async def test_no_tokens_at_all_only_compute_the_prompt(client):
    message = await post(client, asked("hello", max_tokens=0))
    assert (message["content"], message["stop_reason"]) == ([], "max_tokens")
    later = (await post(client, asked("hello")))["usage"]
    assert later["cache_read_input_tokens"] > 0


async def test_a_last_message_of_the_assistants_is_continued(client):
    body = asked("count")
    body["messages"].append({"role": "assistant", "content": "one two "})
    assert texts(await post(client, body)) == "three four five"


@pytest.mark.parametrize(
    ("text", "choice", "names"),
    [
        ("both", None, ["weather", "clock"]),
        ("both", {"type": "auto"}, ["weather", "clock"]),
        ("both", {"type": "auto", "disable_parallel_tool_use": True}, ["weather"]),
        ("both", {"type": "any"}, ["weather", "clock"]),
        ("both", {"type": "any", "disable_parallel_tool_use": True}, ["weather"]),
        ("time", {"type": "tool", "name": "clock"}, ["clock"]),
        ("hello", {"type": "none"}, []),
    ],
)
async def test_the_choice_of_tools_is_kept_to(client, text, choice, names):
    body = asked(text, tools=[WEATHER, CLOCK], tool_choice=choice)
    message = await post(client, body)
    calls = [each["name"] for each in message["content"] if each["type"] == "tool_use"]
    assert calls == names
    assert message["stop_reason"] == ("tool_use" if names else "end_turn")


async def test_a_schema_holds_the_answer(client):
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "schema": schema}
    for field in ({"output_config": {"format": form}}, {"output_format": form}):
        assert json.loads(texts(await post(client, asked("json", **field)))) == {
            "name": "Ada",
            "age": 36,
        }


async def test_a_count_is_what_the_prompt_then_has(client):
    body = asked("hello", system=[{"type": "text", "text": "Be brief."}], tools=[WEATHER])
    for thinking in ({"type": "disabled"}, {"type": "adaptive"}):
        counted = await post(client, {**body, "thinking": thinking}, COUNT)
        usage = (await post(client, {**body, "thinking": thinking}))["usage"]
        assert counted == {"input_tokens": usage["input_tokens"] + usage["cache_read_input_tokens"]}


class Loads:
    """Loads one backend."""

    def __init__(self, backend: ScriptedBackend) -> None:
        self.backend = backend

    def load(self, spec: Any, *, name: Any, progress: Any, observer: Any) -> ChatModel:
        engine = Engine(self.backend, observer=observer).start()
        control = tuple(self.backend.tokenizer.control_tokens)
        return ChatModel("scripted", engine, ChatTemplate(None, control_tokens=control))


async def test_a_request_as_from_claude_code_is_cached_from_turn_to_turn(make_app, run):
    """A huge system prompt whose first line differs each time, and many tools."""
    answers = {"": "<think>\n\n</think>\n\nDone."}
    backend = ScriptedBackend(answers, n_slots=2, n_ctx=65536)
    tools = [
        {
            "name": f"tool_{i}",
            "description": f"Does thing {i}. " * 10,
            "input_schema": WEATHER["input_schema"],
            "cache_control": {"type": "ephemeral"},
        }
        for i in range(40)
    ]

    def turn(number: int, *said: dict[str, Any]) -> dict[str, Any]:
        billing = f"x-anthropic-billing-header: cc_version=2.1.1; cch={number:05};"
        system = [
            {"type": "text", "text": billing},
            {"type": "text", "text": "Rules. " * 1000, "cache_control": {"type": "ephemeral"}},
        ]
        messages = [{"role": "user", "content": [{"type": "text", "text": "first"}]}, *said]
        metadata = {"user_id": "user_1_account__session_2"}
        fields = {"system": system, "tools": tools, "metadata": metadata, "temperature": 1}
        return asked("", messages=messages, **fields)

    async with run(make_app(models=Loads(backend))) as client:
        headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219"}
        client.headers.update(headers)
        first = await post(client, turn(1))
        answer = {"role": "assistant", "content": first["content"]}
        again = {"role": "user", "content": "second"}
        usage = (await post(client, turn(2, answer, again)))["usage"]
    assert first["usage"]["input_tokens"] > 15_000
    assert usage["input_tokens"] < 100
    assert usage["cache_read_input_tokens"] > 15_000


async def test_an_answer_is_recorded_under_its_id_with_who_asked(client, tmp_path):
    metadata = {"user_id": "ada", "thread_id": "talk"}
    message = await post(client, asked("hello", metadata=metadata))
    await post(client, asked("hello", store=False))
    lines = "".join(each.read_text() for each in (tmp_path / "logs").rglob("*.jsonl"))
    (record,) = map(json.loads, lines.splitlines())
    assert record["id"] == message["id"]
    assert (record["user"], record["thread_id"]) == ("ada", "talk")


async def test_a_client_that_leaves_frees_its_slot(until, make_app, listening):
    app = make_app()
    with listening(app) as url:
        engine = app.state.serving.model.engine
        async with (
            httpx.AsyncClient() as client,
            client.stream("POST", url + URL, json=asked("long", stream=True)) as answer,
        ):
            async for _ in answer.aiter_lines():
                break
            assert engine.snapshot().n_running == 1
        until(lambda: engine.snapshot().n_running == 0)
