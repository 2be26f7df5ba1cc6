"""Puts an agent together from whatever answers, and whatever tools there are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from qwenkit.agent.answers import LocalAnswers, RemoteAnswers
from qwenkit.agent.tools.base import AgentTool, Toolbox, ToolSource
from qwenkit.agent.tools.calculator import calculator
from qwenkit.agent.tools.clock import clock
from qwenkit.agent.tools.mcp import mcp_tools
from qwenkit.chat.completion import ChatModel
from qwenkit.chat.remote import RemoteServer
from qwenkit.errors import InvalidRequest

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.tools import BaseTool
    from langgraph.checkpoint.base import BaseCheckpointSaver

    from qwenkit.agent.graph import Agent
    from qwenkit.mcp.client import McpConnections


def build_agent(
    model: BaseChatModel | ChatModel | str,
    *,
    model_name: str | None = None,
    api_key: str | None = None,
    tools: Sequence[AgentTool | BaseTool | Callable[..., Any]] = (),
    mcp: McpConnections | None = None,
    built_in: bool = True,
    allowed: Collection[str] = (),
    system_prompt: str = "",
    max_steps: int = 25,
    checkpointer: BaseCheckpointSaver[Any] | None = None,
) -> Agent:
    """An agent that calls tools, as a compiled LangGraph graph.

    Args:
        model: Who answers: a loaded model, the URL of an OpenAI-compatible server, or any chat
            model of LangChain's.
        model_name: The model to ask for at a URL; None takes the server's first.
        api_key: For the URL.
        tools: Tools of yours: `AgentTool`, LangChain's, or functions with docstrings.
        mcp: Connections to MCP servers, whose tools the agent has, too.
        built_in: Whether it has the clock and the calculator.
        allowed: Names of tools that run without asking; `*` is all of them.
        system_prompt: What the model is told before everything else.
        max_steps: Most model calls of a turn.
        checkpointer: Keeps threads; None keeps them in memory.

    Raises:
        InvalidSettings: The URL is none.
    """
    from langgraph.checkpoint.memory import InMemorySaver

    from qwenkit.agent.graph import Rules, make_graph

    own = [_as_tool(each) for each in tools]
    sources: list[ToolSource] = [lambda: own]
    if built_in:
        sources.append(built_in_tools)
    if mcp is not None:
        sources.append(mcp_tools(mcp))
    return make_graph(
        _as_model(model, model_name=model_name, api_key=api_key),
        Toolbox(sources),
        Rules(system_prompt=system_prompt, allowed=frozenset(allowed), max_steps=max_steps),
        checkpointer or InMemorySaver(),
    )


def built_in_tools() -> list[AgentTool]:
    """The tools that every agent has."""
    return [clock(), calculator()]


def _as_model(
    model: BaseChatModel | ChatModel | str, *, model_name: str | None, api_key: str | None
) -> BaseChatModel:
    from langchain_core.language_models import BaseChatModel

    from qwenkit.agent.chat_model import QwenChat

    if isinstance(model, BaseChatModel):
        return model
    if isinstance(model, str):
        return QwenChat(answers=RemoteAnswers(RemoteServer(model, api_key=api_key), model_name))
    return QwenChat(answers=LocalAnswers(model))


def _as_tool(given: AgentTool | BaseTool | Callable[..., Any]) -> AgentTool:
    from qwenkit.agent.tools.langchain import from_langchain

    if isinstance(given, AgentTool):
        return given
    if not callable(given) and not hasattr(given, "ainvoke"):
        raise InvalidRequest(f"{given!r} is no tool")
    return from_langchain(given)
