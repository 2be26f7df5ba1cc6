"""Which model answers a run, also when it is replaced in between."""

import asyncio
import threading

import httpx
import pytest

pytestmark = pytest.mark.anyio


@pytest.fixture
def ask(say):
    async def ask(sdk, text, **context):
        state = await sdk.runs.wait(None, "agent", input=say(text), context=context)
        return state["messages"][-1]

    return ask


async def test_a_run_can_choose_an_adapter(live, connected, ask, write_adapter, adapters_dir):
    write_adapter("pirate", "Ahoy!")
    async with connected(live(lora_paths=str(adapters_dir))) as sdk:
        assert (await ask(sdk, "hello"))["content"] == "Hello there!"
        answer = await ask(sdk, "hello", model="pirate")
        assert answer["content"] == "Ahoy!"
        assert answer["response_metadata"]["model_name"] == "pirate"
        with pytest.raises(Exception, match="UnknownModel"):
            await ask(sdk, "hello", model="nobody")


async def test_a_run_can_choose_whether_to_think_and_how_to_sample(sdk, ask):
    assert (await ask(sdk, "hello"))["additional_kwargs"]["reasoning_content"] == "A greeting."
    assert "reasoning_content" not in (await ask(sdk, "hello", thinking=False))["additional_kwargs"]
    cut = await ask(sdk, "hello", max_tokens=2)
    assert cut["response_metadata"]["finish_reason"] == "length"
    await ask(sdk, "hello", temperature=0, top_k=1, seed=7)


async def test_what_the_model_is_told_first_comes_from_the_run_or_the_settings(
    live, connected, ask
):
    async with connected(live(agent_system_prompt="encore")) as sdk:
        assert (await ask(sdk, "x", tools=[]))["content"] == "Once more."
        assert (await ask(sdk, "x", tools=[], system_prompt="edited"))["content"] == "An edit."


@pytest.fixture
def swapping(live, models, backend, scripted):
    """A server of the model `old`, which can be replaced by `new`."""
    models.makers = {"old": lambda: backend, "new": lambda: scripted("from the new model")}
    return live(models=models, model_path="old")


async def reload(app, **body):
    async with httpx.AsyncClient(base_url=app.state.url, timeout=30) as client:
        reply = await client.post("/admin/reload", json={"model_path": "new", **body})
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("mode", ["drain", "side_by_side"])
async def test_a_run_that_waits_for_approval_holds_no_model_and_goes_on_with_the_new_one(
    swapping, connected, say, mode
):
    async with connected(swapping) as sdk:
        thread_id = (await sdk.threads.create())["thread_id"]
        await sdk.runs.wait(thread_id, "agent", input=say("delete"))
        await reload(swapping, mode=mode)
        state = await sdk.runs.wait(
            thread_id, "agent", command={"resume": {"decisions": [{"type": "approve"}]}}
        )
    assert state["messages"][-1]["content"] == "from the new model"


async def test_an_answer_is_finished_by_the_model_that_began_it(swapping, connected, say, backend):
    async with connected(swapping) as sdk:
        thread_id = (await sdk.threads.create())["thread_id"]
        backend.hold()
        run = await sdk.runs.create(thread_id, "agent", input=say("hello"))
        assert await asyncio.to_thread(backend.wait_until_held)
        await reload(swapping, mode="side_by_side")
        backend.release()
        state = await sdk.runs.join(thread_id, run["run_id"])
        assert state["messages"][-1]["content"] == "Hello there!"
        state = await sdk.runs.wait(thread_id, "agent", input=say("hello"))
        assert state["messages"][-1]["content"] == "from the new model"


async def test_a_run_waits_at_the_door_while_the_model_is_replaced(
    swapping, connected, say, models
):
    loading, may_load = threading.Event(), threading.Event()
    async with connected(swapping) as sdk:
        await sdk.runs.wait(None, "agent", input=say("hello"))
        models.before_load = lambda spec: (loading.set(), may_load.wait(10))
        reloading = asyncio.create_task(reload(swapping, mode="drain"))
        assert await asyncio.to_thread(loading.wait, 10)
        waiting = asyncio.create_task(sdk.runs.wait(None, "agent", input=say("hello")))
        while not swapping.state.serving.n_waiting:
            await asyncio.sleep(0.01)
        may_load.set()
        await reloading
        assert (await waiting)["messages"][-1]["content"] == "from the new model"


async def test_without_a_model_a_run_ends_with_an_error(make_app, run, say):
    may_load = threading.Event()
    app = make_app(before_load=lambda: may_load.wait(10))
    async with run(app, wait=False) as client:
        body = {"assistant_id": "agent", "input": say("hello")}
        reply = await client.post("/agent/runs/wait", json=body)
        may_load.set()
    assert reply.json()["__error__"]["error"] == "NotReady"


async def test_an_agent_of_ones_own_can_use_the_server(url):
    from qwenkit.agent import build_agent

    agent = build_agent(url)
    config = {"configurable": {"thread_id": "1", "temperature": 0}}
    state = await agent.ainvoke({"messages": [("user", "hello")]}, config)
    answer = state["messages"][-1]
    assert answer.content == "Hello there!"
    assert answer.additional_kwargs["reasoning_content"] == "A greeting."


async def test_answers_can_come_from_another_server(live, connected, say, url):
    app = live(openai_api_base_url=url)
    async with connected(app) as sdk:
        state = await sdk.runs.wait(None, "agent", input=say("hello"))
    answer = state["messages"][-1]
    assert answer["content"] == "Hello there!"
    assert answer["additional_kwargs"]["reasoning_content"] == "A greeting."
    assert answer["response_metadata"]["model_name"] == "scripted"
