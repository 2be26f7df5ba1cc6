"""What `/v1/chat/completions` answers is in the log, as the client got it."""

import asyncio
import json
import random

import httpx
import pytest

from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.chat.completion import ChatOptions, prepare_chat
from qwenkit.feedback.records import TokenCounts, hash_prompt

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
PIECES = (
    "word",
    " ",
    "\n",
    "日本語",
    "\u2028",
    "👩🏽‍🚀",
    "<",
    "</think",
    "<tool_call",
    "```",
    '"',
    "\\",
    "\t",
    "é",
)


def weather(city):
    body = json.dumps({"name": "weather", "arguments": {"city": city}}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"


def random_answer(rng):
    def some(n):
        return "".join(rng.choice(PIECES) for _ in range(rng.randrange(n)))

    calls = "\n".join(weather(some(6)) for _ in range(rng.randrange(3)))
    thinking = f"\n{some(20)}\n" if rng.random() < 0.7 else "\n\n"
    return f"<think>{thinking}</think>\n\n{some(30)}{calls}"


def put_together(chunks):
    """A streamed answer's choices, from its chunks alone."""
    choices = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            whole = choices.setdefault(choice["index"], {"content": "", "reasoning_content": ""})
            whole.setdefault("tool_calls", [])
            delta = choice["delta"]
            for name in ("content", "reasoning_content"):
                whole[name] += delta.get(name) or ""
            for call in delta.get("tool_calls", ()):
                if "id" in call:
                    whole["tool_calls"].append({"id": call["id"], "name": "", "arguments": ""})
                for name, piece in call["function"].items():
                    whole["tool_calls"][call["index"]][name] += piece
            if choice["finish_reason"]:
                whole["finish_reason"] = choice["finish_reason"]
    return choices


def of_record(record):
    calls = [
        {"id": each.id, "name": each.name, "arguments": each.arguments}
        for each in record.answer.tool_calls
    ]
    return {
        "content": record.answer.content,
        "reasoning_content": record.answer.reasoning_content or "",
        "tool_calls": calls,
        "finish_reason": record.finish_reason,
    }


@pytest.mark.parametrize("seed", range(40))
async def test_a_streamed_answer_is_recorded_token_for_token(
    make_app, models, run, ask, events, weather_tool, log, seed
):
    rng = random.Random(seed)
    answer = random_answer(rng)
    models.makers = {None: lambda: ScriptedBackend({"": answer}, n_slots=4, n_ctx=8192)}
    body = ask("x", stream=True, max_tokens=rng.choice([None, 7, 40, 100]))
    if rng.random() < 0.7:
        body["tools"] = [weather_tool]
    async with run(make_app(models=models)) as client:
        reply = await client.post(CHAT, json=body)
        (record,) = log.answers()
    *chunks, done = events(reply.text)
    assert done == "[DONE]"
    assert of_record(record) == put_together(chunks)[0]
    assert record.id == chunks[0]["id"]


async def test_an_answer_without_streaming_is_recorded_as_it_was_sent(
    client, ask, weather_tool, log
):
    sent = (await client.post(CHAT, json=ask("weather", tools=[weather_tool]))).json()
    message = sent["choices"][0]["message"]
    (record,) = log.answers()
    assert record.id == sent["id"]
    assert record.answer.reasoning_content == message["reasoning_content"]
    assert record.answer.content == (message["content"] or "")
    (call,) = record.answer.tool_calls
    assert {"name": call.name, "arguments": call.arguments} == message["tool_calls"][0]["function"]
    assert record.finish_reason == "tool_calls"
    assert record.usage == TokenCounts(
        prompt=sent["usage"]["prompt_tokens"],
        cached=sent["usage"]["prompt_tokens_details"]["cached_tokens"],
        completion=sent["usage"]["completion_tokens"],
        reasoning=sent["usage"]["completion_tokens_details"]["reasoning_tokens"],
    )


async def test_every_choice_is_a_record_with_counts_of_its_own(client, ask, log):
    sent = (await client.post(CHAT, json=ask("hello", n=3))).json()
    records = {each.id: each for each in log.answers()}
    assert set(records) == {sent["id"], f"{sent['id']}:1", f"{sent['id']}:2"}
    assert {each.prompt_hash for each in records.values()} == {records[sent["id"]].prompt_hash}
    n_tokens = [each.usage.completion for each in records.values()]
    assert sum(n_tokens) == sent["usage"]["completion_tokens"]
    assert len(set(n_tokens)) == 1


async def test_a_record_says_who_asked_and_what_for(client, ask, log):
    body = ask("hello", user="ada", metadata={"thread_id": "t1", "parent_id": "p1"})
    await client.post(CHAT, json=body, headers={"X-Request-Id": "request-7"})
    (record,) = log.answers()
    assert (record.source, record.user, record.request_id) == ("api", "ada", "request-7")
    assert (record.thread_id, record.parent_id) == ("t1", "p1")
    assert (record.model, record.adapter) == ("scripted", None)


@pytest.mark.parametrize(
    "metadata", [{"thread_id": 7}, {"parent_id": ""}, {"thread_id": "x" * 999}]
)
async def test_an_id_that_can_not_be_is_refused(client, ask, metadata, log):
    reply = await client.post(CHAT, json=ask("hello", metadata=metadata))
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == f"metadata.{next(iter(metadata))}"
    assert log.records() == []


async def test_what_is_recorded_renders_to_the_very_prompt(client, ask, weather_tool, log):
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "weather?"}]},
        {
            "role": "assistant",
            "reasoning_content": "Hm.",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Ås"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "cold <|im_end|>"},
        {"role": "assistant", "content": "<think>\nold\n</think>\n\nCold."},
        {"role": "user", "content": "hello"},
    ]
    body = {
        "messages": history,
        "tools": [weather_tool],
        "chat_template_kwargs": {"enable_thinking": False},
    }
    shown = (await client.post("/apply-template", json=body)).json()["prompt"]
    await client.post(CHAT, json=body)
    (record,) = log.answers()
    assert record.prompt_hash == hash_prompt(shown)
    options = ChatOptions(
        enable_thinking=record.options.enable_thinking,
        template_kwargs=record.options.template_kwargs or {},
    )
    model = client.state.serving.model
    again = prepare_chat(model, record.messages, record.tools, options)
    assert hash_prompt(again.prompt.text) == record.prompt_hash
    assert record.template_hash == model.template.hash


