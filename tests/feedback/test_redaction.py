"""What is taken out of records, and what stays."""

from __future__ import annotations

import json
import time

import pytest

from qwenkit.errors import InvalidSettings
from qwenkit.feedback.patterns import BUILT_IN
from qwenkit.feedback.records import (
    AdapterUsed,
    AnswerText,
    Call,
    Edit,
    RequestOptions,
    encode,
)
from qwenkit.feedback.redaction import redactor

EVERY = tuple(BUILT_IN)


@pytest.mark.parametrize(
    ("name", "text", "redacted"),
    [
        ("email", "write to ada.l+x@mail.example.co.uk.", "write to [email]."),
        ("email", "用户@例子.公司 said", "[email] said"),
        ("email", "a@b and @ada stay", "a@b and @ada stay"),
        ("phone", "call +44 20 7946 0958!", "call [phone]!"),
        ("phone", "call (555) 123-4567 or 555-123-4567", "call [phone] or [phone]"),
        ("phone", "手机13812345678", "手机13812345678"),
        ("phone", "手机 13812345678。", "手机 [phone]。"),
        ("phone", "Tel. 030 901820, 0171/1234567", "Tel. [phone], [phone]"),
        (
            "phone",
            "on 01/12/2026, 05-2026, 08-15 and 020 7946 0958",
            "on 01/12/2026, 05-2026, 08-15 and [phone]",
        ),
        ("phone", "in 2026-11-25 it took 1234567 steps, 3.14159", None),
        ("card", "4111 1111 1111 1111 and 4111111111111111", "[card] and [card]"),
        ("card", "4111 1111 1111 1112", None),
        ("ip", "from 192.168.0.17:8080 and 2001:db8::8a2e:370:7334", "from [ip]:8080 and [ip]"),
        ("ip", "version 1.2.3, at 12:30:45, std::vector, dead::beef, 300.1.1.1", None),
        ("secret", "key sk-proj-abcdefghijklmnop1234", "key [secret]"),
        ("secret", "AKIAIOSFODNN7EXAMPLE", "[secret]"),
        ("secret", "ghp_0123456789abcdefghijABCDEFGHIJ012345", "[secret]"),
        ("secret", "Authorization: Bearer abc.def-123456", "Authorization: Bearer [secret]"),
        ("secret", "postgresql://ada:hunter22@db/x", "postgresql://ada:[secret]@db/x"),
        ("secret", "PASSWORD = 'correct-horse'", "PASSWORD = '[secret]'"),
        ("secret", '{"api_key": "abcdef123456"}', '{"api_key": "[secret]"}'),
        (
            "secret",
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nok",
            "[secret]\nok",
        ),
        ("secret", "-----BEGIN PRIVATE KEY-----\ncut off", "[secret]"),
        ("secret", "max_tokens: 4096, the secret of tokens", None),
    ],
)
def test_a_built_in_pattern_takes_out(name: str, text: str, redacted: str | None) -> None:
    assert redactor([name]).text(text) == (text if redacted is None else redacted)


ADDRESS = "ada@example.org"


def test_all_text_of_an_answer_is_covered(interaction) -> None:
    holds = interaction(
        user=ADDRESS,
        messages=(
            {"role": "user", "content": f"I am {ADDRESS}", "name": ADDRESS},
            {"role": "user", "content": [{"type": "text", "text": ADDRESS}]},
            {"role": "assistant", "content": "", "reasoning_content": ADDRESS},
        ),
        prompt=ADDRESS,
        tools=({"type": "function", "function": {"description": ADDRESS, ADDRESS: 1}},),
        options=RequestOptions(
            stop=(ADDRESS,),
            tool_choice={"name": ADDRESS},
            response_format={"description": ADDRESS},
            template_kwargs={"x": ADDRESS},
        ),
        answer=AnswerText(
            content=ADDRESS,
            reasoning_content=ADDRESS,
            tool_calls=(Call(id="c", name="mail", arguments=json.dumps({"to": ADDRESS})),),
        ),
    )

    line = encode(redactor(["email"])(holds))

    assert ADDRESS not in line
    assert line.count("[email]") == 14


def test_all_text_of_a_rating_and_of_a_tools_run_is_covered(rating, tool_run) -> None:
    redact = redactor(["email"])
    said = rating(
        rater=ADDRESS,
        comment=ADDRESS,
        edited=Edit(content=ADDRESS, reasoning_content=ADDRESS),
    )
    ran = tool_run(arguments=json.dumps({"to": ADDRESS}), result=ADDRESS)

    assert ADDRESS not in encode(redact(said))
    assert ADDRESS not in encode(redact(ran))


def test_what_tells_records_apart_stays(interaction, rating) -> None:
    digits = "4111111111111111"
    redact = redactor(EVERY)
    one = interaction(
        digits,
        thread_id=digits,
        parent_id=digits,
        request_id=digits,
        prompt_hash=digits,
        adapter=AdapterUsed(name=digits, version=digits),
        messages=None,
        answer=None,
    )

    assert redact(one) == one
    assert redact(rating(digits, digits, external_id=digits)).external_id == digits


