"""Tools in the terminal chat: which there are, what may run, and what a person says to it.

An answer goes in rounds: the model calls, a person approves, the tools run, the model goes on. A
tool that the configuration allows runs without asking; so does one that got an `a` for always.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from qwenkit.chat.messages import JsonValue
from qwenkit.cli import console
from qwenkit.cli.chat.answer import CallSoFar
from qwenkit.feedback.records import ToolRun, now
from qwenkit.mcp.rounds import read_arguments

MAX_SHOWN = 2000
DENIED = "the user did not allow this call"

Verdict: TypeAlias = Literal["yes", "no", "always"]
Approve: TypeAlias = Callable[[CallSoFar, str], Verdict]
"""Asks a person whether a call may run; gets the call and the server that it goes to."""


class OfferedTool(Protocol):
    """What the chat needs to know of a tool (`qwenkit.mcp.client.McpTool`)."""

    @property
    def name(self) -> str:
        """What the model calls it."""

    @property
    def server(self) -> str:
        """The server that has it."""

    @property
    def allowed(self) -> bool:
        """Whether it runs without asking."""

    def as_function(self) -> dict[str, Any]:
        """As OpenAI's API has it."""


class Result(Protocol):
    """What a call came to (`qwenkit.mcp.client.ToolResult`)."""

    @property
    def text(self) -> str:
        """For the model."""

    @property
    def is_error(self) -> bool:
        """Whether it failed."""


class Connections(Protocol):
    """Where the tools are (`qwenkit.mcp.client.McpConnections`)."""

    def tools(self) -> Sequence[OfferedTool]:
        """Those of all connected servers, now."""

    async def call(self, name: str, arguments: dict[str, JsonValue]) -> Result:
        """Call one; a failure is a result that says what happened."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether a call may run.

    Args:
        refusal: What the model is told instead; empty where it may.
        approved: What the reader said; None where nobody was asked.
    """

    refusal: str = ""
    approved: bool | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call.

    Args:
        call: The call.
        text: What the model is told.
        is_error: Whether it failed, or was refused.
        approved: What the reader said; None where nobody was asked.
        began_at: When, as records have it.
        took_s: Seconds.
    """

    call: CallSoFar
    text: str
    is_error: bool
    approved: bool | None
    began_at: str
    took_s: float

    def message(self) -> dict[str, Any]:
        """As a message in OpenAI's form."""
        call = self.call
        return {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": self.text}

    def record(self, answer_id: str, thread_id: str) -> ToolRun:
        """As a record of the feedback log."""
        return ToolRun(
            id=self.call.id,
            created_at=self.began_at,
            name=self.call.name,
            arguments=self.call.arguments,
            result=self.text,
            is_error=self.is_error,
            duration_s=self.took_s,
            approved=self.approved,
            thread_id=thread_id,
            answer_id=answer_id or None,
        )


@dataclass(slots=True)
class ChatTools:
    """The tools of one chat, and what its reader has allowed so far.

    Args:
        connections: Where they are.
        approve: Asks the reader.
    """

    connections: Connections
    approve: Approve
    _always: set[str] = field(default_factory=set)

    def functions(self) -> list[dict[str, Any]]:
        """The tools that there are now, in OpenAI's form."""
        return [tool.as_function() for tool in self.connections.tools()]

    def lines(self) -> list[str]:
        """The tools that there are now, for a reader."""
        return [self._line(tool) for tool in self.connections.tools()]

    def rulings(self, calls: Sequence[CallSoFar]) -> list[Ruling]:
        """Which calls may run; asks the reader where that is needed."""
        return [self._ruling(call) for call in calls]

    async def run(self, calls: Sequence[CallSoFar], rulings: Sequence[Ruling]) -> list[Outcome]:
        """Run what is not refused; returns what came of the calls, in their order."""
        ruled = zip(calls, rulings, strict=True)
        return [await self._outcome(call, ruling) for call, ruling in ruled]

    async def _outcome(self, call: CallSoFar, ruling: Ruling) -> Outcome:
        began_at, began = now(), time.perf_counter()
        if ruling.refusal:
            return Outcome(call, ruling.refusal, True, ruling.approved, began_at, 0.0)
        result = await self.connections.call(call.name, read_arguments(call.arguments) or {})
        console.note(f"{'✗' if result.is_error else '✓'} {call.name}: {_shown(result.text)}")
        took_s = time.perf_counter() - began
        return Outcome(call, result.text, result.is_error, ruling.approved, began_at, took_s)

    def _line(self, tool: OfferedTool) -> str:
        asks = "" if self._is_allowed(tool) else ", asks before it runs"
        return f"{tool.name} of {tool.server}{asks}"

    def _is_allowed(self, tool: OfferedTool) -> bool:
        return tool.allowed or tool.name in self._always

    def _ruling(self, call: CallSoFar) -> Ruling:
        tool = next((each for each in self.connections.tools() if each.name == call.name), None)
        if tool is None:
            return Ruling(f"there is no tool {call.name!r}")
        if read_arguments(call.arguments) is None:
            return Ruling("the arguments are no JSON object")
        if self._is_allowed(tool):
            return Ruling()
        verdict = self.approve(call, tool.server)
        if verdict == "always":
            self._always.add(tool.name)
        return Ruling(DENIED, approved=False) if verdict == "no" else Ruling(approved=True)


def ask_reader(call: CallSoFar, server: str) -> Verdict:
    """Ask at the terminal; anything but a yes is a no.

    Shows what will be sent, not what the model wrote: that may repeat a name, or hide in blanks.
    """
    sent = json.dumps(read_arguments(call.arguments), ensure_ascii=False)
    console.note(f"{call.name} of {server} wants to run with {sent}")
    try:
        said = input("Run it? [y]es, [n]o, [a]lways in this chat: ").strip().lower()
    except EOFError:
        return "no"
    return "always" if said in ("a", "always") else "yes" if said in ("y", "yes") else "no"


def refuse_reader(call: CallSoFar, server: str) -> Verdict:
    """Say no where nobody can be asked, and say what would help."""
    console.note(
        f"{call.name} of {server} needs an approval, which nobody is here to give; "
        "list it under alwaysAllow in the file of MCP_CONFIG"
    )
    return "no"


def call_message(text: str, reasoning: str, calls: Sequence[CallSoFar]) -> dict[str, Any]:
    """What the model said and called, as a message in OpenAI's form."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text,
        "tool_calls": [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in calls
        ],
    }
    return message | ({"reasoning_content": reasoning} if reasoning else {})


def _shown(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + " …"
