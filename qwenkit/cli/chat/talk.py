"""One answer from question to statistics, and the loop of a person who asks many.

The loop owns the event loop and runs it for one answer at a time, so Ctrl-C cancels that answer
and reaches nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any, TypeAlias

from qwenkit.chat.events import ChatEvent
from qwenkit.cli import console
from qwenkit.cli.chat.answer import Answer
from qwenkit.cli.chat.commands import (
    COMMANDS,
    KEYS,
    Action,
    Ask,
    Quit,
    Save,
    Say,
    SwitchModel,
    interpret,
)
from qwenkit.cli.chat.input import ReadLine, read_message, terminal_reader
from qwenkit.cli.chat.render import Renderer, TerminalRenderer, show_event
from qwenkit.cli.chat.session import STOPPED, Session, Turn
from qwenkit.cli.chat.source import AnswerSource
from qwenkit.cli.failure import report
from qwenkit.errors import QwenkitError

OpenSource: TypeAlias = Callable[[], Coroutine[Any, Any, AnswerSource]]


async def receive(events: AsyncGenerator[ChatEvent, None], renderer: Renderer) -> Answer:
    """Take in an answer and show it as it comes. Cancelled, it returns what there is."""
    answer = Answer()
    with renderer.showing(), suppress(asyncio.CancelledError):
        async with aclosing(events):
            async for event in events:
                answer.add(event)
                show_event(renderer, event)
    return answer


class Talk:
    """A conversation at the terminal.

    Args:
        source: Who answers.
        session: What was said so far.
        runner: Runs one answer at a time.
    """

    def __init__(self, source: AnswerSource, session: Session, runner: asyncio.Runner) -> None:
        self._source = source
        self._session = session
        self._runner = runner

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
            case Quit():
                return False
        return True

    def _ask(self, question: str) -> None:
        messages = self._session.ask(question)
        events = self._source.answer(messages, self._session.options)
        answer = self._runner.run(receive(events, TerminalRenderer()))
        self._session.turns.append(Turn(question, answer))
        console.note(answer.statistics() if answer.complete else STOPPED)
        console.note("")

    def _switch(self, name: str) -> None:
        if name:
            self._runner.run(self._source.switch(name))
        console.note(f"{self._source.name}, {self._source.place}")


def talk(open_source: OpenSource, session: Session) -> None:
    """Talk at the terminal until the reader leaves."""
    with asyncio.Runner() as runner:
        source = runner.run(open_source())
        try:
            Talk(source, session, runner).run(terminal_reader(list(COMMANDS)))
        finally:
            runner.run(source.close())


async def ask_once(
    open_source: OpenSource, session: Session, question: str, renderer: Renderer
) -> tuple[Answer, str]:
    """Put one question; returns the answer and the name of the model that gave it."""
    messages = session.ask(question)
    source = await open_source()
    try:
        return await receive(source.answer(messages, session.options), renderer), source.name
    finally:
        await source.close()
