"""The agent's graph: the model answers, its tools run, until it has nothing more to call.

    START ─▶ model ─┬─▶ END
               ▲    └─▶ tools ─┐
               └───────────────┘

A turn takes three checkpoints (its input, its start, the model), and two more for each round of
tools: clients take the checkpoints behind an edited or regenerated message from a short history.
Asking for approval is part of the tools' step and takes none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict

from qwenkit.agent import approval
from qwenkit.agent.approval import Answered, Approved, Verdict
from qwenkit.agent.chat_model import QwenChat
from qwenkit.agent.choices import MAX_STEPS, Choices, read_choices
from qwenkit.agent.tools.base import AgentTool, OnToolRan, Toolbox, ToolOutput, ToolRan
from qwenkit.errors import InvalidRequest, QwenkitError

NAME = "agent"
MODEL = "model"
TOOLS = "tools"
RECURSION_LIMIT = 2 * MAX_STEPS + 5
EVERY_TOOL = "*"
APPROVALS = "needs_approval"
"""Where a message notes which of its calls need approval."""
DECISION = "decision"
"""Where a tool's message notes that a person's `reject` or `respond` stands in place of a run."""


class AgentState(TypedDict):
    """What a thread holds."""

    messages: Annotated[list[AnyMessage], add_messages]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What holds for every run.

    Args:
        system_prompt: What the model is told before everything else, unless a run says otherwise.
        allowed: Names of tools that run without asking, beside those that say so themselves.
        max_steps: Most model calls of a turn; in the last one the model can call nothing.
    """

    system_prompt: str = ""
    allowed: Collection[str] = frozenset()
    max_steps: int = 25


Agent: TypeAlias = CompiledStateGraph[AgentState, None, AgentState, AgentState]


def make_graph(
    model: BaseChatModel,
    toolbox: Toolbox,
    rules: Rules,
    checkpointer: BaseCheckpointSaver[Any] | None,
    *,
    on_tool_ran: OnToolRan | None = None,
) -> Agent:
    """The graph over a model and tools, ready to run.

    Args:
        on_tool_ran: Told of every tool call that is over.
    """
    steps = _Steps(model, toolbox, rules, on_tool_ran)
    graph = StateGraph(AgentState)
    graph.add_node(MODEL, steps.model)
    graph.add_node(TOOLS, steps.tools)
    graph.add_edge(START, MODEL)
    graph.add_conditional_edges(MODEL, _after_model, [TOOLS, END])
    graph.add_edge(TOOLS, MODEL)
    compiled = graph.compile(checkpointer=checkpointer, name=NAME)
    return compiled.with_config(recursion_limit=RECURSION_LIMIT)


def _after_model(state: AgentState) -> str:
    last = state["messages"][-1]
    calls = isinstance(last, AIMessage) and (last.tool_calls or last.invalid_tool_calls)
    return TOOLS if calls else END


class _Steps:
    """The graph's nodes."""

    def __init__(
        self,
        model: BaseChatModel,
        toolbox: Toolbox,
        rules: Rules,
        on_tool_ran: OnToolRan | None = None,
    ) -> None:
        self._model = model
        self._toolbox = toolbox
        self._rules = rules
        self._on_tool_ran = on_tool_ran

    async def model(self, state: AgentState, config: RunnableConfig) -> dict[str, Any]:
        """Let the model answer."""
        choices = _choices(config)
        tools = self._offered(choices)
        messages = state["messages"]
        may_call = _n_answers(messages) + 1 < (choices.max_steps or self._rules.max_steps)
        bound = self._bound(tools, choices, may_call=may_call)
        answer = await bound.ainvoke([*self._system(choices), *messages], config)
        if not may_call:
            return {"messages": [_without_calls(answer)]}
        needing = [self._needs_approval(call, tools, choices) for call in answer.tool_calls]
        return {"messages": [_with_approvals(answer, needing)]}

    async def tools(self, state: AgentState, config: RunnableConfig) -> dict[str, Any]:
        """Run what the model called, where it is allowed."""
        last = state["messages"][-1]
        assert isinstance(last, AIMessage)  # noqa: S101 - the edge to here comes from the model
        choices = _choices(config)
        tools = self._offered(choices)
        verdicts = _judge(last, tools)
        asked = _approvals(last)
        results = await asyncio.gather(
            *(
                self._called(last.id or "", verdict, tools, asked=was_asked)
                for verdict, was_asked in zip(verdicts, asked, strict=True)
            )
        )
        broken = [_broken(call) for call in last.invalid_tool_calls]
        return {"messages": [*_as_run(last, verdicts), *results, *broken]}

    async def _called(
        self, answer_id: str, verdict: Verdict, tools: Mapping[str, AgentTool], *, asked: bool
    ) -> ToolMessage:
        began = time.perf_counter()
        output = await _output(verdict, tools)
        call = verdict.call
        if self._on_tool_ran is not None:
            ran = ToolRan(
                id=call["id"] or "",
                answer_id=answer_id,
                name=call["name"],
                arguments=call["args"],
                output=output,
                approved=isinstance(verdict, Approved) if asked else None,
                took_s=time.perf_counter() - began,
            )
            self._on_tool_ran(ran)
        return _tool_message(verdict, output)

    def _offered(self, choices: Choices) -> dict[str, AgentTool]:
        tools = self._toolbox.tools()
        if choices.tools is None:
            return tools
        return {name: tool for name, tool in tools.items() if name in choices.tools}

    def _bound(self, tools: Mapping[str, AgentTool], choices: Choices, *, may_call: bool) -> Any:
        functions = [tool.as_function() for tool in tools.values()]
        chosen = _as_arguments(choices) if isinstance(self._model, QwenChat) else {}
        if not functions:
            return self._model.bind(**chosen)
        # The tools stay in the prompt, where the steps before have them in the cache.
        choice = {} if may_call else {"tool_choice": "none"}
        return self._model.bind_tools(functions, **choice, **chosen)

    def _system(self, choices: Choices) -> list[SystemMessage]:
        prompt = choices.system_prompt
        prompt = self._rules.system_prompt if prompt is None else prompt
        return [SystemMessage(prompt)] if prompt else []

    def _needs_approval(
        self, call: ToolCall, tools: Mapping[str, AgentTool], choices: Choices
    ) -> bool:
        tool = tools.get(call["name"])
        allowed = {*choices.allowed_tools, *self._rules.allowed}
        return not (tool is None or tool.allowed or allowed & {call["name"], EVERY_TOOL})


