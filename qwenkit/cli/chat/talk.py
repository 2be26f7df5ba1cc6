"""One answer from question to statistics, and the loop of a person who asks many.

The loop owns the event loop and runs it for one answer at a time, so Ctrl-C cancels that answer
and reaches nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from qwenkit.chat.events import ChatEvent
from qwenkit.cli import console
from qwenkit.cli.chat.answer import Answer
from qwenkit.cli.chat.commands import (
    COMMANDS,
    KEYS,
    Action,
    Ask,
    ListTools,
    Quit,
    Rate,
    Save,
    Say,
    SwitchModel,
    interpret,
)
from qwenkit.cli.chat.input import ReadLine, read_message, terminal_reader
from qwenkit.cli.chat.rating import rating_of
from qwenkit.cli.chat.render import Renderer, TerminalRenderer, show_event
from qwenkit.cli.chat.session import STOPPED, Session, Turn
from qwenkit.cli.chat.source import AnswerSource
from qwenkit.cli.failure import report
from qwenkit.errors import QwenkitError, UsageError

if TYPE_CHECKING:
    from qwenkit.cli.chat.tools import ChatTools
    from qwenkit.mcp.client import McpConnections

OpenSource: TypeAlias = Callable[[], Coroutine[Any, Any, AnswerSource]]
MakeRenderer: TypeAlias = Callable[[], Renderer]

MAX_ROUNDS = 16


async def receive(events: AsyncGenerator[ChatEvent, None], renderer: Renderer) -> Answer:
    """Take in an answer and show it as it comes. Cancelled, it returns what there is."""
    answer = Answer()
    with renderer.showing(), suppress(asyncio.CancelledError):
        async with aclosing(events):
            async for event in events:
                answer.add(event)
                show_event(renderer, event)
    return answer


class Exchange:
    """Puts questions to a source, and runs the tools that it calls.

    The reader is asked between two runs of the event loop, so Ctrl-C works there as anywhere.

    Args:
        source: Who answers.
        runner: Runs one thing at a time.
        tools: What may be called; None is nothing.
    """

    def __init__(
        self, source: AnswerSource, runner: asyncio.Runner, tools: ChatTools | None
    ) -> None:
        self._source = source
        self._runner = runner
        self._tools = tools

    def ask(self, session: Session, question: str, new_renderer: MakeRenderer) -> Turn:
        """Ask; the turn is not part of the session yet."""
        turn = Turn(question, Answer())
        messages = session.ask(question)
        for n_rounds in range(MAX_ROUNDS + 1):
            # Without tools in the last round, so that the model must answer with what it has.
            tools = self._tools if n_rounds < MAX_ROUNDS else None
            offered = [] if tools is None else tools.functions()
            events = self._source.answer(
                [*messages, *turn.rounds], session.options, offered, thread_id=session.thread_id
            )
            answer = self._runner.run(receive(events, new_renderer()))
            turn = replace(turn, answer=answer)
            if tools is None or not answer.calls or not answer.complete:
                break
            turn = self._with_results(turn, tools, session.thread_id)
            if not turn.answer.complete:
                break
        return turn

    def _with_results(self, turn: Turn, tools: ChatTools, thread_id: str) -> Turn:
        from qwenkit.cli.chat.tools import call_message

        answer = turn.answer
        try:
            rulings = tools.rulings(answer.calls)
            outcomes = self._runner.run(tools.run(answer.calls, rulings))
        except KeyboardInterrupt:
            answer.ending = "interrupted"
            return turn
        for outcome in outcomes:
            self._source.keep(outcome.record(answer.id, thread_id))
        said = call_message(answer.text, answer.reasoning, answer.calls)
        results = (outcome.message() for outcome in outcomes)
        return replace(turn, rounds=(*turn.rounds, said, *results))


class Talk:
    """A conversation at the terminal.

    Args:
        source: Who answers.
        session: What was said so far.
        runner: Runs one answer at a time.
        tools: What the model may call; None is nothing.
    """

    def __init__(
        self,
        source: AnswerSource,
        session: Session,
        runner: asyncio.Runner,
        tools: ChatTools | None = None,
    ) -> None:
        self._source = source
        self._session = session
        self._runner = runner
        self._tools = tools
        self._exchange = Exchange(source, runner, tools)

    def run(self, read_line: ReadLine) -> None:
        """Read and answer until the reader leaves."""
        console.note(f"{self._source.name}, {self._source.place}")
        console.note(f"{KEYS} /help lists the commands.\n")
        with suppress(EOFError):
            while self._step(read_line):
                pass

    def _step(self, read_line: ReadLine) -> bool:
        try:
            line = read_message(read_line)
            return not line or self._do(interpret(self._session, line))
        except KeyboardInterrupt:
            console.note("\n(Ctrl-D leaves)")
        except QwenkitError as exc:
            report(exc)
        return True

    def _do(self, action: Action) -> bool:
        match action:
            case Ask(question):
                self._ask(question)
            case Say(text):
                console.note(text)
            case Save(path):
                self._session.save(path, model=self._source.name)
                console.note(f"saved to {path}")
            case SwitchModel(name):
                self._switch(name)
            case Rate():
                self._rate(action)
            case ListTools():
                console.note(self._told_tools())
            case Quit():
                return False
        return True

    def _ask(self, question: str) -> None:
        turn = self._exchange.ask(self._session, question, TerminalRenderer)
        self._session.turns.append(turn)
        console.note(turn.answer.statistics() if turn.answer.complete else STOPPED)
        console.note("")

    def _rate(self, said: Rate) -> None:
        turns = self._session.turns
        if not turns:
            raise UsageError("there is no answer yet that could be rated", hint="ask something")
        self._runner.run(
            self._source.rate(rating_of(said, turns[-1].answer, self._session.thread_id))
        )
        console.note("the rating is withdrawn" if said.retracted else "noted, thank you")

    def _told_tools(self) -> str:
        if self._tools is None:
            return "the model has no tools: list MCP servers in the file of MCP_CONFIG"
        return "\n".join(self._tools.lines()) or "no MCP server is connected"

    def _switch(self, name: str) -> None:
        if name:
            self._runner.run(self._source.switch(name))
        console.note(f"{self._source.name}, {self._source.place}")


def talk(
    open_source: OpenSource, session: Session, connections: McpConnections | None = None
) -> None:
    """Talk at the terminal until the reader leaves.

    Args:
        connections: Where the model's tools are; None gives it none.
    """
    with asyncio.Runner() as runner, _tools(runner, connections) as tools:
        source = runner.run(open_source())
        try:
            Talk(source, session, runner, tools).run(terminal_reader(list(COMMANDS)))
        finally:
            runner.run(source.close())


def ask_once(
    open_source: OpenSource,
    session: Session,
    question: str,
    new_renderer: MakeRenderer,
    connections: McpConnections | None = None,
) -> tuple[Turn, str]:
    """Put one question; returns what came of it and the name of the model that answered."""
    session.ask(question)  # a question that can't be put is refused before anything is loaded
    with asyncio.Runner() as runner, _tools(runner, connections) as tools:
        source = runner.run(open_source())
        try:
            return Exchange(source, runner, tools).ask(session, question, new_renderer), source.name
        finally:
            runner.run(source.close())


@contextmanager
def _tools(
    runner: asyncio.Runner, connections: McpConnections | None
) -> Iterator[ChatTools | None]:
    if connections is None:
        yield None
        return
    from qwenkit.cli.chat.tools import ChatTools, ask_reader, refuse_reader

    try:
        runner.run(_enter(connections))
        for each in connections.status():
            if each.state == "failed":
                console.note(f"the MCP server {each.name} can't be used: {each.explained}")
        yield ChatTools(connections, ask_reader if console.on_terminal() else refuse_reader)
    finally:
        runner.run(connections.__aexit__(None, None, None))


async def _enter(connections: McpConnections) -> None:
    await connections.__aenter__()
    await connections.settled()