async def test_the_numbers_are_those_that_tokens_were_drawn_with(client, ask, log):
    await client.post(CHAT, json=ask("hello", top_p=0.5, seed=3, logit_bias={"7": -2}))
    (record,) = log.answers()
    assert record.sampling["top_p"] == 0.5
    assert record.sampling["seed"] == 3
    assert record.sampling["temperature"] == 0.6  # the preset's, for an answer that thinks
    assert record.sampling["logit_bias"] == {"7": -2}


async def test_the_form_of_an_answer_and_its_bounds_are_recorded(client, ask, log):
    schema = {"type": "object"}
    body = ask(
        "json",
        response_format={"type": "json_schema", "json_schema": {"schema": schema}},
        max_tokens=50,
        stop=["zzz"],
        thinking_budget=9,
    )
    await client.post(CHAT, json=body)
    (record,) = log.answers()
    assert record.options.response_format["json_schema"]["schema"] == schema
    assert (record.options.max_tokens, record.options.stop) == (50, ("zzz",))
    assert record.options.thinking_budget == 9


@pytest.mark.parametrize("stream", [False, True])
async def test_store_false_leaves_nothing(client, ask, log, stream, drained):
    reply = await client.post(CHAT, json=ask("hello", store=False, stream=stream))
    assert reply.status_code == 200
    await drained(client)
    assert log.records() == []


async def test_with_the_log_off_nothing_is_written(make_app, run, ask, log):
    async with run(make_app(log_answers="off")) as client:
        assert (await client.post(CHAT, json=ask("hello"))).status_code == 200
    assert not log.folder.exists()