def _judge(message: AIMessage, tools: Mapping[str, AgentTool]) -> list[Verdict]:
    """What becomes of each call; asks a person where that is needed.

    Nothing may run before it: a step that was interrupted begins anew. What is asked was settled
    when the model called: settings that changed meanwhile would give a decision to another call.
    """
    calls, needing = message.tool_calls, _approvals(message)
    asked = [call for call, needs in zip(calls, needing, strict=True) if needs]
    decided = iter(_ask(asked, tools) if asked else ())
    return [
        next(decided) if needs else Approved(call)
        for call, needs in zip(calls, needing, strict=True)
    ]


def _with_approvals(answer: AIMessage, needing: Sequence[bool]) -> AIMessage:
    """The answer with a note of which of its calls need approval; as it is if it has no calls."""
    if not needing:
        return answer
    noted = {**answer.response_metadata, APPROVALS: [*needing]}
    return answer.model_copy(update={"response_metadata": noted})


def _approvals(message: AIMessage) -> list[bool]:
    """Which calls need approval; all of them where somebody else than the model's step wrote it."""
    noted = message.response_metadata.get(APPROVALS)
    if isinstance(noted, list) and len(noted) == len(message.tool_calls):
        return [each is not False for each in noted]
    return [True for _ in message.tool_calls]


def _ask(calls: Sequence[ToolCall], tools: Mapping[str, AgentTool]) -> list[Verdict]:
    error = ""
    while True:
        answer = interrupt(approval.request(calls, tools, error=error))
        try:
            return approval.read_decisions(answer, calls, tools)
        except InvalidRequest as exc:
            # LangGraph keeps every answer that was given: a bad one must be asked past.
            error = exc.message


async def _output(verdict: Verdict, tools: Mapping[str, AgentTool]) -> ToolOutput:
    call = verdict.call
    if isinstance(verdict, Answered):
        return ToolOutput(verdict.text, is_error=verdict.is_error)
    if (tool := tools.get(call["name"])) is None:
        known = ", ".join(tools) or "none"
        return ToolOutput(f"there is no tool {call['name']}; there are: {known}", is_error=True)
    return await _run(tool, call["args"])


def _tool_message(verdict: Verdict, output: ToolOutput) -> ToolMessage:
    return ToolMessage(
        content=output.text,
        name=verdict.call["name"],
        tool_call_id=verdict.call["id"],
        status="error" if output.is_error else "success",
        artifact=output.artifact,
        additional_kwargs={DECISION: verdict.decision} if isinstance(verdict, Answered) else {},
    )


async def _run(tool: AgentTool, arguments: Mapping[str, Any]) -> ToolOutput:
    try:
        return await tool.run(arguments)
    except QwenkitError as exc:
        return ToolOutput(exc.message, is_error=True)
    except Exception as exc:  # foreign code: its failure is the model's to hear of
        return ToolOutput(f"{type(exc).__name__}: {exc}", is_error=True)


def _broken(call: Mapping[str, Any]) -> ToolMessage:
    return ToolMessage(
        content="the call was not run: its arguments are no JSON object",
        name=call.get("name") or "",
        tool_call_id=call.get("id") or "",
        status="error",
    )


def _as_run(message: AIMessage, verdicts: Sequence[Verdict]) -> list[AIMessage]:
    """The model's message with the calls as a person edited them; none where nobody did."""
    calls = [verdict.call for verdict in verdicts]
    if calls == message.tool_calls:
        return []
    edited = {"edited_tool_calls": [dict(call) for call in message.tool_calls]}
    return [
        message.model_copy(
            update={
                "tool_calls": calls,
                "additional_kwargs": message.additional_kwargs | edited,
            }
        )
    ]


def _choices(config: RunnableConfig) -> Choices:
    return read_choices(config.get("configurable") or {})


def _as_arguments(choices: Choices) -> dict[str, Any]:
    given = {
        "model": choices.model,
        "thinking": choices.thinking,
        "thinking_budget": choices.thinking_budget,
        "sampling": choices.sampling or None,
        "max_tokens": choices.max_tokens,
    }
    return {name: value for name, value in given.items() if value is not None}


def _n_answers(messages: Sequence[AnyMessage]) -> int:
    """Model calls of the current turn so far."""
    n_answers = 0
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            break
        n_answers += isinstance(message, AIMessage)
    return n_answers


def _without_calls(answer: AIMessage) -> AIMessage:
    return answer.model_copy(update={"tool_calls": [], "invalid_tool_calls": []})
