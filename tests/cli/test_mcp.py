"""`qwenkit mcp` and the tools of `qwenkit chat`, as processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters

from qwenkit.cli.chat.answer import CallSoFar
from qwenkit.cli.chat.tools import ask_reader

PROGRAM = Path(__file__).parent.parent / "mcp" / "plain_server.py"
GOOD = {
    "command": sys.executable,
    "args": [str(PROGRAM)],
    "env": {"MOOD": "sunny"},
    "alwaysAllow": ["add"],
}
DEAD = {"command": "/no/such/program"}


@pytest.fixture
def config(tmp_path: Path):
    def write(**servers: Any) -> str:
        path = tmp_path / "mcp.json"
        path.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
        return str(path)

    return write


def call(tool: str, **arguments: Any) -> list[Any]:
    """The chunks of an answer that calls a tool."""
    function = {"name": tool, "arguments": json.dumps(arguments)}
    started = {"index": 0, "id": "call_1", "type": "function", "function": function}
    deltas = [{"role": "assistant", "content": ""}, {"tool_calls": [started]}, {}]
    finishes = [None, None, "tool_calls"]
    return [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        for delta, finish in zip(deltas, finishes, strict=True)
    ]


def test_tools_are_listed_by_server(qwenkit, config) -> None:
    done = qwenkit("mcp", "tools", MCP_CONFIG=config(good=GOOD))
    assert done.returncode == 0
    assert "good (plain-tools 1.2.3): connected" in done.stdout
    assert "Add two numbers." in done.stdout


def test_a_server_that_is_down_is_told_and_sets_the_exit_code(qwenkit, config) -> None:
    done = qwenkit("mcp", "tools", "--mcp-config", config(dead=DEAD, good=GOOD))
    assert done.returncode == 6
    assert "dead (/no/such/program): failed" in done.stdout
    assert "there is no program `/no/such/program`" in done.stderr
    assert "Add two numbers." in done.stdout


def test_the_list_as_json_has_everything(qwenkit, config) -> None:
    done = qwenkit("mcp", "tools", "--json", MCP_CONFIG=config(dead=DEAD, good=GOOD))
    dead, good = json.loads(done.stdout)
    assert (dead["state"], dead["tools"]) == ("failed", [])
    add = next(tool for tool in good["tools"] if tool["name"] == "add")
    assert add["allowed"]
    assert add["parameters"]["required"] == ["a", "b"]


def test_one_server_may_be_asked_for(qwenkit, config) -> None:
    path = config(dead=DEAD, good=GOOD)
    assert qwenkit("mcp", "tools", "--server", "good", MCP_CONFIG=path).returncode == 0
    assert qwenkit("mcp", "tools", "--server", "other", MCP_CONFIG=path).returncode == 2


def test_without_a_file_or_with_a_mistake_in_it_the_next_step_is_named(qwenkit, config) -> None:
    assert "MCP_CONFIG" in qwenkit("mcp", "tools").stderr
    done = qwenkit("mcp", "tools", MCP_CONFIG=config(bad={"args": []}))
    assert done.returncode == 2
    assert "mcpServers.bad" in done.stderr


def test_a_variable_may_stand_in_the_dotenv_file(qwenkit, config) -> None:
    server = GOOD | {"env": {"MOOD": "${FROM_DOTENV}"}}
    (qwenkit.folder / ".env").write_text("FROM_DOTENV=rainy\n", encoding="utf-8")
    done = qwenkit("mcp", "call", "variable", '{"name": "MOOD"}', MCP_CONFIG=config(good=server))
    assert (done.returncode, done.stdout) == (0, "rainy\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("add", '{"a": 1, "b": 2}'), 0),
        (("die",), 1),
        (("add", "[]"), 2),
        (("add", "{"), 2),
        (("nothing",), 2),
    ],
)
def test_a_tool_can_be_called(qwenkit, config, arguments, code) -> None:
    done = qwenkit("mcp", "call", *arguments, MCP_CONFIG=config(good=GOOD))
    assert done.returncode == code, done.stderr
    assert done.stdout == ("3\n" if code == 0 else "")


def test_a_chat_runs_what_is_allowed_and_goes_on(qwenkit, config, fake) -> None:
    fake.first = [call("add", a=20, b=3)]
    done = qwenkit("chat", "--url", fake.url, "20 + 3?", MCP_CONFIG=config(good=GOOD))
    assert done.returncode == 0
    assert done.stdout == "**Hello** there.\n\n- one\n- two\n"
    assert "✓ add: 23" in done.stderr
    offered, after = fake.bodies
    assert "add" in [tool["function"]["name"] for tool in offered["tools"]]
    *_, said, result = after["messages"]
    assert said["tool_calls"][0]["function"]["name"] == "add"
    assert result == {
        "role": "tool",
        "tool_call_id": "call_1",
        "name": "add",
        "content": "23",
    }


def test_where_nobody_can_be_asked_a_tool_that_is_not_allowed_does_not_run(
    qwenkit, config, fake
) -> None:
    fake.first = [call("variable", name="MOOD")]
    done = qwenkit("chat", "--json", "--url", fake.url, "mood?", MCP_CONFIG=config(good=GOOD))
    whole = json.loads(done.stdout)
    assert "sunny" not in json.dumps(fake.bodies[1])
    assert whole["rounds"][-1]["content"] == "the user did not allow this call"
    assert "alwaysAllow" in done.stderr


def test_a_model_that_calls_without_end_must_answer_at_last(qwenkit, config, fake) -> None:
    fake.chunks = call("add", a=1, b=1)
    qwenkit("chat", "--url", fake.url, "loop", MCP_CONFIG=config(good=GOOD))
    assert len(fake.bodies) == 17
    assert "tools" not in fake.bodies[-1]


def test_a_chat_can_do_without_tools(qwenkit, config, fake) -> None:
    path = config(good=GOOD)
    assert qwenkit("chat", "--no-tools", "--url", fake.url, "hi", MCP_CONFIG=path).returncode == 0
    assert "tools" not in fake.bodies[0]


def test_a_server_that_is_down_does_not_keep_anyone_from_chatting(qwenkit, config, fake) -> None:
    done = qwenkit("chat", "--url", fake.url, "hi", MCP_CONFIG=config(dead=DEAD))
    assert done.returncode == 0
    assert "dead can't be used" in done.stderr


def test_the_reader_says_no_then_yes_then_always(terminal, config, fake) -> None:
    look = call("variable", name="MOOD")
    fake.first = [look, [*fake.chunks], look, [*fake.chunks], look, [*fake.chunks], look]
    talk = terminal("chat", "--url", fake.url, MCP_CONFIG=config(good=GOOD))
    talk.wait_for("> ")
    for answer, outcome in (("n", ""), ("y", "✓ variable: sunny"), ("a", "✓ variable: sunny")):
        talk.type("mood?\n")
        talk.wait_for("Run it?")
        talk.type(f"{answer}\n")
        talk.wait_for(outcome)
        talk.wait_for("tokens")
        talk.wait_for("> ")
    talk.type("mood?\n")
    came = talk.wait_for("✓ variable: sunny")
    assert "Run it?" not in came
    talk.wait_for("> ")
    talk.type("/tools\n")
    talk.wait_for("variable of good\n")
    talk.wait_for("process of good, asks before it runs")
    told = [m["content"] for m in fake.bodies[1]["messages"] if m["role"] == "tool"]
    assert told == ["the user did not allow this call"]


def test_ctrl_c_at_the_question_stops_the_answer_and_keeps_the_chat(terminal, config, fake) -> None:
    fake.first = [call("variable", name="MOOD")]
    talk = terminal("chat", "--url", fake.url, MCP_CONFIG=config(good=GOOD))
    talk.wait_for("> ")
    talk.type("mood?\n")
    talk.wait_for("Run it?")
    talk.wait_for("(stopped here)", pressing="\x03")
    talk.wait_for("> ")
    talk.type("hi\n")
    talk.wait_for("tokens")
    assert len(fake.bodies) == 2


@pytest.mark.anyio
async def test_serve_offers_the_demo_model_over_stdio(tmp_path: Path) -> None:
    program = StdioServerParameters(
        command=sys.executable,
        args=["-m", "qwenkit", "mcp", "serve"],
        env={"QWENKIT_HOME": str(tmp_path)},
        cwd=tmp_path,
    )
    async with Client(program) as client:
        tools = [tool.name for tool in (await client.list_tools()).tools]
        short = {"question": "Hello!", "thinking": False, "max_tokens": 8, "temperature": 0}
        answer = await client.call_tool("ask", short)
        models = await client.call_tool("list_models", {})
    assert tools == [
        "ask",
        "list_models",
        "load_adapter",
        "search_feedback",
        "export_feedback",
    ]
    assert not answer.is_error, answer.content[0].text
    assert answer.structured_content["completion_tokens"] <= 8
    assert len(models.structured_content["models"]) == 1


@pytest.mark.anyio
async def test_serve_offers_another_servers_model(fake, tmp_path: Path) -> None:
    program = StdioServerParameters(
        command=sys.executable,
        args=["-m", "qwenkit", "mcp", "serve", "--url", fake.url],
        cwd=tmp_path,
    )
    async with Client(program) as client:
        answer = await client.call_tool("ask", {"question": "hi", "thinking": True})
        models = await client.call_tool("list_models", {})
    assert answer.content[0].text == "**Hello** there.\n\n- one\n- two"
    assert answer.structured_content["reasoning"] == "Let me think."
    assert models.structured_content["models"][0]["name"] == "fake"
    assert fake.bodies[0]["chat_template_kwargs"] == {"enable_thinking": True}


def test_the_reader_is_shown_what_will_be_sent(monkeypatch, capsys) -> None:
    monkeypatch.setattr("builtins.input", lambda _: "n")
    blanks = "\n" * 500
    written = f'{{"path": "/safe",{blanks}"path": "/etc"}}'
    assert ask_reader(CallSoFar("1", "read", written), "files") == "no"
    told = capsys.readouterr().err
    assert '{"path": "/etc"}' in told
    assert "/safe" not in told
    assert told.count("\n") == 1