def test_names_stay_different_where_they_are_taken_out() -> None:
    redact = redactor(["email"])

    ada = redact.name(ADDRESS)
    assert ada.startswith("person-")
    assert ada == redact.name(ADDRESS)
    assert ada != redact.name("bob@example.org")
    assert redact.name("ada") == "ada"


def test_arguments_stay_json_whatever_is_taken_out(tool_run) -> None:
    arguments = '{"card": 4111111111111111, "n": 7, "ok": true, "x": ["4111111111111111"]}'

    ran = redactor(EVERY)(tool_run(arguments=arguments))

    assert json.loads(ran.arguments) == {"card": "[card]", "n": 7, "ok": True, "x": ["[card]"]}


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ('{"password": "hunter22-hunter22"}', {"password": "[secret]"}),
        ('{"password": 1234567, "n": 1234567}', {"password": "[secret]", "n": 1234567}),
        ('{"say": "the key\\nsk-proj-abcdefghijklmnop1234"}', {"say": "the key\n[secret]"}),
        ('{"to": "ada\\u0040example.org"}', {"to": "[email]"}),
        ('{"to": "ada@example.org", "to": "bob"}', {"to": "bob"}),
        ('{"body": "{\\"password\\": \\"hunter22\\"}"}', {"body": '{"password": "[secret]"}'}),
    ],
)
def test_what_json_hides_is_taken_out_of_it_too(arguments: str, left, tool_run) -> None:
    assert json.loads(redactor(EVERY)(tool_run(arguments=arguments)).arguments) == left


def test_arguments_nested_too_deep_to_be_read_are_text(tool_run) -> None:
    arguments = "[" * 100_000 + json.dumps(ADDRESS) + "]" * 100_000

    assert ADDRESS not in redactor(["email"])(tool_run(arguments=arguments)).arguments


def test_arguments_with_nothing_to_take_out_stay_as_the_model_wrote_them(tool_run) -> None:
    arguments = '{"q":   "Ararat",\n"n":1.50}'

    assert redactor(EVERY)(tool_run(arguments=arguments)).arguments == arguments


def test_without_patterns_a_record_stays_as_it_is(interaction) -> None:
    assert redactor()(interaction()) == interaction()


def test_a_pattern_that_there_is_not_is_named() -> None:
    with pytest.raises(InvalidSettings, match="'mail'"):
        redactor(["email", "mail"])


def test_a_file_adds_a_pattern_a_line(tmp_path) -> None:
    file = tmp_path / "patterns"
    file.write_text("# staff\nEMP-\\d{4}\n\n(?i)project\\s+\\w+\n", encoding="utf-8")

    redact = redactor(["email"], file=file)

    text = f"EMP-0042 of PROJECT Ararat, {ADDRESS}"
    assert redact.text(text) == "[redacted] of [redacted], [email]"


@pytest.mark.parametrize("line", ["(", r"(a)\1", "(?=a)b", "[z-a]", r"(?<!x)y"])
def test_what_re2_does_not_take_is_refused_by_its_line(tmp_path, line: str) -> None:
    file = tmp_path / "patterns"
    file.write_text(f"fine\n{line}\n", encoding="utf-8")

    with pytest.raises(InvalidSettings, match=r"line 2 of .*patterns"):
        redactor(file=file)


@pytest.mark.parametrize("line", ["a*", "x?", "(y|)"])
def test_a_pattern_that_matches_nothing_at_all_is_refused(tmp_path, line: str) -> None:
    file = tmp_path / "patterns"
    file.write_text(line, encoding="utf-8")

    with pytest.raises(InvalidSettings, match="empty text"):
        redactor(file=file)


def test_a_file_that_cannot_be_read_is_named(tmp_path) -> None:
    with pytest.raises(InvalidSettings, match="LOG_REDACT_FILE"):
        redactor(file=tmp_path / "nothing")


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+b", "(.*a){20}", r"(\w+\s?)*!"])
def test_a_pattern_made_to_run_away_does_not(tmp_path, pattern: str) -> None:
    file = tmp_path / "patterns"
    file.write_text(pattern, encoding="utf-8")
    redact = redactor(file=file)

    began = time.process_time()
    redact.text("a" * 50_000 + "c")

    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "1",
        "1-",
        "a.",
        "a@",
        ":",
        "1:",
        "eyJ",
        "ghp_",
        " ",
        "+1 ",
        "password",
        "0 1",
        "a.b@",
        "-----BEGIN PRIVATE KEY-----",
        "://",
    ],
)
@pytest.mark.parametrize("name", EVERY)
def test_no_built_in_pattern_runs_away(name: str, piece: str) -> None:
    text = piece * (50_000 // len(piece))

    began = time.process_time()
    redactor([name]).text(text)

    assert time.process_time() - began < 2
