"""The agent of one server, opened when it is first asked for. Knows how its parts fit together.

Nothing of LangGraph is imported and no database is made before that, so a server whose agent nobody
uses has no part of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from qwenkit.agent.build import built_in_tools
from qwenkit.agent.tools.base import AgentTool, Toolbox
from qwenkit.agent.tools.mcp import mcp_tools
from qwenkit.errors import EngineStopped
from qwenkit.mcp.client import McpConnections
from qwenkit.server.agent.assistants import Assistants
from qwenkit.server.agent.record import AgentRecord
from qwenkit.server.agent.records import Records
from qwenkit.server.agent.run_manager import RunManager
from qwenkit.server.agent.threads import refresh_thread
from qwenkit.server.recording import Recorder
from qwenkit.server.serving import Serving
from qwenkit.server.telemetry.tools import traced_tools

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from qwenkit.agent.database import Database
    from qwenkit.agent.graph import Agent


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPlan:
    """What the settings say of the agent.

    Args:
        database: A SQLite file, or the URL of a database.
        remote_url: The OpenAI-compatible server that answers; None is the served model.
        remote_key: For it.
        system_prompt: What the model is told before everything else.
        allowed_tools: Names of tools that run without asking.
        max_steps: Most model calls of a turn.
    """

    database: Path | str
    remote_url: str | None = None
    remote_key: str | None = None
    system_prompt: str = ""
    allowed_tools: Sequence[str] = ()
    max_steps: int = 25


@dataclass(frozen=True, slots=True)
class OpenAgent:
    """The agent, ready to run.

    Args:
        graph: Runs.
        database: Keeps checkpoints.
        records: Keeps rows.
        assistants: Presets of choices.
        runs: What runs.
        serving: The server's models.
    """

    graph: Agent
    database: Database
    records: Records
    assistants: Assistants
    runs: RunManager
    serving: Serving


class AgentService:
    """Opens the agent once, and closes it.

    Args:
        plan: What the settings say.
        serving: The server's models.
        connections: Tells the connections to MCP servers.
        recorder: Keeps what runs do.
    """

    def __init__(
        self,
        plan: AgentPlan,
        serving: Serving,
        connections: Callable[[], McpConnections],
        recorder: Recorder,
    ) -> None:
        self._plan = plan
        self._serving = serving
        self._connections = connections
        self._record = AgentRecord(recorder, serving.metrics.agent)
        self._stack = AsyncExitStack()
        self._turn = asyncio.Lock()
        self._agent: OpenAgent | None = None
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether it was asked for, so that its threads and runs are held here."""
        return self._agent is not None

    async def opened(self) -> OpenAgent:
        """The agent.

        Raises:
            MissingExtra: A package for its database is not installed.
            ServerError: Its database can't be opened.
            EngineStopped: The server is shutting down.
        """
        async with self._turn:
            if self._closed:
                raise EngineStopped("the server is shutting down")
            if self._agent is None:
                # Importing LangGraph takes a second or two, which other streams must not wait.
                await asyncio.to_thread(_import)
                async with AsyncExitStack() as stack:
                    self._agent = await self._open(stack)
                    self._stack = stack.pop_all()
        return self._agent

    def stop(self) -> None:
        """Take no more runs; those that run may end."""
        if self._agent is not None:
            self._agent.runs.stop()

    async def close(self) -> None:
        """End what still runs and close the database."""
        async with self._turn:
            self._closed = True
            if self._agent is not None:
                await self._agent.runs.close()
            await self._stack.aclose()

    async def _open(self, stack: AsyncExitStack) -> OpenAgent:
        from qwenkit.agent.database import open_database
        from qwenkit.agent.graph import Rules, make_graph

        database = await stack.enter_async_context(open_database(self._plan.database))
        rules = Rules(
            system_prompt=self._plan.system_prompt,
            allowed=frozenset(self._plan.allowed_tools),
            max_steps=self._plan.max_steps,
        )
        toolbox = Toolbox([traced_tools(built_in_tools), traced_tools(self._mcp_tools)])
        graph = make_graph(
            await self._model(stack),
            toolbox,
            rules,
            database.saver,
            on_tool_ran=self._record.tool_ran,
        )
        records = Records(database)
        await records.prepare()
        await _recover(graph, database, records)
        runs = RunManager(graph, database, records, self._serving.metrics.agent)
        return OpenAgent(
            graph, database, records, await Assistants.load(records), runs, self._serving
        )

    def _mcp_tools(self) -> Sequence[AgentTool]:
        return mcp_tools(self._connections())()

    async def _model(self, stack: AsyncExitStack) -> BaseChatModel:
        from qwenkit.agent.answers import RemoteAnswers
        from qwenkit.agent.chat_model import QwenChat
        from qwenkit.chat.remote import RemoteServer
        from qwenkit.server.agent.leased import LeasedAnswers
        from qwenkit.server.agent.remote_record import RecordedAnswers

        if self._plan.remote_url is None:
            return QwenChat(answers=LeasedAnswers(self._serving, self._record))
        server = RemoteServer(self._plan.remote_url, api_key=self._plan.remote_key)
        await stack.enter_async_context(server)
        return QwenChat(answers=RecordedAnswers(RemoteAnswers(server), self._record))


def _import() -> None:
    import qwenkit.agent.database
    import qwenkit.agent.graph  # noqa: F401


async def _recover(graph: Agent, database: Database, records: Records) -> None:
    """Write down what a server that was killed could not: threads are as their checkpoints say."""
    cut_off = await records.unfinished_runs()
    for run in cut_off:
        await records.end_run(run, "interrupted")
    busy = {run.thread_id for run in cut_off}
    for thread in await records.threads():
        if thread.config.get("temporary"):
            await database.saver.adelete_thread(thread.thread_id)
            await records.delete_thread(thread.thread_id)
        elif thread.status == "busy" or thread.thread_id in busy:
            await refresh_thread(graph, records, thread.thread_id)


async def _agent_of(request: Request) -> OpenAgent:
    service: AgentService = request.app.state.agent
    return await service.opened()


AgentNow = Annotated[OpenAgent, Depends(_agent_of)]
"""A dependency of routes: the server's agent."""
