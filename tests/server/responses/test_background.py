"""Responses that are written while nobody waits."""

import asyncio

import pytest

from qwenkit.server.openai.responses import background

pytestmark = pytest.mark.anyio

PATH = "/v1/responses"


async def begin(client, respond, given, **body):
    response = await respond(client, given, background=True, **body)
    assert response["status"] == "queued"
    assert response["output"] == []
    return response["id"]


async def ended(client, response_id):
    run = client.state.responses.background.running(response_id)
    if run is not None:
        await asyncio.wait({run.task})
    return (await client.get(f"{PATH}/{response_id}")).json()


async def test_a_response_is_written_and_kept_though_nobody_waits(client, respond, said, answers):
    response_id = await begin(client, respond, "hello")
    response = await ended(client, response_id)
    assert (response["status"], said(response)) == ("completed", "Hello there!")
    assert response["background"] is True
    second = await respond(client, "count", previous_response_id=response_id)
    assert said(second) == "one two three four five"
    assert [each.id for each in answers()] == [response_id, second["id"]]


async def test_while_it_is_written_it_can_be_looked_at_and_not_gone_on_from(
    client, respond, backend
):
    backend.hold()
    response_id = await begin(client, respond, "hello")
    await asyncio.to_thread(backend.wait_until_held)
    assert (await client.get(f"{PATH}/{response_id}")).json()["status"] == "queued"
    body = {"input": "x", "previous_response_id": response_id}
    refused = await client.post(PATH, json=body)
    assert refused.json()["error"]["param"] == "previous_response_id"
    backend.release()
    assert (await ended(client, response_id))["status"] == "completed"


async def test_a_cancelled_response_ends_at_once_and_frees_its_slot(client, respond, backend):
    backend.hold()
    response_id = await begin(client, respond, "long")
    await asyncio.to_thread(backend.wait_until_held)
    cancelling = asyncio.create_task(client.post(f"{PATH}/{response_id}/cancel"))
    cancelled = (await cancelling).json()
    backend.release()
    assert (cancelled["id"], cancelled["status"]) == (response_id, "cancelled")
    assert client.state.serving.served.n_leases == 0
    again = await client.post(f"{PATH}/{response_id}/cancel")
    assert again.json() == cancelled


async def test_one_that_is_cancelled_before_its_first_step_is_cancelled(client, respond, backend):
    responses = client.state.responses.background
    backend.hold()
    ids = [await begin(client, respond, "long") for _ in range(2)]
    for each in ids:
        await responses.cancel(each)
    backend.release()
    for each in ids:
        assert (await client.get(f"{PATH}/{each}")).json()["status"] == "cancelled"


async def test_only_a_response_in_the_background_can_be_cancelled(client, respond):
    response = await respond(client, "hello")
    reply = await client.post(f"{PATH}/{response['id']}/cancel")
    assert reply.status_code == 400
    assert (await client.post(f"{PATH}/resp_none/cancel")).status_code == 404


