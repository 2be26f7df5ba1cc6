"""The tools that every agent has, and those of others."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from qwenkit.agent.tools.base import AgentTool, Toolbox, ToolOutput
from qwenkit.agent.tools.calculator import calculate, calculator
from qwenkit.agent.tools.clock import clock
from qwenkit.agent.tools.mcp import mcp_tools
from qwenkit.errors import InvalidRequest

pytestmark = pytest.mark.anyio
NOON = datetime(2026, 3, 14, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("17*23", 391),
        ("(3 + 4) * 2 ** 10 / sqrt(4)", 3584.0),
        ("2^10", 1024),
        ("-7 // 2", -4),
        ("7 % 3", 1),
        ("max(1, 2.5, -3)", 2.5),
        ("round(2.71828, 2)", 2.72),
        ("factorial(20)", 2432902008176640000),
        ("sin(pi / 2)", 1.0),
        ("1e3", 1000.0),
        ("2 ** -1", 0.5),
        ("log(e)", 1.0),
        ("-" * 490 + "1", 1),
        ("(" * 150 + "1" + ")" * 150, 1),
    ],
)
def test_arithmetic_has_its_value(expression, value):
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "1 +",
        "1 / 0",
        "9 ** 9 ** 9",
        "10 ** 5000",
        "1e308 * 10",
        "(-8) ** 0.5",
        "factorial(1000)",
        "factorial(-1)",
        "factorial(2.5)",
        "sqrt(-1)",
        "unknown",
        "True",
        "'a' * 3",
        "[1][0]",
        "(1).real",
        "__import__('os')",
        "open('x')",
        "(lambda: 1)()",
        "max(*[1, 2])",
        "round(1.5, ndigits=0)",
        "1 if 1 else 2",
        "x := 1",
        "1 < 2",
        "1" * 501,
        "\x00",
        "inf",
    ],
)
async def test_what_is_no_arithmetic_is_refused_and_never_run(expression):
    with pytest.raises(InvalidRequest):
        calculate(expression)
    assert (await calculator().run({"expression": expression})).is_error


async def test_the_clock_tells_day_and_time_in_any_zone():
    tool = clock(lambda: NOON)
    told = await tool.run({"timezone": "Asia/Tokyo"})
    assert told == ToolOutput("Saturday, 2026-03-14T21:00:00+09:00 (Asia/Tokyo)")
    assert "2026-03-1" in (await tool.run({})).text


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "../../etc/passwd", "/etc/passwd", "\x00", "a" * 999]
)
async def test_a_zone_that_is_none_is_an_error(zone):
    assert (await clock(lambda: NOON).run({"timezone": zone})).is_error


async def test_the_clock_and_the_calculator_run_without_asking():
    assert clock().allowed
    assert calculator().allowed


def named(name, text=""):
    async def run(arguments):
        return ToolOutput(text)

    return AgentTool(name=name, description=text, parameters={}, run=run)


def test_the_first_tool_of_a_name_has_it():
    box = Toolbox([lambda: [named("a", "first")], lambda: [named("a", "second"), named("b")]])
    assert list(box.tools()) == ["a", "b"]
    assert box.tools()["a"].description == "first"


def test_tools_come_and_go():
    tools = [named("a")]
    box = Toolbox([lambda: tools])
    assert list(box.tools()) == ["a"]
    tools.append(named("b"))
    assert list(box.tools()) == ["a", "b"]


class Connections:
    def __init__(self):
        self.calls = []

    def tools(self):
        schema = {"type": "object"}
        return [
            SimpleNamespace(
                server="files", name="read", description="Reads", parameters=schema, allowed=True
            )
        ]

    async def call(self, name, arguments, *, timeout_s=None):
        self.calls.append((name, arguments, timeout_s))
        return SimpleNamespace(text="no such file", structured=None, is_error=True)


async def test_a_tool_of_an_mcp_server_is_called_through_its_connection():
    connections = Connections()
    [tool] = mcp_tools(connections, timeout_s=3)()
    assert (tool.name, tool.origin, tool.allowed) == ("read", "files", True)
    assert tool.as_function()["function"]["parameters"] == {"type": "object"}
    assert await tool.run({"path": "x"}) == ToolOutput("no such file", is_error=True)
    assert connections.calls == [("read", {"path": "x"}, 3)]