async def test_as_metadata_an_answer_leaves_no_word(make_app, run, ask, log):
    async with run(make_app(log_answers="metadata")) as client:
        await client.post(CHAT, json=ask("hello"))
        (record,) = log.answers()
    assert (record.messages, record.answer) == (None, None)
    assert record.usage.completion > 0
    text = "".join(path.read_text(encoding="utf-8") for path in log.folder.glob("*.jsonl"))
    assert "hello" not in text
    assert "Hello there" not in text


async def test_the_hash_is_that_of_the_prompt_before_anything_is_taken_out(make_app, run, ask, log):
    body = ask("write to ada@example.org")
    async with run(make_app(log_redact="email")) as client:
        shown = (await client.post("/apply-template", json=body)).json()["prompt"]
        await client.post(CHAT, json=body)
        (record,) = log.answers()
    assert "ada@" not in record.messages[0]["content"]
    assert record.prompt_hash == hash_prompt(shown)


async def test_a_request_that_is_refused_leaves_no_record(client, ask, log, drained):
    assert (await client.post(CHAT, json=ask("hello", temperature=-1))).status_code == 400
    too_long = ask("x" * 9000)
    assert (await client.post(CHAT, json=too_long)).status_code == 400
    await drained(client)
    assert log.records() == []


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_fails_on_the_way_is_recorded_as_far_as_it_came(
    client, ask, backend, log, drained, stream
):
    backend.failing_tokens = {7}
    await client.post(CHAT, json=ask("poison", stream=stream))
    await drained(client)
    (record,) = log.answers()
    assert record.finish_reason == "cancelled"
    assert record.answer.content == "fine \x07"
    assert record.usage.completion == len("fine \x07")


def test_an_answer_whose_client_leaves_is_recorded_as_far_as_it_came(url, ask, backend, log, until):
    with httpx.Client(base_url=url) as client:
        with client.stream("POST", CHAT, json=ask("long", stream=True)) as reply:
            next(reply.iter_text())
            backend.hold()
        backend.release()
        until(log.answers)
    (record,) = log.answers()
    assert record.finish_reason == "cancelled"
    assert record.answer.content in "la " * 1000


async def test_an_adapters_answer_names_its_version_and_the_model_below(
    make_app, run, ask, write_adapter, adapters_dir, log
):
    path = write_adapter("poet", "a poem")
    async with run(make_app(lora_paths=str(path))) as client:
        await client.post(CHAT, json=ask("x", model="poet", lora_scale=0.5))
        version = client.state.serving.adapters[0].version
        (record,) = log.answers()
    assert record.model == "scripted"
    assert (record.adapter.name, record.adapter.version) == ("poet", version)
    assert record.adapter.scale == 0.5
    assert record.answer.content == "a poem"


async def test_what_answered_is_recorded_though_all_was_replaced_in_mid_answer(
    make_app, run, models, scripted, ask, write_adapter, log, drained
):
    old = scripted("old")
    models.makers = {None: lambda: old, "new": lambda: scripted("new")}
    path = write_adapter("poet", "one")
    async with run(
        make_app(models=models, lora_paths=str(path), reload_mode="side_by_side")
    ) as client:
        before = client.state.serving
        facts = (before.adapters[0].version, before.model.template.hash)
        old.hold()
        answering = asyncio.create_task(client.post(CHAT, json=ask("x", model="poet")))
        await asyncio.to_thread(old.wait_until_held)
        # Another content under the same name, and another model under another name.
        write_adapter("poet", "two")
        replacing = asyncio.create_task(
            client.post("/admin/reload", json={"model_path": "new", "name": "other"})
        )
        assert (await replacing).status_code == 200
        old.release()
        await answering
        await drained(client)
        (record,) = log.answers()
    assert (record.adapter.version, record.template_hash) == facts
    assert record.model == "scripted"
    assert record.answer.content == "one"
