"""Responses are kept, gone on from, listed, deleted; each for whoever may see it."""

import pytest

from qwenkit.feedback.records import hash_prompt

pytestmark = pytest.mark.anyio

PATH = "/v1/responses"


async def on(client, response, given, respond, **body):
    return await respond(client, given, previous_response_id=response["id"], **body)


async def test_a_conversation_goes_on_with_the_very_prompt_of_the_chat(
    client, respond, weather, weather_tool, answers
):
    first = await respond(client, "weather", tools=[weather], instructions="Old rule.")
    call = first["output"][-1]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "count"}
    second = await on(client, first, [output], respond, tools=[weather], instructions="Rule.")
    third = await on(client, second, "hello", respond, instructions="Rule.", tools=[weather])
    function = {"name": "weather", "arguments": call["arguments"]}
    chat = [
        {"role": "system", "content": "Rule."},
        {"role": "user", "content": "weather"},
        {
            "role": "assistant",
            "reasoning_content": "A tool knows.",
            "tool_calls": [{"id": call["call_id"], "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": call["call_id"], "content": "count"},
        {"role": "assistant", "content": "one two three four five"},
        {"role": "user", "content": "hello"},
    ]
    body = {"messages": chat, "tools": [weather_tool]}
    prompt = (await client.post("/apply-template", json=body)).json()["prompt"]
    assert answers()[-1].prompt_hash == hash_prompt(prompt)
    assert third["previous_response_id"] == second["id"]
    assert third["usage"]["input_tokens_details"]["cached_tokens"] > 0


async def test_a_conversation_survives_a_restart(make_app, run, respond, models, scripted, said):
    models.makers = {None: lambda: scripted("fresh")}
    async with run(make_app(models=models)) as client:
        first = await respond(client, "hello")
    async with run(make_app(models=models)) as client:
        second = await on(client, first, "count", respond)
        alone = await respond(client, "count")
        kept = (await client.get(f"{PATH}/{first['id']}")).json()
    assert kept == first
    assert said(second) == "fresh"
    assert second["usage"]["input_tokens"] > alone["usage"]["input_tokens"]


async def test_what_is_not_to_be_stored_is_not_there_later(client, respond, tmp_path, answers):
    first = await respond(client, "hello", store=False)
    assert first["store"] is False
    assert (await client.get(f"{PATH}/{first['id']}")).status_code == 404
    assert answers() == []
    reply = await client.post(PATH, json={"input": "x", "previous_response_id": first["id"]})
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "previous_response_not_found"


async def test_items_are_listed_in_pages_of_either_order(client, respond):
    given = [{"role": "user", "content": text} for text in ("one", "two", "hello")]
    response = await respond(client, given)
    path = f"{PATH}/{response['id']}/input_items"
    newest = (await client.get(path, params={"limit": 2})).json()
    texts = [item["content"][0] for item in newest["data"]]
    assert texts == [{"type": "input_text", "text": "hello"}, {"type": "input_text", "text": "two"}]
    assert newest["has_more"]
    rest = (await client.get(path, params={"after": newest["last_id"]})).json()
    assert [item["content"][0]["text"] for item in rest["data"]] == ["one"]
    assert not rest["has_more"]
    oldest = (await client.get(path, params={"order": "asc", "limit": 1})).json()
    assert oldest["data"] == rest["data"]
    assert (await client.get(path, params={"after": "msg_x"})).status_code == 404
    assert (await client.get(path, params={"limit": 0})).status_code == 400


async def test_items_that_were_sent_with_one_id_are_listed_with_several(client, respond):
    given = [{"role": "user", "content": text, "id": "msg_same"} for text in ("one", "two")]
    response = await respond(client, given)
    path = f"{PATH}/{response['id']}/input_items?order=asc"
    listed = (await client.get(path)).json()["data"]
    assert listed[0]["id"] == "msg_same"
    rest = (await client.get(path, params={"order": "asc", "after": "msg_same"})).json()["data"]
    assert rest == listed[1:]
    assert rest[0]["id"].startswith("msg_")
    assert rest[0]["id"] != "msg_same"


async def test_an_item_can_be_referred_to(client, respond, answers):
    first = await respond(client, "hello")
    given = [
        {"role": "user", "content": "hello"},
        *({"type": "item_reference", "id": item["id"]} for item in first["output"]),
        {"role": "user", "content": "count"},
    ]
    await respond(client, given)
    await on(client, first, "count", respond)
    referred, gone_on = answers()[-2:]
    assert referred.prompt_hash == gone_on.prompt_hash


async def test_a_deleted_response_is_gone_and_so_is_what_went_on_from_it(client, respond, tmp_path):
    first = await respond(client, "hello " + "secret" * 7)
    second = await on(client, first, "count", respond)
    deleted = await client.delete(f"{PATH}/{first['id']}")
    assert deleted.json() == {"id": first["id"], "object": "response", "deleted": True}
    assert (await client.get(f"{PATH}/{first['id']}")).status_code == 404
    assert (await client.delete(f"{PATH}/{first['id']}")).status_code == 404
    assert (await client.get(f"{PATH}/{second['id']}")).status_code == 200
    reply = await client.post(PATH, json={"input": "x", "previous_response_id": second["id"]})
    assert reply.json()["error"]["code"] == "previous_response_not_found"
    files = [path.read_bytes() for path in (tmp_path / "logs").glob("responses.sqlite*")]
    assert files
    assert not any(b"secret" * 7 in content for content in files)


ROUTES = [
    ("GET", ""),
    ("DELETE", ""),
    ("POST", "/cancel"),
    ("GET", "/input_items"),
]


async def test_a_key_sees_its_own_responses_and_an_admins_all(make_app, run, respond):
    app = make_app(api_keys="ada,bob", admin_api_keys="root")
    async with run(app, Authorization="Bearer ada") as client:
        response = await respond(client, "hello")
        path = f"{PATH}/{response['id']}"
        bob = {"Authorization": "Bearer bob"}
        root = {"Authorization": "Bearer root"}
        for method, rest in ROUTES:
            reply = await client.request(method, path + rest, headers=bob)
            assert reply.status_code == 404, (method, rest)
        reference = {"type": "item_reference", "id": response["output"][0]["id"]}
        for body in (
            {"input": "x", "previous_response_id": response["id"]},
            {"input": [{"role": "user", "content": "x"}, reference]},
        ):
            assert (await client.post(PATH, json=body, headers=bob)).status_code == 400
            assert (await client.post(PATH, json=body, headers=root)).status_code == 200
        assert (await client.get(path, headers=root)).json() == response
        assert (await client.get(path)).json() == response


async def test_whoever_needs_no_key_shares_with_the_others_but_not_with_a_key(
    make_app, run, respond
):
    async with run(make_app(admin_api_keys="root")) as client:
        anyones = await respond(client, "hello")
        reply = await client.post(
            PATH, json={"input": "hello"}, headers={"Authorization": "Bearer root"}
        )
        other = {"Authorization": "Bearer something"}
        shared = await client.get(f"{PATH}/{anyones['id']}", headers=other)
        hidden = await client.get(f"{PATH}/{reply.json()['id']}", headers=other)
    assert (shared.status_code, hidden.status_code) == (200, 404)


@pytest.mark.parametrize(
    "settings",
    [
        {"log_answers": "off"},
        {"log_answers": "metadata"},
        {"log_redact": "email"},
        {"responses_store": "memory"},
    ],
)
async def test_what_may_not_be_written_is_kept_in_memory(
    make_app, run, respond, tmp_path, settings, said
):
    async with run(make_app(**settings)) as client:
        first = await respond(client, "hello")
        assert said(await on(client, first, "count", respond)) == "one two three four five"
    assert not [*(tmp_path / "logs").glob("responses*")]


async def test_a_server_that_keeps_none_says_so(make_app, run, respond):
    async with run(make_app(responses_store="off")) as client:
        assert (await respond(client, "hello"))["store"] is False
        reply = await client.post(PATH, json={"input": "hello", "store": True})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "store"


async def test_an_answer_is_given_though_it_can_not_be_kept(make_app, run, respond, tmp_path, said):
    async with run(make_app()) as client:
        (tmp_path / "logs" / "responses.sqlite").mkdir(parents=True)
        response = await respond(client, "hello")
    assert said(response) == "Hello there!"
    assert response["store"] is False


async def test_a_file_that_can_not_be_read_is_told_with_its_name(make_app, run, tmp_path):
    async with run(make_app()) as client:
        (tmp_path / "logs").mkdir(exist_ok=True)
        (tmp_path / "logs" / "responses.sqlite").write_bytes(b"no database at all" * 100)
        reply = await client.get(f"{PATH}/resp_x")
    assert reply.status_code == 500
    assert reply.json()["error"]["code"] == "log_unreadable"
    assert "responses.sqlite" in reply.json()["error"]["message"]


async def test_answers_of_a_conversation_are_one_thread_in_the_log(client, respond, answers):
    first = await respond(client, "hello", user="ada")
    second = await on(client, first, "count", respond, safety_identifier="eve")
    await on(client, second, "hello", respond, metadata={"thread_id": "mine"})
    records = answers()
    assert [each.id for each in records[:2]] == [first["id"], second["id"]]
    assert [each.thread_id for each in records] == [first["id"], first["id"], "mine"]
    assert [each.user for each in records] == ["ada", "eve", None]
    assert records[0].answer.content == "Hello there!"
    rated = await client.post("/v1/feedback", json={"answer_id": first["id"], "thumb": "up"})
    assert rated.status_code in (200, 201), rated.text