async def test_its_events_can_be_followed_from_any_of_them_on(client, respond, parsed, stream):
    events = await stream(client, "hello", background=True)
    kinds = [event["type"] for event in events]
    assert kinds[:3] == ["response.created", "response.queued", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    response_id = events[0]["response"]["id"]
    params = {"stream": "true", "starting_after": 5}
    later = parsed((await client.get(f"{PATH}/{response_id}", params=params)).text)
    assert later == events[6:]
    final = (await client.get(f"{PATH}/{response_id}")).json()
    assert final == events[-1]["response"]


async def test_the_events_of_others_are_not_there(client, respond):
    response = await respond(client, "hello")
    reply = await client.get(f"{PATH}/{response['id']}", params={"stream": "true"})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "stream"
    assert (await client.get(f"{PATH}/resp_x", params={"stream": "true"})).status_code == 404


async def test_an_error_makes_it_a_failed_response(client, respond, backend):
    backend.failing_tokens = {7}
    response = await ended(client, await begin(client, respond, "poison"))
    assert response["status"] == "failed"
    assert response["error"]["message"]


async def test_what_is_wrong_with_a_request_is_said_at_once(client):
    for body, param in [
        ({"input": [{"role": "x"}]}, "input[0].role"),
        ({"input": "x", "model": "none"}, "model"),
    ]:
        reply = await client.post(PATH, json={**body, "background": True})
        assert reply.json()["error"]["param"] == param
    assert client.state.serving.served.n_leases == 0


async def test_too_many_are_refused_till_there_is_room(client, respond, backend, monkeypatch):
    monkeypatch.setattr(background, "MAX_RUNNING", 1)
    backend.hold()
    response_id = await begin(client, respond, "hello")
    refused = await client.post(PATH, json={"input": "hello", "background": True})
    assert refused.status_code == 503
    assert refused.headers["Retry-After"]
    backend.release()
    await ended(client, response_id)
    await ended(client, await begin(client, respond, "hello"))


async def test_two_that_begin_at_once_do_not_both_take_the_last_place(
    client, respond, backend, monkeypatch
):
    monkeypatch.setattr(background, "MAX_RUNNING", 1)
    first = await respond(client, "hello")
    backend.hold()
    body = {"input": "hello", "background": True, "previous_response_id": first["id"]}
    replies = await asyncio.gather(*(client.post(PATH, json=body) for _ in range(3)))
    assert sorted(reply.status_code for reply in replies) == [200, 503, 503]
    backend.release()
    begun = next(reply.json()["id"] for reply in replies if reply.status_code == 200)
    await ended(client, begun)
    assert client.state.serving.served.n_leases == 0


async def test_what_was_asked_is_listed_while_it_is_written(client, respond, backend):
    backend.hold()
    response_id = await begin(client, respond, "hello")
    path = f"{PATH}/{response_id}/input_items"
    listed = (await client.get(path)).json()
    assert listed["data"][0]["content"] == [{"type": "input_text", "text": "hello"}]
    backend.release()
    await ended(client, response_id)
    assert (await client.get(path)).json() == listed


async def test_one_that_can_not_be_kept_ends_all_the_same(client, respond, backend, monkeypatch):
    async def fail(_kept):
        raise RuntimeError("no room")

    monkeypatch.setattr(client.state.responses.background, "_keep", fail)
    backend.hold()
    response_id = await begin(client, respond, "hello")
    run = client.state.responses.background.running(response_id)
    backend.release()
    [result] = await asyncio.gather(run.task, return_exceptions=True)
    assert isinstance(result, RuntimeError)
    assert client.state.responses.background.running(response_id) is None
    assert [event async for event in run.follow()][-1].startswith(b"event: response.completed")


async def test_deleting_one_ends_it(client, respond, backend):
    backend.hold()
    response_id = await begin(client, respond, "long")
    deleted = await client.delete(f"{PATH}/{response_id}")
    backend.release()
    assert deleted.status_code == 200
    assert (await client.get(f"{PATH}/{response_id}")).status_code == 404


async def test_a_server_that_stops_leaves_no_response_unfinished(client, respond, backend):
    backend.hold()
    response_id = await begin(client, respond, "long")
    await asyncio.to_thread(backend.wait_until_held)
    await client.state.responses.background.close()
    backend.release()
    response = (await client.get(f"{PATH}/{response_id}")).json()
    assert response["status"] == "failed"
    assert "stopped" in response["error"]["message"]


async def test_a_key_does_not_see_what_another_has_written_in_the_background(
    make_app, run, respond, backend
):
    backend.hold()
    bob = {"Authorization": "Bearer bob"}
    async with run(make_app(api_keys="ada,bob"), Authorization="Bearer ada") as client:
        response_id = await begin(client, respond, "hello")
        for method, rest in [
            ("GET", ""),
            ("POST", "/cancel"),
            ("DELETE", ""),
            ("GET", "?stream=1"),
            ("GET", "/input_items"),
        ]:
            reply = await client.request(method, f"{PATH}/{response_id}{rest}", headers=bob)
            assert reply.status_code == 404, (method, rest)
        body = {"input": "x", "previous_response_id": response_id}
        for key, code in [(bob, "previous_response_not_found"), ({}, None)]:
            reply = await client.post(PATH, json=body, headers=key)
            assert reply.json()["error"]["code"] == code
        backend.release()
        assert (await ended(client, response_id))["status"] == "completed"
