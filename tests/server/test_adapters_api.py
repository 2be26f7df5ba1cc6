"""Adapters of a running server: by our routes, vLLM's and llama-server's, and in requests."""

import asyncio
import json
import threading

import pytest

from qwenkit.errors import ModelNotFound

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"
ADAPTERS = "/admin/adapters"


def content(reply):
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]["message"]["content"]


def error(reply):
    return reply.status_code, reply.json()["error"]["code"], reply.json()["error"]["param"]


@pytest.fixture
async def client(make_app, run, models, adapters_dir):
    async with run(make_app(models=models, lora_dirs=str(adapters_dir))) as client:
        yield client


@pytest.fixture
def load(client, write_adapter):
    """Writes an adapter and loads it under its name."""

    async def load(name, answer="adapted", **body):
        path = write_adapter(name, answer)
        return await client.post(ADAPTERS, json={"name": name, "path": str(path), **body})

    return load


async def test_a_loaded_adapter_is_a_model_beside_the_model(client, load, ask):
    reply = await load("poet", "a rhyme")
    assert reply.status_code == 200
    assert reply.json()["name"] == "poet"
    assert reply.json()["path"].endswith("poet.gguf")
    base, adapter = (await client.get("/v1/models")).json()["data"]
    assert (base["id"], base["parent"], base["root"]) == ("scripted", None, "scripted")
    assert (adapter["id"], adapter["parent"], adapter["root"]) == ("poet", "scripted", "scripted")
    assert adapter["meta"]["version"] == reply.json()["version"]
    assert (await client.get("/v1/models/poet")).json() == adapter
    answer = await client.post(CHAT, json=ask("hello", model="poet"))
    assert content(answer) == "a rhyme"
    assert answer.json()["model"] == "poet"
    assert content(await client.post(CHAT, json=ask("hello"))) == "Hello there!"


async def test_several_adapters_answer_at_once_each_its_own(client, load, ask):
    for i in range(3):
        await load(f"a{i}", f"answer {i}")
    bodies = [ask("hello", model=f"a{i % 3}") for i in range(6)] + [ask("hello")]
    replies = await asyncio.gather(*(client.post(CHAT, json=body) for body in bodies))
    assert [content(reply) for reply in replies] == [
        *(f"answer {i % 3}" for i in range(6)),
        "Hello there!",
    ]


async def test_raw_completions_use_an_adapter_too(client, load):
    await load("poet", "a rhyme")
    body = {"model": "poet", "prompt": "Once upon"}
    reply = await client.post("/v1/completions", json=body)
    assert reply.json()["model"] == "poet"
    assert reply.json()["choices"][0]["text"] == "a rhyme"


async def test_an_unloaded_adapter_is_unknown(client, load, ask, models):
    await load("poet")
    gone = await client.delete(f"{ADAPTERS}/poet")
    assert gone.json()["name"] == "poet"
    assert error(await client.post(CHAT, json=ask("hello", model="poet"))) == (
        404,
        "model_not_found",
        "model",
    )
    assert error(await client.delete(f"{ADAPTERS}/poet"))[:2] == (404, "adapter_not_found")
    assert (await client.get(ADAPTERS)).json() == {"adapters": []}


async def test_a_running_answer_ends_with_the_version_it_began_with(client, load, ask, backend):
    first = (await load("poet", "the old rhyme")).json()
    backend.hold()
    running = asyncio.create_task(client.post(CHAT, json=ask("hello", model="poet")))
    assert await asyncio.to_thread(backend.wait_until_held)
    loading = asyncio.create_task(load("poet", "the new rhyme"))
    await asyncio.sleep(0)
    backend.release()
    second = (await loading).json()
    assert first["version"] != second["version"]
    assert first["id"] == second["id"]
    assert content(await running) == "the old rhyme"
    assert content(await client.post(CHAT, json=ask("hello", model="poet"))) == "the new rhyme"


