"""Bad rows are named, long rows are dealt with as told, and a run's data has one fingerprint."""

from __future__ import annotations

import re

import pytest

from qwenkit.errors import InvalidData, InvalidSettings
from qwenkit.training.data.options import DataOptions
from qwenkit.training.data.prepare import hold_out, prepare_data
from qwenkit.training.methods import METHODS

GOOD = {"prompt": "a", "completion": "A"}
LONG = {"prompt": "a", "completion": "word " * 200}


@pytest.mark.parametrize(
    ("method", "row", "reason"),
    [
        ("sft", "{", "JSON"),
        ("sft", "[1]", "object"),
        ("sft", {}, "messages"),
        ("sft", {"other": 1}, "'other'"),
        ("sft", {"messages": []}, "empty"),
        ("sft", {"messages": "hello"}, "list"),
        ("sft", {"messages": [{"role": "user", "content": "a"}]}, "assistant"),
        ("sft", {"messages": [{"role": "robot", "content": "a"}]}, "messages[0]"),
        ("sft", {"messages": [{"role": "assistant", "content": "a", "weight": 2}]}, "weight"),
        ("sft", {"prompt": "a", "completion": 7}, "completion"),
        ("sft", {"prompt": "a", "completion": "A", "tools": "{"}, "tools"),
        ("sft", {"prompt": "a", "completion": "A", "tools": [{"type": "x"}]}, "tools[0]"),
        ("sft", {"prompt": "a", "completion": "A", "chat_template_kwargs": 1}, "kwargs"),
        (
            "sft",
            {
                "prompt": "a",
                "completion": "<think>\nhm\n</think>\n\nA",
                "chat_template_kwargs": {"enable_thinking": False},
            },
            "enable_thinking",
        ),
        ("sft", {"text": ""}, "empty"),
        ("sft", {"text": "\ud800"}, "surrogate"),
        ("sft", {"prompt": "a", "chosen": "b", "rejected": "c"}, "dpo, kto, orpo, reward"),
        ("sft", {"prompt": "a", "completion": "A", "label": True}, "kto"),
        ("sft", {"prompt": "a"}, "grpo"),
        ("dpo", GOOD, "sft"),
        ("dpo", {"prompt": "a", "chosen": "b"}, "rejected"),
        ("dpo", {"prompt": "a", "chosen": "b", "rejected": "b"}, "same"),
        ("dpo", {"chosen": "b", "rejected": "c"}, "prompt"),
        (
            "dpo",
            {"prompt": [{"role": "assistant", "content": "a"}], "chosen": "b", "rejected": "c"},
            "prompt",
        ),
        (
            "dpo",
            {
                "prompt": "a",
                "chosen": [{"role": "assistant", "content": "b"}] * 2,
                "rejected": "c",
            },
            "chosen",
        ),
        ("kto", GOOD, "label"),
        ("kto", {"prompt": "a", "completion": "A", "label": "yes"}, "'yes', which is neither"),
        ("kto", {"prompt": "a", "completion": "A", "label": 1}, "1, which is neither"),
        ("grpo", {"messages": [{"role": "assistant", "content": "a"}]}, "prompt"),
        ("grpo", {"text": "a"}, "sft"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_its_reason(prepare, method, row, reason) -> None:
    with pytest.raises(InvalidData) as caught:
        prepare(row, method=method)
    assert "rows.jsonl:1: " in caught.value.message
    assert reason in caught.value.message


def test_lines_are_counted_with_the_empty_ones(prepare) -> None:
    with pytest.raises(InvalidData) as caught:
        prepare(GOOD, "", {"text": 1}, "   ", "{")
    assert re.findall(r"rows\.jsonl:(\d+):", caught.value.message) == ["3", "5"]


def test_the_first_ten_bad_rows_are_listed_at_once(prepare) -> None:
    with pytest.raises(InvalidData) as caught:
        prepare(GOOD, *[{"text": 1}] * 30)
    lines = re.findall(r"rows\.jsonl:(\d+):", caught.value.message)
    assert lines == [str(n) for n in range(2, 12)]


def test_skipped_rows_are_counted_and_remembered(prepare) -> None:
    data = prepare(GOOD, "{", {"text": 1}, GOOD, skip_bad=True)
    assert (data.n_rows, len(data.samples), data.n_skipped) == (4, 2, 2)
    assert [bad.place for bad in data.skipped] == ["rows.jsonl:2", "rows.jsonl:3"]
    assert [sample.place for sample in data.samples] == ["rows.jsonl:1", "rows.jsonl:4"]


def test_nothing_left_to_learn_is_an_error_even_where_bad_rows_are_skipped(prepare) -> None:
    with pytest.raises(InvalidData, match=r"rows\.jsonl:1"):
        prepare("{", skip_bad=True)
    with pytest.raises(InvalidData, match="no row"):
        prepare()


def test_a_long_row_is_bad_by_default(prepare) -> None:
    with pytest.raises(InvalidData, match=r"rows\.jsonl:2: it has \d+ tokens, and 64"):
        prepare(GOOD, LONG, max_length=64)


def test_a_long_row_can_be_left_out(prepare) -> None:
    data = prepare(GOOD, LONG, max_length=64, overlong="drop")
    assert (len(data.samples), data.n_dropped, data.n_skipped) == (1, 1, 0)


@pytest.mark.parametrize(
    ("method", "row"),
    [
        ("sft", LONG),
        ("kto", {**LONG, "label": True}),
        ("dpo", {"prompt": "a", "chosen": "word " * 200, "rejected": "no " * 200}),
    ],
)
def test_a_long_rows_end_can_be_cut_off(prepare, method, row) -> None:
    whole = prepare(row, method=method)
    cut = prepare(row, method=method, max_length=64, overlong="truncate")
    assert cut.n_truncated == 1
    (sample,), (full,) = cut.samples, whole.samples
    if method == "sft":
        assert (sample.ids, sample.learned) == (full.ids[:64], full.learned[:64])
    elif method == "kto":
        assert sample.prompt + sample.completion == (full.prompt + full.completion)[:64]
    else:
        assert sample.prompt + sample.chosen == (full.prompt + full.chosen)[:64]
        assert sample.prompt + sample.rejected == (full.prompt + full.rejected)[:64]


def test_a_cut_that_leaves_nothing_to_learn_is_a_bad_row(prepare) -> None:
    row = {"prompt": "word " * 200, "completion": "A"}
    with pytest.raises(InvalidData, match="learned"):
        prepare(row, max_length=64, overlong="truncate")
    with pytest.raises(InvalidData, match="prompt alone"):
        prepare({**row, "label": True}, method="kto", max_length=64, overlong="truncate")
    rows = {"prompt": "a", "completion": "A"}, row
    data = prepare(*rows, max_length=64, overlong="truncate", skip_bad=True)
    assert (data.n_skipped, data.n_truncated) == (1, 0)


def test_the_fingerprint_is_of_what_is_learned_and_not_of_where_it_lies(
    renderer, write_rows
) -> None:
    def fingerprint(path, **options) -> str:
        return prepare_data(
            [str(path)], method="sft", renderer=renderer, options=DataOptions(**options)
        ).fingerprint

    one, same = write_rows(GOOD, name="a.jsonl"), write_rows(GOOD, name="b.jsonl")
    other = write_rows({**GOOD, "completion": "B"}, name="c.jsonl")
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)
    assert fingerprint(one) != fingerprint(one, empty_thinking="given")


def test_several_sources_are_read_one_after_another(renderer, write_rows) -> None:
    paths = [write_rows(GOOD, name="b.jsonl"), write_rows(GOOD, GOOD, name="a.jsonl")]
    data = prepare_data(
        [str(path) for path in paths], method="sft", renderer=renderer, options=DataOptions()
    )
    assert [sample.place for sample in data.samples] == ["b.jsonl:1", "a.jsonl:1", "a.jsonl:2"]


def test_the_data_says_which_template_rendered_it(prepare, renderer) -> None:
    assert prepare(GOOD).template_hash == renderer.template.hash


def test_rows_are_held_out_whole_and_none_is_lost(prepare) -> None:
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "A"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "B"},
    ]
    data = prepare(*[{"messages": turns}] * 10)
    train, held_out = hold_out(data, 0.3, seed=1)
    assert len({sample.place for sample in held_out.samples}) == 3
    assert not {each.place for each in train.samples} & {each.place for each in held_out.samples}
    assert sorted((*train.samples, *held_out.samples), key=lambda s: s.place) == sorted(
        data.samples, key=lambda s: s.place
    )
    assert hold_out(data, 0.3, seed=1) == (train, held_out)
    with pytest.raises(InvalidSettings):
        hold_out(data, 0.01, seed=1)


def test_every_method_says_what_it_learns_from(prepare) -> None:
    for method in METHODS:
        with pytest.raises(InvalidData, match="none of"):
            prepare({"unknown": 1}, method=method)
