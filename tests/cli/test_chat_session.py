from __future__ import annotations

import json
from pathlib import Path

import pytest

from qwenkit.chat.events import (
    ChatDone,
    ChatFinish,
    ChoiceDelta,
    ChoiceDone,
    ReasoningDelta,
    TextDelta,
    Timings,
    ToolCallDelta,
    ToolCallStarted,
    Usage,
)
from qwenkit.cli.chat.answer import Answer
from qwenkit.cli.chat.commands import COMMANDS, Ask, Quit, Save, Say, SwitchModel, interpret
from qwenkit.cli.chat.session import AnswerOptions, Session, Turn
from qwenkit.errors import InvalidMessages, UsageError


def answer(text: str = "", *, reasoning: str = "", complete: bool = True) -> Answer:
    return Answer(reasoning, text, ending="stop" if complete else "interrupted")


@pytest.fixture
def session() -> Session:
    return Session(
        system="Be brief.",
        turns=[
            Turn("one?", answer("One.", reasoning="hm")),
            Turn("two?", answer("Tw", complete=False)),
        ],
    )


def test_a_question_comes_after_everything_that_was_said(session: Session) -> None:
    assert session.ask("three?") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one?"},
        {"role": "assistant", "content": "One."},
        {"role": "user", "content": "two?"},
        {"role": "assistant", "content": "Tw"},
        {"role": "user", "content": "three?"},
    ]


def test_a_question_that_is_no_text_is_refused_and_not_kept(session: Session) -> None:
    with pytest.raises(InvalidMessages):
        session.ask("half a pair: \udc80")
    assert len(session.turns) == 2


def test_an_answer_stopped_while_thinking_leaves_only_its_question() -> None:
    session = Session(turns=[Turn("why?", answer(reasoning="let me", complete=False))])
    assert session.messages() == [{"role": "user", "content": "why?"}]


def test_only_options_that_were_set_are_sent() -> None:
    assert AnswerOptions().as_request() == {}
    options = AnswerOptions(thinking=False, temperature=0.0, seed=0)
    assert options.as_request() == {
        "temperature": 0.0,
        "seed": 0,
        "chat_template_kwargs": {"enable_thinking": False},
    }


def test_an_answer_is_the_sum_of_its_events() -> None:
    whole = Answer()
    assert not whole.complete
    deltas = (
        ReasoningDelta("I "),
        ReasoningDelta("add."),
        TextDelta("4"),
        ToolCallStarted(0, "call_1", "add"),
        ToolCallDelta(0, '{"a":'),
        ToolCallDelta(0, "2}"),
    )
    for delta in deltas:
        whole.add(ChoiceDelta(0, (delta,)))
    whole.add(ChoiceDone(0, ChatFinish.TOOL_CALLS))
    whole.add(ChatDone(Usage(10, 4, 21, 5), Timings(0.5, 0.5, 10.0)))
    assert whole.as_json("m") == {
        "model": "m",
        "answer": "4",
        "reasoning": "I add.",
        "tool_calls": [{"id": "call_1", "name": "add", "arguments": '{"a":2}'}],
        "finish_reason": "tool_calls",
        "usage": {
            "prompt_tokens": 10,
            "cached_tokens": 4,
            "completion_tokens": 21,
            "reasoning_tokens": 5,
        },
        "tokens_per_s": 2.0,
        "first_token_s": 1.0,
    }
    assert "10 (4 cached) + 21 tokens" in whole.statistics()


def test_an_interrupted_answer_has_no_figures() -> None:
    assert answer("So far", complete=False).as_json("m")["usage"] is None
    assert answer("So far", complete=False).statistics() == ""


def test_what_is_no_command_is_a_question(session: Session) -> None:
    assert interpret(session, "why?") == Ask("why?")
    assert interpret(session, "//etc/hosts is what?") == Ask("/etc/hosts is what?")


def test_system_sets_shows_and_removes_the_system_message(session: Session) -> None:
    interpret(session, "/system Be   kind.")
    assert session.system == "Be   kind."
    assert interpret(session, "/system") == Say("Be   kind.")
    interpret(session, "/system -")
    assert session.system == ""


def test_think_and_no_think_switch_and_may_carry_a_question(session: Session) -> None:
    assert isinstance(interpret(session, "/no_think"), Say)
    assert session.options.thinking is False
    assert interpret(session, "/think why?") == Ask("why?")
    assert session.options.thinking is True


def test_clear_forgets_the_turns_and_keeps_the_system_message(session: Session) -> None:
    interpret(session, "/clear")
    assert session.messages() == [{"role": "system", "content": "Be brief."}]


def test_the_other_commands_say_what_to_do(session: Session) -> None:
    assert interpret(session, "/model") == SwitchModel("")
    assert interpret(session, "/model other") == SwitchModel("other")
    assert interpret(session, "/save talk.md") == Save(Path("talk.md"))
    assert interpret(session, "/quit") == Quit()


def test_help_names_every_command(session: Session) -> None:
    said = interpret(session, "/help")
    assert isinstance(said, Say)
    assert all(f"/{name}" in said.text for name in COMMANDS)


@pytest.mark.parametrize(
    ("line", "hint"), [("/sav x", "/save"), ("/zzzzz", "/help"), ("/save", "talk")]
)
def test_a_command_that_is_wrong_says_what_is_right(session: Session, line: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        interpret(session, line)
    assert hint in caught.value.hint


def test_a_conversation_is_saved_as_json_with_what_was_cut_off_marked(
    session: Session, tmp_path: Path
) -> None:
    session.save(tmp_path / "talk.json", model="m")
    saved = json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))
    assert (saved["model"], saved["system"]) == ("m", "Be brief.")
    assert [turn["answer"] for turn in saved["turns"]] == ["One.", "Tw"]
    assert [turn["finish_reason"] for turn in saved["turns"]] == ["stop", "interrupted"]


def test_a_conversation_is_saved_as_markdown(session: Session, tmp_path: Path) -> None:
    session.save(tmp_path / "talk.md", model="m")
    text = (tmp_path / "talk.md").read_text(encoding="utf-8")
    assert "## one?\n\n> hm\n\nOne.\n\n## two?\n\nTw\n\n*(stopped here)*\n" in text


def test_saving_replaces_its_own_file_but_no_other(session: Session, tmp_path: Path) -> None:
    mine, other = tmp_path / "mine.md", tmp_path / "other.md"
    other.write_text("precious", encoding="utf-8")
    session.save(mine, model="m")
    session.save(mine, model="m")
    with pytest.raises(UsageError):
        session.save(other, model="m")
    assert other.read_text(encoding="utf-8") == "precious"


def test_saving_where_nothing_can_be_written_is_refused(session: Session, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        session.save(tmp_path / "no" / "talk.md", model="m")
