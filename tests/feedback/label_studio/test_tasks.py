"""What people get to see of answers."""

from xml.etree import ElementTree

import pytest

from qwenkit.feedback.label_studio.tasks import KEY, pair_tasks, rating_tasks
from qwenkit.feedback.label_studio.templates import CONFIGS, MARKS, Template
from qwenkit.feedback.query import PromptGroup, RatedAnswer
from qwenkit.feedback.records import AdapterUsed, AnswerText, Call, Comparison, Rating

from .conftest import answered


def group(*answers, ratings=()):
    rated = [
        RatedAnswer(answer, tuple(each for each in ratings if each.answer_id == answer.id))
        for answer in answers
    ]
    return PromptGroup(prompt_hash="p", template_hash="t", answers=tuple(rated))


def rating(answer_id, **said):
    return Rating(
        id="rating-1",
        created_at="2026-11-25T11:00:00.000000Z",
        answer_id=answer_id,
        source="ui",
        **said,
    )


def test_two_answers_to_a_prompt_become_one_task_that_names_neither_model():
    adapter = AdapterUsed(name="terse", version="3")
    [task] = pair_tasks([group(answered("a", "Far."), answered("b", "Near.", adapter=adapter))])
    assert {task["answer_a"], task["answer_b"]} == {"Far.", "Near."}
    assert {task["answer_a_id"], task["answer_b_id"]} == {"a", "b"}
    assert task["conversation"] == [{"role": "user", "content": "How far is the moon?"}]
    assert "terse" not in str(task)
    assert "qwen'" not in str(task)


def test_the_sides_are_drawn_by_lot_the_same_lot_each_time():
    pairs = [(answered(f"a{i}", "x"), answered(f"b{i}", "y")) for i in range(64)]
    lefts = [next(pair_tasks([group(*pair)]))["answer_a_id"][0] for pair in pairs]
    again = [next(pair_tasks([group(*reversed(pair))]))["answer_a_id"][0] for pair in pairs]
    assert lefts == again
    assert 16 < lefts.count("a") < 48


def test_equal_cut_off_and_compared_answers_make_no_pair():
    same = group(answered("a", "x"), answered("b", "x"))
    cut_off = group(answered("a", "x"), answered("b", "y", finish_reason="cancelled"))
    hidden = group(answered("a", "x"), answered("b", "y", answer=None))
    compared = Comparison(other_id="a", verdict="tie")
    decided = group(
        answered("a", "x"), answered("b", "y"), ratings=[rating("b", compared=compared)]
    )
    assert not list(pair_tasks([same, cut_off, hidden, decided]))
    assert len(list(pair_tasks([decided], again=True))) == 1


def test_of_many_answers_those_of_different_adapters_come_first_then_the_newest():
    tuned = AdapterUsed(name="terse", version="1")
    answers = [
        answered("a", "1", second=1),
        answered("b", "2", second=2, adapter=tuned),
        answered("c", "3", second=3, adapter=tuned),
    ]
    chosen = [
        {task["answer_a_id"], task["answer_b_id"]}
        for task in pair_tasks([group(*answers)], max_pairs=2)
    ]
    assert chosen == [{"a", "c"}, {"a", "b"}]


def test_answers_without_a_rating_become_tasks_to_rate():
    answers = [
        RatedAnswer(answered("a", "x"), ()),
        RatedAnswer(answered("b", "y"), (rating("b", thumb="up"),)),
    ]
    assert [task["answer_id"] for task in rating_tasks(answers)] == ["a"]
    assert [task["answer_id"] for task in rating_tasks(answers, again=True)] == ["a", "b"]


def test_tool_calls_and_parts_are_shown_as_text():
    call = {"type": "function", "function": {"name": "clock", "arguments": '{"zone": "UTC"}'}}
    messages = (
        {"role": "user", "content": [{"type": "text", "text": "What time"}, {"text": "is it?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "12:00"},
    )
    calls = AnswerText(content="", tool_calls=(Call(id="c", name="clock", arguments="{}"),))
    answer = answered("a", "", messages=messages, answer=calls, finish_reason="tool_calls")
    [task] = rating_tasks([RatedAnswer(answer, ())])
    assert [each["content"] for each in task["conversation"]] == [
        "What time\nis it?",
        '→ clock {"zone": "UTC"}',
        "12:00",
    ]
    assert task["answer"] == "→ clock {}"


def test_a_completed_text_is_shown_as_it_was_given():
    answer = answered("a", " there was", messages=None, prompt="Once upon a time")
    [task] = rating_tasks([RatedAnswer(answer, ())])
    assert task["conversation"] == [{"role": "text", "content": "Once upon a time"}]


@pytest.mark.parametrize("template", Template)
def test_a_page_asks_for_nothing_that_its_tasks_lack(template):
    root = ElementTree.fromstring(CONFIGS[template])
    asked = {
        value.removeprefix("$")
        for node in root.iter()
        for value in node.attrib.values()
        if value.startswith("$")
    }
    tasks = {
        Template.PAIRS: pair_tasks([group(answered("a", "x"), answered("b", "y"))]),
        Template.RATINGS: rating_tasks([RatedAnswer(answered("a", "x"), ())]),
    }
    [task] = tasks[template]
    assert asked <= set(task)
    assert root.attrib["className"] == MARKS[template]
    names = [node.attrib["name"] for node in root.iter() if "name" in node.attrib]
    assert len(names) == len(set(names))
    for node in root.iter():
        if "toName" in node.attrib:
            assert set(node.attrib["toName"].split(",")) <= set(names)


def test_a_task_has_a_key_that_depends_on_its_answers_only():
    one = next(pair_tasks([group(answered("a", "x"), answered("b", "y"))]))
    two = next(pair_tasks([group(answered("b", "y", second=9), answered("a", "x"))]))
    other = next(pair_tasks([group(answered("a", "x"), answered("c", "y"))]))
    assert one[KEY] == two[KEY] != other[KEY]
