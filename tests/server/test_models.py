import pytest

pytestmark = pytest.mark.anyio


async def test_the_served_model_is_listed_with_its_facts(client, backend):
    page = (await client.get("/v1/models")).json()
    (model,) = page["data"]
    assert page["object"] == "list"
    assert (model["id"], model["object"], model["owned_by"]) == ("scripted", "model", "qwenkit")
    assert model["meta"]["n_ctx"] == backend.capabilities.n_ctx
    assert model["meta"]["n_vocab"] == backend.tokenizer.n_vocab


async def test_a_model_is_found_by_its_name_and_by_its_path(make_app, run, ask):
    async with run(make_app(model_path="Qwen/Qwen3-8B")) as client:
        for name in ("scripted", "Qwen/Qwen3-8B"):
            assert (await client.get(f"/v1/models/{name}")).json()["id"] == "scripted"
            reply = await client.post("/v1/chat/completions", json=ask("hello", model=name))
            assert reply.json()["model"] == "scripted"


async def test_an_empty_name_is_the_served_model_as_no_name_is(client, ask):
    reply = await client.post("/v1/chat/completions", json=ask("hello", model=""))
    assert reply.json()["model"] == "scripted"


@pytest.mark.parametrize("name", ["gpt-4o", "SCRIPTED", "scripted "])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_another_model_is_unknown_and_the_served_one_is_named(client, ask, path, name):
    reply = await client.post(path, json=ask("hello", model=name, prompt="hello"))
    error = reply.json()["error"]
    assert reply.status_code == 404
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "scripted" in error["message"]


async def test_asking_for_another_model_is_answered_with_404(client):
    reply = await client.get("/v1/models/nothing/there")
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "model_not_found"
