"""Asks a person before tools run, in the shape that LangChain's human-in-the-loop clients speak.

    {"action_requests": [{"name", "args", "description"}], "review_configs": [{…}]}
    {"decisions": [{"type": "approve"} | {"type": "edit", "edited_action": {"name", "args"}}
                   | {"type": "reject", "message"} | {"type": "respond", "message"}]}

One decision a request, in their order. Pure: the graph interrupts, this reads and writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.messages import ToolCall

from qwenkit.agent.tools.base import AgentTool
from qwenkit.errors import InvalidRequest

DECISIONS = ("approve", "edit", "reject", "respond")
_REJECTIONS = ("reject", "deny")


@dataclass(frozen=True, slots=True)
class Approved:
    """The call may run, as it is here."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class Answered:
    """The call does not run; this is what the model gets instead of a result."""

    call: ToolCall
    text: str
    decision: Literal["reject", "respond"]

    @property
    def is_error(self) -> bool:
        """Whether a result is missing, and not only given by a person."""
        return self.decision == "reject"


Verdict = Approved | Answered


def request(
    calls: Sequence[ToolCall], tools: Mapping[str, AgentTool], *, error: str = ""
) -> dict[str, Any]:
    """What to ask.

    Args:
        calls: What the model wants to call.
        tools: By name.
        error: What was wrong with the last answer.
    """
    asked: dict[str, Any] = {
        "action_requests": [
            {
                "name": call["name"],
                "args": call["args"],
                "description": _description(call, tools.get(call["name"])),
            }
            for call in calls
        ],
        "review_configs": [
            {"action_name": call["name"], "allowed_decisions": list(DECISIONS)} for call in calls
        ],
    }
    return {**asked, "error": error} if error else asked


def read_decisions(
    answer: Any, calls: Sequence[ToolCall], tools: Mapping[str, AgentTool]
) -> list[Verdict]:
    """What was decided on each call.

    Raises:
        InvalidRequest: The answer is none to this question.
    """
    decisions = answer.get("decisions") if isinstance(answer, Mapping) else answer
    if not isinstance(decisions, Sequence) or isinstance(decisions, str):
        raise InvalidRequest('an answer is {"decisions": [{"type": "approve"}, …]}')
    if len(decisions) != len(calls):
        raise InvalidRequest(
            f"there are {len(decisions)} decisions on {len(calls)} tool calls; each needs one"
        )
    return [_verdict(each, call, tools) for each, call in zip(decisions, calls, strict=True)]


def _verdict(decision: Any, call: ToolCall, tools: Mapping[str, AgentTool]) -> Verdict:
    kind = decision.get("type") if isinstance(decision, Mapping) else None
    if kind == "approve":
        return Approved(call)
    if kind == "edit":
        return Approved(_edited(decision, call, tools))
    message = decision.get("message") if isinstance(decision, Mapping) else None
    if message is not None and not isinstance(message, str):
        raise InvalidRequest("a decision's message must be a string")
    if kind in _REJECTIONS:
        return Answered(call, _rejection(call, message), "reject")
    if kind == "respond":
        return Answered(call, message or "", "respond")
    raise InvalidRequest(f"{kind!r} is no decision; there are {', '.join(DECISIONS)}")


def _edited(
    decision: Mapping[str, Any], call: ToolCall, tools: Mapping[str, AgentTool]
) -> ToolCall:
    action = decision.get("edited_action") or decision.get("action")
    if not isinstance(action, Mapping) or not isinstance(action.get("args"), Mapping):
        raise InvalidRequest('an edit needs {"edited_action": {"name": …, "args": {…}}}')
    name = action.get("name", call["name"])
    if name not in tools:
        raise InvalidRequest(f"there is no tool {name!r}")
    return ToolCall(name=name, args=dict(action["args"]), id=call["id"], type="tool_call")


def _rejection(call: ToolCall, reason: str | None) -> str:
    said = f" They said: {reason}" if reason else ""
    return (
        f"The user did not allow this call of {call['name']}; it was not run.{said} "
        "Don't call it again unless they ask for it."
    )


def _description(call: ToolCall, tool: AgentTool | None) -> str:
    origin = f" of {tool.origin}" if tool and tool.origin else ""
    arguments = json.dumps(call["args"], ensure_ascii=False, indent=2)
    about = f"\n\n{tool.description}" if tool and tool.description else ""
    return f"The tool {call['name']}{origin} needs approval.{about}\n\nArguments: {arguments}"
