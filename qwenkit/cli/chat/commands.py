"""The commands of the terminal chat: `/system TEXT` and its like.

A command changes the session and gives back what to do next; nothing here prints or generates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, TypeAlias

from qwenkit.cli.chat.session import Session
from qwenkit.errors import UsageError


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the reader something."""

    text: str


@dataclass(frozen=True, slots=True)
class Ask:
    """Put a question to the model."""

    question: str


@dataclass(frozen=True, slots=True)
class SwitchModel:
    """Say which model answers, or take another; empty only asks."""

    name: str


@dataclass(frozen=True, slots=True)
class ListTools:
    """Say which tools the model has."""


@dataclass(frozen=True, slots=True)
class Save:
    """Write the conversation to a file."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Note what the reader thinks of the last answer.

    Args:
        thumb: Up or down.
        scale: 1 to 5.
        comment: In words.
        better: What it should have said.
        retracted: Whether all that was said of it is withdrawn.
    """

    thumb: Literal["up", "down"] | None = None
    scale: int | None = None
    comment: str | None = None
    better: str | None = None
    retracted: bool = False


@dataclass(frozen=True, slots=True)
class Quit:
    """End the program."""


Action: TypeAlias = Say | Ask | SwitchModel | ListTools | Save | Rate | Quit
Handler: TypeAlias = Callable[[Session, str], Action]


@dataclass(frozen=True, slots=True)
class Command:
    """A command, how it is written and what it does."""

    usage: str
    summary: str
    run: Handler


def interpret(session: Session, line: str) -> Action:
    """What a line asks for; changes the session where it is a command that does.

    Raises:
        UsageError: There is no such command, or it lacks something.
    """
    if not line.startswith("/"):
        return Ask(line)
    if line.startswith("//"):
        return Ask(line[1:])
    name, _, rest = line[1:].partition(" ")
    if name not in COMMANDS:
        raise UsageError(f"there is no command `/{name}`", hint=_suggestion(name))
    return COMMANDS[name].run(session, rest.strip())


def _suggestion(name: str) -> str:
    close = get_close_matches(name, COMMANDS, n=1)
    return f"/{close[0]}" if close else "/help lists them; // begins a message with a slash"


def _system(session: Session, text: str) -> Action:
    if not text:
        return Say(session.system or "no system message is set")
    session.system = "" if text == "-" else text
    return Say("system message removed" if text == "-" else "system message set")


def _thinking(*, wanted: bool) -> Handler:
    def switch(session: Session, question: str) -> Action:
        session.options = replace(session.options, thinking=wanted)
        if question:
            return Ask(question)
        return Say("answers begin with thinking" if wanted else "answers come without thinking")

    return switch


def _clear(session: Session, _: str) -> Action:
    session.clear()
    return Say("the conversation is empty; the system message stays")


def _save(_: Session, name: str) -> Action:
    if not name:
        raise UsageError("/save needs a file's name", hint="/save talk.md, or talk.json")
    return Save(Path(name).expanduser())


def _rate(_: Session, text: str) -> Action:
    number, __, comment = text.partition(" ")
    if number not in ("1", "2", "3", "4", "5"):
        raise UsageError("/rate needs a number from 1, the worst, to 5", hint="/rate 4 a bit long")
    return Rate(scale=int(number), comment=comment.strip() or None)


def _better(_: Session, text: str) -> Action:
    if not text:
        raise UsageError("/better needs the better answer", hint="/better It is 5,137 metres.")
    return Rate(better=text)


def _help(_: Session, __: str) -> Action:
    width = max(len(command.usage) for command in COMMANDS.values())
    lines = [f"{each.usage:<{width}}  {each.summary}" for each in COMMANDS.values()]
    return Say("\n".join([*lines, "", KEYS]))


KEYS = (
    "Enter sends. A line that ends in \\ goes on in the next; "
    '""" begins and ends several lines.\n'
    "Ctrl-C stops an answer, Ctrl-D leaves."
)

COMMANDS = {
    "system": Command(
        "/system [TEXT]", "set the system message, or show it; - removes it", _system
    ),
    "think": Command("/think [MESSAGE]", "think before answering", _thinking(wanted=True)),
    "no_think": Command("/no_think [MESSAGE]", "answer at once", _thinking(wanted=False)),
    "clear": Command("/clear", "forget the conversation", _clear),
    "save": Command("/save FILE", "write the conversation to a .md or .json file", _save),
    "model": Command(
        "/model [NAME]", "show the model, or take another", lambda _, name: SwitchModel(name)
    ),
    "tools": Command("/tools", "list the tools that the model has", lambda _, __: ListTools()),
    "good": Command(
        "/good [COMMENT]",
        "rate the last answer: good",
        lambda _, comment: Rate(thumb="up", comment=comment or None),
    ),
    "bad": Command(
        "/bad [COMMENT]",
        "rate the last answer: bad",
        lambda _, comment: Rate(thumb="down", comment=comment or None),
    ),
    "rate": Command("/rate N [COMMENT]", "rate the last answer from 1, the worst, to 5", _rate),
    "better": Command("/better TEXT", "say what the last answer should have been", _better),
    "undo-rating": Command(
        "/undo-rating",
        "withdraw all that was said of the last answer",
        lambda _, __: Rate(retracted=True),
    ),
    "help": Command("/help", "show this", _help),
    "quit": Command("/quit", "leave", lambda _, __: Quit()),
}
