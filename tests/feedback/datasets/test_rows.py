"""Rows of each format, as training reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qwenkit.chat.messages import Message, Role, parse_messages, parse_tools
from qwenkit.feedback.query import Query
from qwenkit.models.demo import DEMO_DIR
from qwenkit.training.data.options import DataOptions
from qwenkit.training.data.renderer import open_renderer
from qwenkit.training.data.rendering import Cuts, make_samples
from qwenkit.training.data.rows import LabelRow, PreferenceRow, parse_row
from qwenkit.training.data.samples import PreferenceSample

CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}},
    },
}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "What time is it in Oslo?"}]},
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "I should look.",
        "tool_calls": [
            {
                "id": "call-1",
                "type": "function",
                "function": {"name": "clock", "arguments": '{"zone": "Europe/Oslo"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call-1", "content": "12:00"},
]


@pytest.fixture
def judged(log: Any) -> Any:
    """A talk with a tool, thinking on, and two answers that a person compared and rated."""
    good, bad = (
        log.answer(
            content, prompt=TALK, tools=[CLOCK], thinking=True, reasoning=reasoning, thread="t"
        )
        for content, reasoning in (("It is noon.", "Twelve is noon."), ("It is late.", "Hm."))
    )
    log.rate(good, thumb="up", better_than=bad)
    log.rate(bad, scale=2)
    return log


def test_a_preference_keeps_tools_calls_and_thinking(judged: Any) -> None:
    (row,) = judged.rows("dpo")
    assert json.loads(row.data["tools"]) == [CLOCK]
    assert row.data["chat_template_kwargs"] == {"enable_thinking": True}
    assert row.data["prompt"][1]["content"] == "What time is it in Oslo?"
    assert row.data["prompt"][2]["tool_calls"] == TALK[2]["tool_calls"]
    assert row.data["prompt"][2]["reasoning_content"] == "I should look."
    assert row.data["chosen"] == [
        {"role": "assistant", "content": "It is noon.", "reasoning_content": "Twelve is noon."}
    ]
    assert row.data["answers"] == ["chatcmpl-0", "chatcmpl-1"]
    assert row.data["ratings"] == ["rating-2"]


def test_stripped_rows_hold_no_reasoning_and_ask_for_none(judged: Any) -> None:
    (row,) = judged.rows("dpo", thinking="strip")
    assert "reasoning" not in row.line()
    assert row.data["chat_template_kwargs"] == {}


def test_stripped_rows_still_say_that_thinking_was_off(log: Any) -> None:
    log.rate(log.answer("Yes.", thinking=False), thumb="up")
    (row,) = log.rows("kto", thinking="strip")
    assert row.data["chat_template_kwargs"] == {"enable_thinking": False}


def test_answers_that_differ_in_their_reasoning_only_are_one_when_it_is_stripped(log: Any) -> None:
    log.rate(log.answer("Yes.", reasoning="It steams."), thumb="up")
    log.rate(log.answer("Yes.", reasoning="Hm."), thumb="down")
    assert len(log.rows("dpo")) == 1
    assert log.rows("dpo", thinking="strip") == []


@pytest.mark.parametrize("thinking", ["keep", "strip"])
@pytest.mark.parametrize(
    ("purpose", "method", "kind"),
    [
        ("dpo", "dpo", PreferenceRow),
        ("dpo", "orpo", PreferenceRow),
        ("reward", "reward", PreferenceRow),
        ("kto", "kto", LabelRow),
    ],
)
def test_training_reads_preferences_and_labels_as_they_are(
    judged: Any, purpose: str, method: Any, kind: type, thinking: str
) -> None:
    for row in judged.rows(purpose, thinking=thinking):
        (read,) = parse_row(json.loads(row.line()), method=method)
        assert isinstance(read, kind)
        assert read.prompt.tools == parse_tools([CLOCK])
        reasoning = [each.reasoning for each in read.prompt.messages if each.reasoning]
        assert bool(reasoning) is (thinking == "keep")


def test_training_learns_only_the_judged_answer_of_an_imitation(judged: Any) -> None:
    (row,) = judged.rows("sft")
    (read,) = parse_row(json.loads(row.line()), method="sft")
    assert read.learned == (len(TALK),)
    assert read.chat.messages[-1].content == "It is noon."
    assert read.chat.messages[:-1] == parse_messages(TALK)


def test_training_sees_the_prompt_that_was_served(judged: Any) -> None:
    (row,) = judged.rows("dpo")
    (read,) = parse_row(json.loads(row.line()), method="dpo")
    with open_renderer(Path(DEMO_DIR)) as renderer:
        served = renderer.render(parse_messages(TALK), tools=parse_tools([CLOCK]))
        (sample,) = make_samples(read, "row", renderer=renderer, options=DataOptions(), cuts=Cuts())
        assert isinstance(sample, PreferenceSample)
        assert sample.prompt == renderer.encode(served)
        assert renderer.decode(sample.chosen) == (
            "<think>\nTwelve is noon.\n</think>\n\nIt is noon.<|im_end|>"
        )


def test_an_edit_without_reasoning_keeps_the_originals(log: Any) -> None:
    answer = log.answer("Yes", reasoning="It steams.")
    log.rate(answer, edited="Yes.")
    log.rate(answer, rater="ben", edited="Yes!", edited_reasoning="")
    chosen = {row.data["chosen"][0]["content"]: row.data["chosen"][0] for row in log.rows("dpo")}
    assert chosen["Yes."]["reasoning_content"] == "It steams."
    assert "reasoning_content" not in chosen["Yes!"]


def test_an_edit_with_reasoning_where_thinking_was_off_is_left_out(log: Any) -> None:
    log.rate(log.answer("Yes", thinking=False), edited="Yes.", edited_reasoning="It steams.")
    assert log.rows("dpo") == []
    assert len(log.rows("dpo", thinking="strip")) == 1


@pytest.mark.parametrize("finish", ["cancelled", "length"])
def test_answers_without_their_end_are_left_out_unless_wanted(log: Any, finish: str) -> None:
    log.rate(log.answer("It is", finish=finish), thumb="down")
    log.rate(log.answer("Yes."), thumb="up")
    assert log.rows("dpo") == []
    assert [row.data["label"] for row in log.rows("kto")] == [True]
    assert len(log.rows("dpo", unfinished=True)) == 1


def test_an_edit_of_an_answer_without_its_end_is_whole(log: Any) -> None:
    log.rate(log.answer("It is", finish="cancelled"), edited="It is hot.")
    assert log.rows("dpo") == []
    assert [row.data["completion"][0]["content"] for row in log.rows("sft")] == ["It is hot."]


def test_raw_text_is_exported_by_itself_and_read_as_such(log: Any) -> None:
    for content, thumb in ((" hot.", "up"), (" a plant.", "down")):
        log.rate(log.answer(content, prompt="Tea is", raw=True), thumb=thumb)
    log.rate(log.answer("Yes."), thumb="up")
    (row,) = log.rows("dpo", prompts="raw")
    assert (row.data["prompt"], row.data["chosen"]) == ("Tea is", " hot.")
    assert parse_row(row.data, method="dpo", strings="raw") == (
        PreferenceRow("Tea is", " hot.", " a plant."),
    )
    assert [row.data["completion"][0]["content"] for row in log.rows("kto")] == ["Yes."]


def test_answers_without_content_are_left_out(log: Any) -> None:
    log.rate(log.answer(None), thumb="up")
    assert log.rows("kto") == []


def test_a_continued_answer_is_left_out(log: Any) -> None:
    talk = [{"role": "user", "content": "Is tea hot?"}, {"role": "assistant", "content": "It"}]
    log.rate(log.answer(" is.", prompt=talk), thumb="up")
    assert log.rows("kto") == []


def test_a_conversation_that_is_none_is_left_out(log: Any) -> None:
    log.rate(log.answer("Yes.", prompt=[{"role": "nobody", "content": "Hm"}]), thumb="up")
    assert log.rows("kto") == []


def test_labels_come_of_the_majority_and_else_of_comparisons(log: Any) -> None:
    liked, disputed, won, lost = (log.answer(each) for each in ("A", "B", "C", "D"))
    for rater, thumb in (("ann", "up"), ("ben", "up"), ("cleo", "down")):
        log.rate(liked, rater=rater, thumb=thumb)
    for rater, thumb in (("ann", "up"), ("ben", "down")):
        log.rate(disputed, rater=rater, thumb=thumb)
    log.rate(won, rater="dan", better_than=lost)
    labels = {row.data["completion"][0]["content"]: row.data["label"] for row in log.rows("kto")}
    assert labels == {"A": True, "C": True, "D": False}


def test_imitated_are_liked_answers_to_which_none_is_preferred(log: Any) -> None:
    good, better, bad = (log.answer(each) for each in ("Good", "Better", "Bad"))
    for answer, thumb in ((good, "up"), (better, "up"), (bad, "down")):
        log.rate(answer, thumb=thumb)
    log.rate(better, better_than=good)
    assert [row.data["completion"][0]["content"] for row in log.rows("sft")] == ["Better"]


@pytest.mark.parametrize(
    ("ratings", "reward"),
    [
        ([{"thumb": "up"}], 1.0),
        ([{"thumb": "down"}], -1.0),
        ([{"scale": 4}], 0.5),
        ([{"scale": 3}], 0.0),
        ([{"thumb": "up", "scale": 4}], 0.5),
        ([{"thumb": "up"}, {"rater": "ben", "scale": 1}], 0.0),
        ([{"thumb": "up"}, {"rater": "ben", "scale": 5}, {"rater": "cleo", "scale": 2}], 0.5),
    ],
)
def test_a_reward_is_the_mean_of_what_raters_give(
    log: Any, ratings: list[dict[str, Any]], reward: float
) -> None:
    answer = log.answer()
    for rating in ratings:
        log.rate(answer, **rating)
    assert [row.data["reward"] for row in log.rows("ppo")] == [pytest.approx(reward)]


def test_an_unrated_answers_reward_is_wins_less_losses(log: Any) -> None:
    one, other = log.answer("A"), log.answer("B")
    log.rate(one, better_than=other)
    log.rate(one, rater="ben", tied_with=other)
    rewards = {row.data["response"][0]["content"]: row.data["reward"] for row in log.rows("ppo")}
    assert rewards == {"A": 0.5, "B": -0.5}


def test_trlx_samples_are_the_served_prompt_and_what_was_generated(log: Any) -> None:
    log.rate(log.answer("Yes.", reasoning="It steams.", thinking=True), thumb="up")
    log.rate(log.answer("No.", thinking=False), thumb="down")
    samples = sorted(row.data["sample"] for row in log.rows("trlx"))
    prompt = "<|im_start|>user\nIs tea hot?<|im_end|>\n<|im_start|>assistant\n"
    assert samples == [
        [prompt, "<think>\nIt steams.\n</think>\n\nYes.<|im_end|>"],
        [f"{prompt}<think>\n\n</think>\n\n", "No.<|im_end|>"],
    ]


def test_trlx_leaves_out_what_another_template_rendered(log: Any) -> None:
    log.rate(log.answer(template_hash="other", prompt_hash="0" * 64), thumb="up")
    assert log.rows("trlx") == []


def test_trlx_takes_a_text_that_has_the_prompts_hash_whatever_the_template(log: Any) -> None:
    log.rate(log.answer(template_hash="other"), thumb="up")
    assert len(log.rows("trlx")) == 1


def test_the_same_row_by_two_templates_is_one(log: Any) -> None:
    for template in ("one", "other"):
        for content, thumb in (("Yes.", "up"), ("No.", "down")):
            log.rate(log.answer(content, template_hash=template), thumb=thumb)
    assert len(log.rows("dpo")) == 1
    assert len(log.rows("kto")) == 2


def test_a_row_and_its_contrary_are_both_left_out(log: Any) -> None:
    for template, thumbs in (("one", ("up", "down")), ("other", ("down", "up"))):
        for content, thumb in zip(("Yes.", "No."), thumbs, strict=True):
            log.rate(log.answer(content, template_hash=template), thumb=thumb)
    assert log.rows("dpo") == log.rows("kto") == []
    assert [row.data["reward"] for row in log.rows("ppo")] == [0.0, 0.0]


def test_filters_say_which_answers_are_looked_at(log: Any) -> None:
    for adapter, day in (("brief", 0), ("warm", 1), (None, 2)):
        answer = log.answer(str(day), adapter=adapter, day=day, thread=f"t{day}")
        log.rate(answer, thumb="up", day=day)

    def taken(**filters: Any) -> set[str]:
        return {
            row.data["completion"][0]["content"]
            for row in log.rows("kto", filters=Query(**filters))
        }

    assert taken() == {"0", "1", "2"}
    assert taken(adapter="warm") == {"1"}
    assert taken(adapter="") == {"2"}
    assert taken(since="2026-11-02") == {"1", "2"}
    assert taken(until="2026-11-02") == {"0"}
    assert taken(thread_id="t1") == {"1"}
    assert taken(model="other") == set()


def test_a_message_of_every_form_comes_out_in_one(log: Any) -> None:
    talk = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "<think>\nA greeting.\n</think>\n\nHi"},
        {"role": "user", "content": "Is tea hot?"},
    ]
    log.rate(log.answer("Yes.", prompt=talk), thumb="up")
    (row,) = log.rows("kto")
    assert [each["role"] for each in row.data["prompt"]] == ["system", "user", "assistant", "user"]
    assert row.data["prompt"][2]["content"] == "Hi"
    assert row.data["prompt"][2]["reasoning_content"] == "A greeting."
    assert parse_messages(row.data["prompt"]) == parse_messages(talk)
    assert parse_messages(row.data["completion"]) == (Message(Role.ASSISTANT, "Yes."),)
