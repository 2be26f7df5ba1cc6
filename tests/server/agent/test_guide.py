"""The examples of the guide do what it says."""

import re
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.anyio
GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "agent.md"
STREAM, DECISIONS, OWN = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)


async def execute(example, url, **names):
    """Runs an example against a server; gives what it made."""
    source = example.replace("http://127.0.0.1:8000", url)
    exec(f"async def example():\n{textwrap.indent(source, '    ')}\n    return locals()", names)
    return await names["example"]()


async def test_a_thread_is_made_and_an_answer_streamed(server, sdk, capsys):
    made = await execute(STREAM, server.state.url)
    state = await sdk.threads.get_state(made["thread"]["thread_id"])
    assert capsys.readouterr().out == state["values"]["messages"][1]["content"] != ""
    await made["client"].aclose()


async def test_each_call_is_decided_on(server, sdk, say, connections):
    calls = [
        {"name": "files__delete", "args": {"path": f"/{name}"}, "id": name, "type": "tool_call"}
        for name in "abcd"
    ]
    asking = {"type": "ai", "content": "", "tool_calls": calls}
    thread_id = (await sdk.threads.create())["thread_id"]
    values = {"messages": [*say("tidy up")["messages"], asking]}
    await sdk.threads.update_state(thread_id, values, as_node="model")
    await sdk.runs.wait(thread_id, "agent")
    example = DECISIONS.replace("delete_file", "files__delete")
    await execute(example, server.state.url, client=sdk, thread_id=thread_id)
    assert [arguments["path"] for _, arguments in connections.calls] == ["/a", "/tmp/y"]
    messages = (await sdk.threads.get_state(thread_id))["values"]["messages"]
    texts = [each["content"] for each in messages if each["type"] == "tool"]
    assert "not that one" in texts[2]
    assert texts[3] == "done by hand"


async def test_an_agent_is_built_in_ones_own_program(url):
    made = await execute(OWN, url, lookup=lambda city: f"rain in {city}")
    assert made["state"]["messages"][-1].content == "I do not know."
