"""Answers as a document for people."""

from dataclasses import replace

from qwenkit.feedback.query import RatedAnswer
from qwenkit.feedback.records import (
    AdapterUsed,
    AnswerText,
    Call,
    Comparison,
    Edit,
    Interaction,
    Rating,
    TokenCounts,
    now,
)
from qwenkit.server.feedback.markdown import markdown

ONE = Interaction(
    id="chatcmpl-1",
    created_at="2026-11-25T14:00:00.000000Z",
    source="api",
    model="qwen",
    prompt_hash="h",
    finish_reason="stop",
    usage=TokenCounts(prompt=1),
    messages=({"role": "user", "content": "Hello?"},),
    answer=AnswerText(content="Hi.", reasoning_content="Greet."),
)
RATING = Rating(id="rating-1", created_at=now(), answer_id="chatcmpl-1", source="ui", rater="ada")


def told(*answers):
    return "".join(markdown(answers))


def test_an_answer_is_told_with_what_was_asked_and_thought():
    text = told(RatedAnswer(replace(ONE, adapter=AdapterUsed(name="poet", version="1")), ()))
    assert "## 2026-11-25 14:00:00 · qwen + poet" in text
    assert text.index("Hello?") < text.index("Greet.") < text.index("Hi.")


def test_a_conversation_that_goes_on_is_not_told_again():
    more = (
        *ONE.messages,
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "?"},
    )
    first = replace(ONE, thread_id="t1")
    second = replace(ONE, id="chatcmpl-2", thread_id="t1", messages=more)
    assert told(RatedAnswer(first, ()), RatedAnswer(second, ())).count("Hello?") == 1
    elsewhere = replace(second, thread_id="t2")
    assert told(RatedAnswer(first, ()), RatedAnswer(elsewhere, ())).count("Hello?") == 2


def test_headings_and_fences_of_an_answer_do_not_cut_the_document_up():
    call = Call(id="c", name="run", arguments='{"code": "```"}')
    answer = AnswerText(
        content="# Big\n## Small", reasoning_content="</details>", tool_calls=(call,)
    )
    lines = told(RatedAnswer(replace(ONE, answer=answer), ())).splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        "# Answers",
        "## 2026-11-25 14:00:00 · qwen",
    ]
    assert lines.count("</details>") == 1
    assert lines.count("````") == 1


def test_what_was_not_kept_is_said_to_be_missing():
    text = told(RatedAnswer(replace(ONE, messages=None, answer=None), ()))
    assert "The text was not kept." in text


def test_every_kind_of_judgement_is_told():
    ratings = (
        replace(RATING, thumb="down", scale=2, comment="Too\nshort."),
        replace(RATING, compared=Comparison(other_id="chatcmpl-9", verdict="worse")),
        replace(RATING, compared=Comparison(other_id="chatcmpl-9", verdict="tie")),
        replace(RATING, edited=Edit(content="Good day.")),
    )
    lines = told(RatedAnswer(ONE, ratings)).splitlines()
    assert [line for line in lines if line.startswith("- ")] == [
        "- ada: 👎 · 2/5 · Too short.",
        "- ada: worse than `chatcmpl-9`",
        "- ada: as good as `chatcmpl-9`",
        "- ada: should say: Good day.",
    ]
