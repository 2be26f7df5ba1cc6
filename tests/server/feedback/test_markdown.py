"""Answers as a document for people."""

from dataclasses import replace

import pytest

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


def quoted(content):
    answer = AnswerText(content=content)
    lines = told(RatedAnswer(replace(ONE, answer=answer), ())).splitlines()
    return [line for line in lines[lines.index("**Answer**") :] if line.startswith(">")]


def test_code_that_an_answer_leaves_open_ends_with_it():
    assert quoted("```html\n<b>") == ["> ```html", "> <b>"]
    assert told(RatedAnswer(replace(ONE, answer=AnswerText(content="```")), ())).endswith("```\n\n")


@pytest.mark.parametrize(
    "before",
    [
        *("", "````\n```\n````", "~~~\n```\n~~~", "- a\n  ```", "``` `"),
        *("```\n    ```\n```", "x\n\n    ```", "```\n~~~\n```"),
        *("  ```\na\n```", "```\nx\n\t```", "\t```"),
    ],
)
def test_tags_outside_code_are_no_tags(before):
    assert quoted(f"{before}\n<script src=x>")[-1] == "> &lt;script src=x>"


def test_names_can_not_break_out_of_their_line():
    bad = "x`\n# Heading\n<img src=x>"
    one = replace(ONE, thread_id=bad, model=bad, messages=({"role": bad, "content": bad},))
    rating = replace(RATING, rater=bad, thumb="up", comment=bad)
    text = told(RatedAnswer(one, (rating,)))
    assert [line for line in text.splitlines() if line.startswith("#")][2:] == []
    assert "<img" not in text
    assert "`x' # Heading &lt;img src=x>`" in text


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
