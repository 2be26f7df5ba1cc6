import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.anyio


async def scrape(client):
    page = (await client.get("/metrics")).text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def value(samples, name, **labels):
    return samples[name, tuple(sorted(labels.items()))]


async def test_tokens_and_latencies_are_counted(client, ask):
    usage = (await client.post("/v1/chat/completions", json=ask("hello", n=2))).json()["usage"]
    seen = await scrape(client)
    assert value(seen, "qwenkit_generated_tokens_total") == usage["completion_tokens"]
    assert value(seen, "qwenkit_prompt_tokens_total") == usage["prompt_tokens"]
    assert value(seen, "qwenkit_choices_total", outcome="stop") == 2
    assert value(seen, "qwenkit_time_to_first_token_seconds_count") >= 1
    assert value(seen, "qwenkit_inter_token_latency_seconds_count") > 2
    assert value(seen, "qwenkit_step_duration_seconds_count") > 2


async def test_reused_tokens_are_counted(client, ask):
    await client.post("/v1/chat/completions", json=ask("hello"))
    again = (await client.post("/v1/chat/completions", json=ask("hello"))).json()["usage"]
    cached = again["prompt_tokens_details"]["cached_tokens"]
    assert cached > 0
    assert value(await scrape(client), "qwenkit_cached_tokens_total") == cached


async def test_the_engines_state_is_shown(client, backend):
    seen = await scrape(client)
    assert value(seen, "qwenkit_slots") == backend.capabilities.n_slots
    assert value(seen, "qwenkit_kv_cells") == backend.capabilities.n_cells
    assert value(seen, "qwenkit_slots_used") == 0
    assert value(seen, "qwenkit_queue_length") == 0


async def test_requests_are_counted_by_route_and_status_never_by_url(client, ask):
    await client.post("/v1/chat/completions", json=ask("hello"))
    await client.post("/v1/chat/completions", json={})
    await client.get("/v1/models/one")
    await client.get("/v1/models/two")
    await client.get("/nothing/one")
    await client.get("/nothing/two")
    seen = await scrape(client)
    requests = {
        labels: count for (name, labels), count in seen.items() if name == "qwenkit_requests_total"
    }
    assert requests == {
        (("route", "/v1/chat/completions"), ("status", "200")): 1,
        (("route", "/v1/chat/completions"), ("status", "400")): 1,
        (("route", "/v1/models/{model_id:path}"), ("status", "404")): 2,
        (("route", "other"), ("status", "404")): 2,
    }
    assert value(seen, "qwenkit_request_duration_seconds_count", route="other") == 2


async def test_every_answer_has_a_request_id(client):
    made = (await client.get("/healthz")).headers["x-request-id"]
    other = (await client.get("/nothing")).headers["x-request-id"]
    assert made != other
    reply = await client.get("/healthz", headers={"X-Request-Id": "mine-1"})
    assert reply.headers["x-request-id"] == "mine-1"


@pytest.mark.parametrize("unsound", ["", "x" * 129, "a b", "a\tb", "<script>", "é".encode()])
async def test_a_request_id_that_could_do_harm_is_replaced(client, unsound):
    reply = await client.get("/healthz", headers={"X-Request-Id": unsound})
    assert reply.headers["x-request-id"] not in (unsound, "")


async def test_two_servers_in_one_process_count_apart(make_app, run):
    async with run(make_app()) as one, run(make_app()) as two:
        await one.get("/healthz")
        assert (
            "qwenkit_requests_total",
            (("route", "/healthz"), ("status", "200")),
        ) not in await scrape(two)