async def test_a_new_version_never_reuses_what_the_old_one_computed(client, load, ask):
    await load("poet", "one")
    for _ in range(2):
        reply = await client.post(CHAT, json=ask("hello", model="poet"))
    cached = "prompt_tokens_details"
    assert reply.json()["usage"][cached]["cached_tokens"] > 0
    await load("poet", "two")
    reply = await client.post(CHAT, json=ask("hello", model="poet"))
    assert reply.json()["usage"][cached]["cached_tokens"] == 0


async def test_the_same_content_again_keeps_its_version(load):
    first, second = (await load("poet")).json(), (await load("poet")).json()
    assert first == second


async def test_a_name_that_is_taken_is_not_given_away_without_being_asked_to(
    client, load, write_adapter, ask
):
    await load("poet", "one")
    body = {"name": "poet", "path": str(write_adapter("other", "two"))}
    assert error(await client.post(ADAPTERS, json=body)) == (409, "conflict", "name")
    assert content(await client.post(CHAT, json=ask("hello", model="poet"))) == "one"
    assert (await client.post(ADAPTERS, json={**body, "replace": True})).status_code == 200
    assert content(await client.post(CHAT, json=ask("hello", model="poet"))) == "two"


async def test_the_models_own_names_can_not_be_an_adapters(make_app, run, models, write_adapter):
    path = str(write_adapter("poet"))
    app = make_app(models=models, model_path="some/model", lora_dirs=str(write_adapter("x").parent))
    async with run(app) as client:
        for name in ("scripted", "some/model"):
            body = {"name": name, "path": path, "replace": True}
            assert error(await client.post(ADAPTERS, json=body)) == (409, "conflict", "name")


@pytest.mark.parametrize("name", ["", " ", "a ", " a", "a\nb", "\x1b[31m", "x" * 257])
async def test_a_name_that_can_be_none_is_refused(client, write_adapter, name):
    reply = await client.post(ADAPTERS, json={"name": name, "path": str(write_adapter("a"))})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "name")


async def test_a_name_may_hold_slashes_and_spaces(client, write_adapter, ask):
    body = {"name": "me/my poet ü", "path": str(write_adapter("a", "hi"))}
    assert (await client.post(ADAPTERS, json=body)).status_code == 200
    assert content(await client.post(CHAT, json=ask("hello", model="me/my poet ü"))) == "hi"
    assert (await client.get("/v1/models/me/my poet ü")).json()["id"] == "me/my poet ü"
    assert (await client.delete(f"{ADAPTERS}/me/my poet ü")).status_code == 200


async def test_paths_outside_the_configured_folders_are_refused(client, write_adapter, tmp_path):
    inside = write_adapter("inside")
    outside = write_adapter("outside", folder=tmp_path / "elsewhere")
    link = inside.parent / "link.gguf"
    link.symlink_to(outside)
    folder = inside.parent / "peft"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    (folder / "adapter_model.safetensors").symlink_to(outside)
    sibling = write_adapter("twin", folder=inside.parent.with_name("adapters-private"))
    for path in (
        outside,
        link,
        folder,
        sibling,
        inside.parent / ".." / "elsewhere" / "outside.gguf",
        tmp_path / "elsewhere" / "nothing-there",
        "/etc/passwd",
        "relative/path",
        "~",
    ):
        reply = await client.post(ADAPTERS, json={"name": "a", "path": str(path)})
        assert error(reply)[:2] == (403, "forbidden"), path
        assert "LORA_DIRS" in reply.json()["error"]["message"]


async def test_links_that_stay_inside_are_followed(client, write_adapter, ask):
    path = write_adapter("real", "hi")
    link = path.parent / "link.gguf"
    link.symlink_to(path)
    reply = await client.post(ADAPTERS, json={"name": "a", "path": str(link)})
    assert reply.json()["path"] == str(path.resolve())


async def test_adapters_in_the_home_folder_are_allowed(client, write_adapter, tmp_path):
    path = write_adapter("mine", folder=tmp_path / "home" / "adapters")
    assert (await client.post(ADAPTERS, json={"name": "a", "path": str(path)})).status_code == 200


