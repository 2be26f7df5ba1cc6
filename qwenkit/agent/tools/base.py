"""A tool as the agent sees it, and the box that holds them all. Knows neither MCP nor LangChain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qwenkit.chat.messages import JsonValue


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What came of a tool call.

    Args:
        text: For the model.
        is_error: Whether the call failed; the text then says why.
        artifact: More for programs, as JSON; the model does not see it.
    """

    text: str
    is_error: bool = False
    artifact: JsonValue = None


Run = Callable[[Mapping[str, JsonValue]], Awaitable[ToolOutput]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTool:
    """A tool that the agent may call.

    Args:
        name: Unique among the agent's tools.
        description: What it does, for the model and for who approves.
        parameters: JSON schema of its arguments.
        run: Calls it. What it raises ends the call, not the run.
        allowed: Whether it runs without asking.
        origin: Where it comes from, for people; empty for the agent's own.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    run: Run
    allowed: bool = False
    origin: str = ""

    def as_function(self) -> dict[str, Any]:
        """As OpenAI's API has it."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": dict(self.parameters),
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRan:
    """A tool call of the agent's that is over, run or refused.

    Args:
        id: The call's.
        answer_id: The message that called.
        name: The tool's.
        arguments: As it was run with.
        output: What came of it.
        approved: What a person decided; None where nobody was asked.
        took_s: Seconds that it ran.
    """

    id: str
    answer_id: str
    name: str
    arguments: Mapping[str, JsonValue]
    output: ToolOutput
    approved: bool | None
    took_s: float


OnToolRan = Callable[[ToolRan], None]
ToolSource = Callable[[], Sequence[AgentTool]]
"""Tells the tools that there are now; asked anew with every step."""


class Toolbox:
    """Every tool of an agent, as they come and go.

    Args:
        sources: Asked in order; where two tools share a name, the first one has it.
    """

    def __init__(self, sources: Sequence[ToolSource]) -> None:
        self._sources = tuple(sources)

    def tools(self) -> dict[str, AgentTool]:
        """The tools that there are now, by name."""
        found: dict[str, AgentTool] = {}
        for source in self._sources:
            for tool in source():
                found.setdefault(tool.name, tool)
        return found
