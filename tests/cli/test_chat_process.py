"""The whole of `qwenkit chat` as a process, with a terminal and without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PROMPT = "> "
CTRL_C, CTRL_D = "\x03", "\x04"
SPOKEN = "**Hello** there.\n\n- one\n- two"


def test_the_answer_goes_to_stdout_and_everything_else_to_stderr(qwenkit, fake) -> None:
    done = qwenkit("chat", "--url", fake.url, "hi")
    assert (done.returncode, done.stdout) == (0, SPOKEN + "\n")
    assert "Let me think." in done.stderr
    assert "12 (4 cached) + 9 tokens" in done.stderr


def test_quiet_prints_the_answer_only(qwenkit, fake) -> None:
    done = qwenkit("chat", "--quiet", "--url", fake.url, "hi")
    assert (done.stdout, done.stderr) == (SPOKEN + "\n", "")


def test_what_is_piped_in_is_the_message(qwenkit, fake) -> None:
    qwenkit("chat", "--url", fake.url, piped="What is ö?\n")
    assert fake.bodies[0]["messages"] == [{"role": "user", "content": "What is ö?"}]


def test_a_dash_stands_for_what_is_piped_in(qwenkit, fake) -> None:
    qwenkit("chat", "--url", fake.url, "Sum up:", "-", piped="a long text\n")
    assert fake.bodies[0]["messages"][0]["content"] == "Sum up:\n\na long text"


def test_without_a_dash_what_is_piped_in_follows_the_message(qwenkit, fake) -> None:
    qwenkit("chat", "--url", fake.url, "Sum", "up:", piped="a long text\n")
    assert fake.bodies[0]["messages"][0]["content"] == "Sum up:\n\na long text"


def test_flags_become_fields_of_the_request(qwenkit, fake) -> None:
    flags = ["--system", "Be brief.", "--no-think", "--temperature", "0", "--seed", "7"]
    qwenkit("chat", "--url", fake.url, *flags, "--max-tokens", "5", "--top-p", "0.5", "hi")
    body = fake.bodies[0]
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["temperature"], body["top_p"], body["seed"]) == (0.0, 0.5, 7)
    assert body["max_tokens"] == 5
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


def test_the_server_may_be_named_by_the_environment(qwenkit, fake) -> None:
    assert qwenkit("chat", "hi", OPENAI_API_BASE_URL=fake.url).returncode == 0


def test_json_is_one_object_on_stdout_and_nothing_on_stderr(qwenkit, fake) -> None:
    done = qwenkit("chat", "--json", "--url", fake.url, "hi")
    whole = json.loads(done.stdout)
    assert done.stderr == ""
    assert (whole["model"], whole["answer"]) == ("fake", SPOKEN)
    assert whole["reasoning"] == "Let me think."
    assert whole["finish_reason"] == "stop"
    assert whole["usage"]["completion_tokens"] == 9


def test_jsonl_is_an_object_a_piece_and_the_whole_at_the_end(qwenkit, fake) -> None:
    done = qwenkit("chat", "--jsonl", "--url", fake.url, "hi")
    *pieces, whole = map(json.loads, done.stdout.splitlines())
    assert "".join(piece.get("text", "") for piece in pieces) == SPOKEN
    assert "".join(piece.get("reasoning", "") for piece in pieces) == "Let me think."
    assert whole["answer"] == SPOKEN


@pytest.mark.parametrize("message", [b"", b" \n", b"\xff\xfe"])
def test_a_message_that_is_none_ends_with_exit_code_2(qwenkit, fake, message: bytes) -> None:
    done = qwenkit("chat", "--url", fake.url, piped=message)
    assert (done.returncode, done.stdout, fake.bodies) == (2, "", [])
    assert done.stderr.startswith("error: ")


def test_a_server_that_is_not_there_ends_with_exit_code_6_and_a_hint(qwenkit) -> None:
    done = qwenkit("chat", "--url", "http://127.0.0.1:1", "hi")
    error, hint = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (6, "")
    assert "`http://127.0.0.1:1/v1`" in error
    assert "`qwenkit serve`" in hint


def test_a_refused_key_ends_with_exit_code_6_and_a_hint(qwenkit, fake) -> None:
    fake.needs_key = True
    done = qwenkit("chat", "--url", fake.url, "hi")
    assert done.returncode == 6
    assert "OPENAI_API_KEY" in done.stderr
    assert qwenkit("chat", "--url", fake.url, "hi", OPENAI_API_KEY="correct").returncode == 0


def test_an_answer_that_breaks_off_is_shown_as_far_as_it_came_and_fails(qwenkit, fake) -> None:
    fake.chunks, fake.ends_properly = fake.chunks[:4], False
    done = qwenkit("chat", "--url", fake.url, "hi")
    assert done.returncode == 6
    assert "**Hello** " in done.stdout


def test_a_person_talks_turn_after_turn(terminal, fake) -> None:
    shell = terminal("chat", "--url", fake.url)
    shell.wait_for(PROMPT)
    shell.type("first\r")
    shell.wait_for("12 (4 cached) + 9 tokens")
    shell.wait_for(PROMPT)
    shell.type("second\r")
    shell.wait_for("tokens")
    shell.wait_for(PROMPT)
    shell.type(CTRL_D)
    assert shell.wait_for_end() == 0
    assert [message["content"] for message in fake.bodies[1]["messages"]] == [
        "first",
        SPOKEN,
        "second",
    ]


def test_a_terminal_shows_markdown_formed_and_reasoning_dim(terminal, fake) -> None:
    shell = terminal("chat", "--url", fake.url, "hi")
    assert shell.wait_for_end() == 0
    assert "**" not in shell.text
    assert "Hello there." in shell.text
    assert "• one" in shell.text
    assert b"\x1b[2mLet me think." in shell.raw


def test_no_color_is_honoured(terminal, fake) -> None:
    fake.chunks = [
        {"choices": [{"delta": {"content": "`code` [link](http://x)"}}]},
        *fake.chunks[-2:],
    ]
    plain = terminal("chat", "--url", fake.url, "hi", NO_COLOR="1")
    coloured = terminal("chat", "--url", fake.url, "hi")
    assert (plain.wait_for_end(), coloured.wait_for_end()) == (0, 0)
    assert has_colour(coloured.raw)
    assert not has_colour(plain.raw)


def has_colour(raw: bytes) -> bool:
    codes = {
        code for part in raw.split(b"\x1b[")[1:] for code in part.partition(b"m")[0].split(b";")
    }
    return any(code.isdigit() and 30 <= int(code) <= 107 for code in codes)


def test_a_model_can_not_steer_the_terminal(terminal, fake) -> None:
    fake.chunks = [
        {"choices": [{"delta": {"content": "a\x1b]0;owned\x07b \x1b[2Jc"}}]},
        *fake.chunks[-2:],
    ]
    shell = terminal("chat", "--url", fake.url, "hi")
    assert shell.wait_for_end() == 0
    assert b"\x1b]0;" not in shell.raw
    assert b"\x1b[2J" not in shell.raw


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal, fake) -> None:
    fake.hold_after = 4
    shell = terminal("chat", "--url", fake.url)
    shell.wait_for(PROMPT)
    shell.type("first\r")
    shell.wait_for("Hello")
    shell.type(CTRL_C)
    shell.wait_for("(stopped here)")
    assert fake.client_left.wait(30)
    shell.wait_for(PROMPT)
    fake.hold_after = None
    shell.type("second\r")
    shell.wait_for("tokens")
    assert [message["content"] for message in fake.bodies[1]["messages"]] == [
        "first",
        "**Hello** ",
        "second",
    ]


def test_ctrl_c_at_the_prompt_keeps_the_program(terminal, fake) -> None:
    shell = terminal("chat", "--url", fake.url)
    shell.wait_for(PROMPT)
    shell.type("half a quest")
    shell.wait_for("half a quest")
    # Python's readline misses a signal that comes just before it waits for a key.
    shell.type(CTRL_C)
    shell.wait_for("Ctrl-D leaves", pressing=CTRL_C)
    shell.wait_for(PROMPT)
    shell.type("/quit\r")
    assert shell.wait_for_end() == 0
    assert fake.bodies == []


def test_ctrl_c_ends_a_single_answer_with_exit_code_130(terminal, fake) -> None:
    fake.hold_after = 4
    shell = terminal("chat", "--url", fake.url, "hi")
    shell.wait_for("Hello")
    shell.type(CTRL_C)
    assert shell.wait_for_end() == 130


def test_an_error_ends_the_answer_and_not_the_program(terminal, fake) -> None:
    shell = terminal("chat", "--url", fake.url)
    shell.wait_for(PROMPT)
    fake.chunks = [{"error": {"message": "too hot"}}]
    shell.type("first\r")
    shell.wait_for("too hot")
    shell.wait_for(PROMPT)
    shell.type("/sav x\r")
    shell.wait_for("hint: /save")
    shell.wait_for(PROMPT)
    shell.type(CTRL_D)
    assert shell.wait_for_end() == 0


def test_commands_work_at_the_prompt(terminal, fake, tmp_path: Path) -> None:
    fake.models = ["small", "large"]
    shell = terminal("chat", "--url", fake.url, "--model", "small")
    for line, shown in {
        "/system Be brief.": "set",
        "/no_think": "without thinking",
        "/model large": "large, http",
        "one \\\rtwo": "tokens",
        "/save talk.json": "saved",
        "/help": "/no_think [MESSAGE]",
    }.items():
        shell.wait_for(PROMPT)
        shell.type(line + "\r")
        shell.wait_for(shown)
    body = fake.bodies[0]
    assert body["model"] == "large"
    assert [message["content"] for message in body["messages"]] == ["Be brief.", "one \ntwo"]
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    saved = json.loads((tmp_path / "talk.json").read_text(encoding="utf-8"))
    assert saved["turns"][0]["answer"] == SPOKEN


def test_json_without_a_message_is_refused_at_a_terminal(terminal, fake) -> None:
    shell = terminal("chat", "--json", "--url", fake.url)
    shell.wait_for("error: --json needs a message")
    assert shell.wait_for_end() == 2