@pytest.mark.parametrize("path", ["a\x00b", "x" * 5000, ""])
async def test_what_is_no_path_is_refused(client, path):
    reply = await client.post(ADAPTERS, json={"name": "a", "path": path})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "path")


async def test_a_ring_of_links_is_refused(client, adapters_dir):
    (adapters_dir / "a").symlink_to(adapters_dir / "b")
    (adapters_dir / "b").symlink_to(adapters_dir / "a")
    reply = await client.post(ADAPTERS, json={"name": "a", "path": str(adapters_dir / "a")})
    assert reply.status_code in (400, 404)


async def test_an_overlong_name_inside_the_folder_is_refused(client, adapters_dir):
    path = str(adapters_dir / ("x" * 3000))
    reply = await client.post(ADAPTERS, json={"name": "a", "path": path})
    assert reply.status_code in (400, 404)


async def test_what_is_not_there_or_broken_is_refused_with_the_reason(client, adapters_dir):
    reply = await client.post(
        ADAPTERS, json={"name": "a", "path": str(adapters_dir / "nothing.gguf")}
    )
    assert error(reply)[:2] == (404, "file_not_found")
    broken = adapters_dir / "broken.gguf"
    broken.write_text('{"": "trunc', encoding="utf-8")
    reply = await client.post(ADAPTERS, json={"name": "a", "path": str(broken)})
    assert error(reply)[:2] == (400, "file_corrupt")
    assert (await client.get(ADAPTERS)).json() == {"adapters": []}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": "a"}, "path"),
        ({"name": 3, "path": "x"}, "name"),
        ({"name": "a", "path": ["x"]}, "path"),
        ({"name": "a", "path": "x", "replace": "yes"}, "replace"),
    ],
)
async def test_a_wrong_field_is_named(client, body, param):
    reply = await client.post(ADAPTERS, json=body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


async def test_vllms_routes_answer_as_vllm_does(client, write_adapter, ask):
    body = {"lora_name": "poet", "lora_path": str(write_adapter("poet", "one"))}
    reply = await client.post("/v1/load_lora_adapter", json=body)
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain")
    assert reply.text == "Success: LoRA adapter 'poet' added successfully."
    assert content(await client.post(CHAT, json=ask("hello", model="poet"))) == "one"

    write_adapter("poet", "two")
    again = await client.post("/v1/load_lora_adapter", json=body)
    assert error(again) == (400, None, "lora_name")
    in_place = await client.post("/v1/load_lora_adapter", json={**body, "load_inplace": True})
    assert in_place.status_code == 200
    assert content(await client.post(CHAT, json=ask("hello", model="poet"))) == "two"

    body = {"lora_name": "poet", "lora_int_id": 1}
    reply = await client.post("/v1/unload_lora_adapter", json=body)
    assert reply.text == "Success: LoRA adapter 'poet' removed successfully."
    assert (await client.post("/v1/unload_lora_adapter", json=body)).status_code == 404
    assert (await client.post("/v1/unload_lora_adapter", json={})).status_code == 400


async def test_a_request_names_an_adapters_strength(client, load, backend):
    await load("poet", "a rhyme")

    async def scales(**body):
        backend.decodes.clear()
        reply = await client.post("/v1/completions", json={"prompt": "Once upon", **body})
        assert reply.json()["choices"][0]["text"] == "a rhyme"
        return {rows.adapter and rows.adapter.scale for rows in backend.decodes}

    listed = (await client.get("/lora-adapters")).json()
    assert listed == [{"id": 0, "name": "poet", "path": "poet.gguf", "scale": 0.0}]
    assert await scales(model="poet") == {1.0}
    assert await scales(model="poet", lora_scale=0.5) == {0.5}
    assert await scales(lora=[{"id": 0, "scale": 0.25}]) == {0.25}
    assert await scales(lora=[{"name": "poet", "scale": 2}]) == {2.0}
    assert await scales(lora=[{"name": "poet"}]) == {1.0}
    assert await scales(model="poet", lora=[{"id": 0, "scale": 0.75}]) == {0.75}


async def test_a_strength_of_zero_leaves_an_adapter_out(client, load, ask):
    await load("poet", "a rhyme")
    await load("other", "something")
    lora = [{"id": 0, "scale": 0}, {"id": 1, "scale": 1.0}]
    assert content(await client.post(CHAT, json=ask("hello", lora=lora))) == "something"
    for lora in ([], [{"id": 0, "scale": 0}]):
        assert content(await client.post(CHAT, json=ask("hello", lora=lora))) == "Hello there!"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"lora": [{"id": 0}, {"id": 1}]}, 400, "lora"),
        ({"lora": [{"id": 0}], "lora_scale": 1.0}, 400, "lora_scale"),
        ({"lora_scale": 1.0}, 400, "lora_scale"),
        ({"model": "poet", "lora_scale": 1e6}, 400, "lora_scale"),
        ({"lora": [{"id": 0, "scale": -1000}]}, 400, "lora[0].scale"),
        ({"lora": [{"id": 0, "scale": 0}, {"id": 7}]}, 404, "lora[1].id"),
        ({"lora": [{"name": "nobody"}]}, 404, "lora[0].name"),
        ({"lora": [{"scale": 1.0}]}, 400, "lora[0]"),
        ({"lora": [{"id": 0, "name": "poet"}]}, 400, "lora[0]"),
        ({"lora": [{"id": "0"}]}, 400, "lora[0].id"),
        ({"lora": {"id": 0}}, 400, "lora"),
        ({"lora": [{"id": 0}] * 300}, 400, "lora"),
        ({"lora_scale": "1"}, 400, "lora_scale"),
        ({"model": "poet", "lora": [{"id": 1}]}, 400, "lora"),
        ({"model": "poet", "lora": []}, 400, "lora"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
async def test_a_choice_of_adapters_that_can_not_be_is_named(
    client, load, ask, path, body, status, param
):
    await load("poet")
    await load("other")
    reply = await client.post(path, json=ask("hello", prompt="hello", **body))
    assert (reply.status_code, reply.json()["error"]["param"]) == (status, param)


async def test_a_number_stays_an_adapters_own(client, load):
    first = [(await load(name)).json()["id"] for name in ("a", "b")]
    await client.delete(f"{ADAPTERS}/a")
    assert (await load("c")).json()["id"] not in first
    assert [each["id"] for each in (await client.get("/lora-adapters")).json()] == [1, 2]
    assert (await load("a")).json()["id"] == 0


async def test_embeddings_are_of_the_model_alone(client, load):
    await load("poet")
    reply = await client.post("/v1/embeddings", json={"model": "poet", "input": "x"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "model")


async def test_loaded_adapters_are_counted(client, load):
    async def loaded():
        lines = (await client.get("/metrics")).text.splitlines()
        (line,) = (line for line in lines if line.startswith("qwenkit_adapters_loaded "))
        return float(line.split()[1])

    await load("a")
    await load("b")
    assert await loaded() == 2
    await client.delete(f"{ADAPTERS}/a")
    assert await loaded() == 1


async def test_without_a_model_adapters_can_not_be_loaded(make_app, run, write_adapter):
    def fail():
        raise ModelNotFound("nothing there")

    path = str(write_adapter("a"))
    app = make_app(before_load=fail, lora_dirs=str(write_adapter("a").parent))
    async with run(app, wait=False) as client:
        with pytest.raises(ModelNotFound):
            await app.state.serving.loaded()
        reply = await client.post(ADAPTERS, json={"name": "a", "path": path})
        assert reply.status_code == 503


async def test_a_reload_takes_the_adapters_along(client, load, ask, models, scripted):
    models.makers["new"] = lambda: scripted("from the new model")
    await load("a", "adapted a")
    await load("b", "adapted b")
    for mode in ("side_by_side", "drain"):
        body = {"model_path": "new", "mode": mode}
        reply = (await client.post("/admin/reload", json=body)).json()
        assert (reply["adapters"], reply["left_out"]) == (["a", "b"], [])
        for model, answer in ((None, "from the new model"), ("a", "adapted a")):
            reply = await client.post(CHAT, json=ask("hello", model=model))
            assert content(reply) == answer


async def test_adapters_that_do_not_go_with_the_new_model_are_named_and_wait_for_a_better_one(
    client, load, ask, models, scripted, adapters_dir
):
    models.makers = {"new": lambda: scripted("new"), "old": lambda: models.backend}
    for name in ("a", "b", "c"):
        await load(name, f"adapted {name}")
    (adapters_dir / "a.gguf").write_text("{", encoding="utf-8")
    body = {"model_path": "new", "name": "b"}
    reply = (await client.post("/admin/reload", json=body)).json()
    assert reply["adapters"] == ["c"]
    assert [each["name"] for each in reply["left_out"]] == ["a", "b"]
    assert all(each["reason"] for each in reply["left_out"])
    status = (await client.get("/admin/status")).json()
    assert [each["name"] for each in status["adapters"]] == ["c"]
    assert status["left_out"] == reply["left_out"]
    assert content(await client.post(CHAT, json=ask("hello", model="b"))) == "new"

    reply = (await client.post("/admin/reload", json={"name": "back"})).json()
    assert reply["adapters"] == ["b", "c"]
    assert [each["name"] for each in reply["left_out"]] == ["a"]
    assert (await client.delete(f"{ADAPTERS}/a")).status_code == 404
    assert (await client.get("/admin/status")).json()["left_out"] == []


async def test_what_is_loaded_while_a_new_model_gets_its_adapters_is_not_lost(
    client, load, models, scripted
):
    models.makers["new"] = lambda: scripted("new")
    await load("a")
    reached, may_go_on = threading.Event(), threading.Event()
    models.before_prepare = lambda _: (reached.set(), may_go_on.wait(10))
    reloading = asyncio.create_task(client.post("/admin/reload", json={"model_path": "new"}))
    assert await asyncio.to_thread(reached.wait, 10)
    models.before_prepare = lambda _: None
    loading = asyncio.create_task(load("b"))
    # Long enough for a load that does not wait for the reload.
    for _ in range(100):
        await client.get("/admin/status")
    may_go_on.set()
    assert [reply.status_code for reply in await asyncio.gather(reloading, loading)] == [200, 200]
    listed = (await client.get(ADAPTERS)).json()["adapters"]
    assert [each["name"] for each in listed] == ["a", "b"]


@pytest.fixture
def load_trained_with(client, adapters_dir):
    """Loads an adapter that was trained with a template of this hash."""

    async def load(name, template_hash):
        path = adapters_dir / f"{name}.gguf"
        answers = {"": "<think>\n\n</think>\n\nadapted", "template_hash": template_hash}
        path.write_text(json.dumps(answers), encoding="utf-8")
        return (await client.post(ADAPTERS, json={"name": name, "path": str(path)})).json()

    return load


async def test_an_adapter_of_another_template_is_warned_of_once(client, load_trained_with, caplog):
    for _ in range(2):
        made = await load_trained_with("poet", "0123456789ab")
        assert (made["template_hash"], made["template_fits"]) == ("0123456789ab", False)
    (listed,) = (await client.get(ADAPTERS)).json()["adapters"]
    assert listed["template_fits"] is False
    warnings = [each for each in caplog.records if each.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "0123456789ab" in warnings[0].getMessage()


async def test_an_adapter_of_the_served_template_is_not_warned_of(
    client, load_trained_with, caplog
):
    template_hash = client.state.serving.model.template.hash
    for given in (template_hash, template_hash[:7]):
        assert (await load_trained_with("poet", given))["template_fits"] is True
    assert not [each for each in caplog.records if each.levelname == "WARNING"]


async def test_an_adapter_without_a_template_hash_is_not_warned_of(load, caplog):
    made = (await load("poet")).json()
    assert (made["template_hash"], made["template_fits"]) == (None, None)
    assert not [each for each in caplog.records if each.levelname == "WARNING"]
