"""What `/v1/completions` continues is in the log, as the client got it."""

import pytest

from qwenkit.feedback.records import hash_prompt

pytestmark = pytest.mark.anyio

RAW = "/v1/completions"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_continuation_is_recorded_as_it_was_sent(client, events, log, stream):
    body = {"prompt": "Once upon", "max_tokens": 40, "stream": stream, "user": "ada"}
    reply = await client.post(RAW, json=body)
    chunks = events(reply.text)[:-1] if stream else [reply.json()]
    (record,) = log.answers()
    assert record.answer.content == "".join(each["choices"][0]["text"] for each in chunks)
    assert record.id == chunks[0]["id"]
    assert (record.prompt, record.messages) == ("Once upon", None)
    assert record.prompt_hash == hash_prompt("Once upon")
    assert (record.template_hash, record.user, record.finish_reason) == ("", "ada", "stop")


async def test_every_choice_of_every_prompt_is_a_record(client, log):
    body = {"prompt": ["Once upon", "def add("], "n": 2, "max_tokens": 40}
    sent = (await client.post(RAW, json=body)).json()
    texts = {each["index"]: each["text"] for each in sent["choices"]}
    records = {each.id: each for each in log.answers()}
    assert len(records) == 4
    for index, text in texts.items():
        record = records[sent["id"] if index == 0 else f"{sent['id']}:{index}"]
        assert record.answer.content == text
        assert record.prompt == ("Once upon" if index < 2 else "def add(")
    n_tokens = sum(each.usage.completion for each in records.values())
    assert n_tokens == sent["usage"]["completion_tokens"]


async def test_a_prompt_of_tokens_is_recorded_as_its_text(client, log):
    tokens = (await client.post("/tokenize", json={"content": "Once upon"})).json()["tokens"]
    await client.post(RAW, json={"prompt": tokens, "max_tokens": 5})
    (record,) = log.answers()
    assert record.prompt == "Once upon"
    assert record.finish_reason == "length"


async def test_a_hole_is_recorded_with_its_marks(client, log):
    await client.post(RAW, json={"prompt": "a", "suffix": "b", "max_tokens": 3})
    (record,) = log.answers()
    assert record.prompt == "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"


async def test_an_echo_is_no_part_of_the_record(client, log):
    await client.post(RAW, json={"prompt": "Once upon", "echo": True, "max_tokens": 4})
    (record,) = log.answers()
    assert record.answer.content == " a t"


async def test_store_false_leaves_nothing(client, log, drained):
    await client.post(RAW, json={"prompt": "Once upon", "store": False})
    await drained(client)
    assert log.records() == []


async def test_a_continuation_that_fails_is_recorded_as_far_as_it_came(
    client, backend, log, drained
):
    backend.failing_tokens = {ord("g")}
    await client.post(RAW, json={"prompt": "Once upon", "max_tokens": 40})
    await drained(client)
    (record,) = log.answers()
    assert record.finish_reason == "cancelled"
    assert " a time there was a king.".startswith(record.answer.content)
