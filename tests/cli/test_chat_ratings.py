"""Rating answers in the terminal chat, of a model in this process and of a server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qwenkit.cli.chat.answer import Answer, CallSoFar
from qwenkit.cli.chat.commands import Rate, interpret
from qwenkit.cli.chat.rating import rating_of
from qwenkit.cli.chat.session import Session, Turn
from qwenkit.cli.chat.tools import DENIED, ChatTools, Ruling
from qwenkit.errors import UsageError
from qwenkit.feedback.reader import read_log
from qwenkit.feedback.records import Edit, Interaction, Rating

PROMPT = "> "
CTRL_D = "\x04"


def logged(folder: Path) -> tuple[list[Interaction], list[Rating]]:
    records = list(read_log(folder / "logs" / "feedback"))
    answers = [each for each in records if isinstance(each, Interaction)]
    return answers, [each for each in records if isinstance(each, Rating)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/good", Rate(thumb="up")),
        ("/good just right", Rate(thumb="up", comment="just right")),
        ("/bad", Rate(thumb="down")),
        ("/bad  wrong year ", Rate(thumb="down", comment="wrong year")),
        ("/rate 4", Rate(scale=4)),
        ("/rate 2 too long", Rate(scale=2, comment="too long")),
        ("/better In 1829.", Rate(better="In 1829.")),
        ("/undo-rating", Rate(retracted=True)),
    ],
)
def test_a_line_says_what_the_reader_thinks(line: str, said: Rate) -> None:
    assert interpret(Session(), line) == said


@pytest.mark.parametrize("line", ["/rate", "/rate 0", "/rate 6", "/rate good", "/rate 4.5"])
def test_a_rating_that_is_no_number_of_the_scale_is_refused(line: str) -> None:
    with pytest.raises(UsageError, match="1, the worst, to 5"):
        interpret(Session(), line)


def test_a_better_answer_needs_words() -> None:
    with pytest.raises(UsageError):
        interpret(Session(), "/better")


def test_a_rating_names_the_answer_and_the_conversation() -> None:
    rating = rating_of(Rate(better="In 1829.", comment="x"), Answer(id="chat-1"), "thread")

    assert (rating.answer_id, rating.thread_id, rating.source) == ("chat-1", "thread", "terminal")
    assert (rating.edited, rating.comment) == (Edit(content="In 1829."), "x")


def test_an_answer_that_nobody_keeps_cannot_be_rated() -> None:
    with pytest.raises(UsageError) as caught:
        rating_of(Rate(thumb="up"), Answer(), "thread")

    assert "LOG_ANSWERS" in caught.value.hint


def test_a_conversation_that_is_cleared_is_another_one_in_the_log() -> None:
    session = Session(turns=[Turn("one?", Answer())])
    before = session.thread_id

    session.clear()

    assert session.thread_id != before
    assert session.turns == []


class _OneTool:
    """A server with a tool that has to be asked for."""

    def tools(self) -> list[_Tool]:
        return [_Tool()]

    async def call(self, name: str, arguments: dict[str, Any]) -> _Result:
        return _Result(f"{name} got {arguments}")


@dataclass(frozen=True)
class _Tool:
    name: str = "search"
    server: str = "web"
    allowed: bool = False

    def as_function(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class _Result:
    text: str
    is_error: bool = False


@pytest.mark.parametrize(
    ("said", "result", "is_error", "approved"),
    [("yes", "search got {'q': 'x'}", False, True), ("no", DENIED, True, False)],
)
def test_a_run_of_a_tool_is_noted_with_what_the_reader_said(
    said, result, is_error: bool, approved: bool
) -> None:
    tools = ChatTools(_OneTool(), lambda call, server: said)
    call = CallSoFar("call-1", "search", '{"q": "x"}')

    (outcome,) = asyncio.run(tools.run([call], tools.rulings([call])))

    record = outcome.record("chat-1", "thread")
    assert (record.result, record.is_error, record.approved) == (result, is_error, approved)
    assert (record.id, record.name, record.arguments) == ("call-1", "search", '{"q": "x"}')
    assert (record.answer_id, record.thread_id) == ("chat-1", "thread")
    assert outcome.message()["content"] == result


def test_a_tool_that_was_always_allowed_is_not_asked_for_again() -> None:
    tools = ChatTools(_OneTool(), lambda call, server: "always")
    call = CallSoFar("call-1", "search", "{}")

    assert tools.rulings([call, call]) == [Ruling(approved=True), Ruling()]


def test_answers_of_this_process_are_kept_and_rated(terminal, tmp_path) -> None:
    shell = terminal("chat", "--no-think", "--max-tokens", "8", QWENKIT_HOME="home")
    shell.wait_for(PROMPT)
    shell.type("/good\r")
    shell.wait_for("no answer yet")
    shell.wait_for(PROMPT)
    for line, reply in (
        ("hello\r", "tokens"),
        ("/good well said\r", "noted"),
        ("/rate 5\r", "noted"),
        ("/undo-rating\r", "withdrawn"),
        ("/bad\r", "noted"),
        ("/clear\r", "empty"),
        ("hello\r", "tokens"),
    ):
        shell.type(line)
        shell.wait_for(reply)
        shell.wait_for(PROMPT)
    shell.type(CTRL_D)
    assert shell.wait_for_end() == 0

    answers, ratings = logged(tmp_path)
    first, second = answers
    assert first.source == "terminal"
    assert first.messages == ({"role": "user", "content": "hello"},)
    assert first.answer is not None
    assert first.options.max_tokens == 8
    assert first.thread_id != second.thread_id
    assert first.prompt_hash == second.prompt_hash
    assert [(each.thumb, each.scale, each.comment, each.retracted) for each in ratings] == [
        ("up", None, "well said", False),
        (None, 5, None, False),
        (None, None, None, True),
        ("down", None, None, False),
    ]
    assert {(each.answer_id, each.thread_id) for each in ratings} == {(first.id, first.thread_id)}


def test_one_answer_is_kept_too(qwenkit, tmp_path) -> None:
    done = qwenkit("chat", "--no-think", "--max-tokens", "4", "hello", QWENKIT_HOME="home")

    assert done.returncode == 0, done.stderr
    (answer,), _ = logged(tmp_path)
    assert answer.finish_reason in ("stop", "length")


def test_where_the_log_is_off_nothing_is_kept(qwenkit, tmp_path) -> None:
    done = qwenkit(
        "chat", "--no-think", "--max-tokens", "4", "hello", QWENKIT_HOME="home", LOG_ANSWERS="off"
    )

    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "logs").exists()


def test_a_servers_answer_is_rated_over_its_api(terminal, fake, tmp_path) -> None:
    fake.chunks = [{**fake.chunks[0], "id": "chatcmpl-7"}, *fake.chunks[1:]]
    shell = terminal("chat", "--url", fake.url)
    shell.wait_for(PROMPT)
    shell.type("hi\r")
    shell.wait_for("tokens")
    shell.wait_for(PROMPT)
    shell.type("/bad too short\r")
    shell.wait_for(PROMPT)
    shell.type(CTRL_D)
    assert shell.wait_for_end() == 0

    assert "metadata" not in fake.bodies[0]
    thread_id = fake.bodies[1].pop("thread_id")
    assert thread_id
    assert fake.bodies[1] == {
        "answer_id": "chatcmpl-7",
        "source": "terminal",
        "thumb": "down",
        "comment": "too short",
    }
    assert not (tmp_path / "logs").exists()
