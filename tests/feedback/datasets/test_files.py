"""Exported folders and files, and the card."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from qwenkit.errors import InvalidData, InvalidRequest, InvalidSettings
from qwenkit.feedback.datasets import answers, drafts, export, votes
from qwenkit.feedback.datasets.export import export_dataset
from qwenkit.feedback.datasets.options import ExportOptions
from qwenkit.feedback.query import Query
from qwenkit.models.demo import DEMO_DIR
from qwenkit.training.data.options import DataOptions
from qwenkit.training.data.prepare import prepare_data
from qwenkit.training.data.renderer import open_renderer


@pytest.fixture
def judged(log: Any) -> Any:
    """Forty prompts with two answers each, of which one is liked; one that is not judged."""
    for n in range(40):
        for content, thumb in (("Yes.", "up"), ("No.", "down")):
            log.rate(log.answer(content, prompt=f"Question {n}", thread=f"t{n}"), thumb=thumb)
    log.answer("Hm.")
    return log


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_folder_holds_both_splits_and_a_card(judged: Any) -> None:
    out, report = judged.export("dpo", validation_share=0.25)
    assert report.files == ("data/train.jsonl", "data/validation.jsonl", "README.md")
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == sorted(report.files)
    for split, n in report.by_split.items():
        assert len(lines(out / "data" / f"{split}.jsonl")) == n
    assert report.n_rows == 40


def test_the_streamed_rows_are_those_of_the_files(judged: Any) -> None:
    out, _ = judged.export("kto")
    written = [*lines(out / "data/train.jsonl"), *lines(out / "data/validation.jsonl")]
    assert [row.data for row in judged.rows("kto")] == written


def test_the_same_log_makes_the_same_bytes(judged: Any) -> None:
    one, other = (judged.export("dpo", name)[0] for name in ("one", "other"))
    for path in one.rglob("*.*"):
        assert path.read_bytes() == (other / path.relative_to(one)).read_bytes()


def test_without_rows_to_hold_out_there_is_no_file_of_them(judged: Any) -> None:
    out, report = judged.export("dpo", validation_share=0)
    assert report.files == ("data/train.jsonl", "README.md")
    assert not (out / "data/validation.jsonl").exists()


def test_ppo_has_each_prompt_once_beside_its_rows(judged: Any) -> None:
    out, report = judged.export("ppo", validation_share=0.25)
    assert report.n_rows == 80
    for split in ("train", "validation"):
        rows, prompts = (lines(out / folder / f"{split}.jsonl") for folder in ("data", "prompts"))
        queries = {json.dumps(row["query"]) for row in rows}
        assert len(prompts) == len(queries)
        assert {json.dumps(row["prompt"]) for row in prompts} == queries
        assert all(row.keys() == {"prompt", "tools", "chat_template_kwargs"} for row in prompts)


def test_a_file_holds_all_rows(judged: Any) -> None:
    out, report = judged.export("dpo", "pairs.jsonl", validation_share=0)
    assert report.files == ("pairs.jsonl",)
    assert len(lines(out)) == report.n_rows == 40


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("pairs.jsonl", {"validation_share": 0.1}),
        ("pairs.parquet", {"validation_share": 0}),
        ("pairs.jsonl", {"validation_share": 0, "files": "parquet"}),
    ],
)
def test_a_file_that_does_not_fit_the_choices_is_refused(
    judged: Any, name: str, choices: dict[str, Any]
) -> None:
    with pytest.raises(InvalidSettings):
        judged.export("dpo", name, **choices)


def test_an_earlier_export_is_replaced_and_nothing_else_is(judged: Any, tmp_path: Path) -> None:
    judged.export("dpo")
    out, _ = judged.export("kto")
    assert "label" in lines(out / "data/train.jsonl")[0]
    other = tmp_path / "mine"
    other.mkdir()
    (other / "README.md").write_text("Mine.", encoding="utf-8")
    with pytest.raises(InvalidSettings):
        judged.export("dpo", "mine")
    assert (other / "README.md").read_text(encoding="utf-8") == "Mine."


def test_a_failed_export_leaves_the_earlier_one(judged: Any) -> None:
    out, _ = judged.export("dpo")
    before = (out / "data/train.jsonl").read_bytes()

    class Interrupted(Exception):
        pass

    @contextmanager
    def progress(description: str, *, total: int | None, unit: str = "B") -> Any:
        def advance(n: int) -> None:
            if unit == "rows":
                raise Interrupted

        yield advance

    with pytest.raises(Interrupted):
        export_dataset(judged.index(), ExportOptions(format="kto"), out, progress)
    assert (out / "data/train.jsonl").read_bytes() == before
    assert not [path for path in out.parent.iterdir() if path.name.endswith(".partial")]


def test_without_a_row_nothing_is_written_and_the_reasons_are_named(
    log: Any, tmp_path: Path
) -> None:
    log.rate(log.answer(), thumb="up")
    with pytest.raises(InvalidData, match=drafts.ALONE):
        log.export("dpo")
    assert not (tmp_path / "out").exists()


def test_progress_comes_to_all_answers_and_all_rows(judged: Any, tmp_path: Path) -> None:
    seen: dict[str, list[int]] = {}

    @contextmanager
    def progress(description: str, *, total: int | None, unit: str = "B") -> Any:
        seen[unit] = [total or 0, 0]

        def advance(n: int) -> None:
            seen[unit][1] += n

        yield advance

    export_dataset(judged.index(), ExportOptions(format="kto"), tmp_path / "out", progress)
    assert seen == {"answers": [80, 80], "rows": [80, 80]}


def test_the_card_says_where_rows_come_from_and_why_others_were_left_out(log: Any) -> None:
    one, other = log.answer("A", prompt="P"), log.answer("B", prompt="P")
    log.rate(one, better_than=other)
    log.rate(log.answer("C", prompt="Q"), edited="Better")
    for content, thumb in (("D", "up"), ("E", "down"), ("F", "up")):
        log.rate(log.answer(content, prompt="R"), rater=content, thumb=thumb)
    log.rate(log.answer("G", prompt="S"), thumb="up")
    log.rate(log.answer("H", prompt="T", finish="length"), edited="Whole")
    log.answer("I", prompt="U")
    out, report = log.export("dpo", validation_share=0)
    assert report.by_origin == {"compared": 1, "edited": 1, "rated": 2}
    assert report.left_out == {drafts.ALONE: 1, answers.CUT_OFF: 1, export.NOT_RATED: 1}
    card = (out / "README.md").read_text(encoding="utf-8")
    for reason in report.left_out:
        assert f"| {reason} | 1 |" in card
    assert "| answers were compared side by side | 1 | 1 |" in card
    assert "| thumbs and scales | 2 | 2 |" in card
    assert "| all | 4 | 4 |" in card


def test_everything_that_is_judged_is_a_row_or_has_its_reason(log: Any) -> None:
    a, b, c = (log.answer(content, prompt="P") for content in "ABC")
    log.rate(a, better_than=b)
    log.rate(b, better_than=c)
    log.rate(c, better_than=a)
    one, other = log.answer("D", prompt="Q"), log.answer("E", prompt="Q")
    log.rate(one, tied_with=other)
    log.rate(one, rater="ben", better_than=a)
    first, second = log.answer("F", prompt="R"), log.answer("G", prompt="R")
    log.rate(first, better_than=second)
    log.rate(first, rater="ben", worse_than=second)
    log.rate(log.answer("H", prompt="S"), edited="H")
    log.rate(log.answer("I", prompt="T"), edited="J")
    _, report = log.export("dpo", validation_share=0)
    assert report.n_rows == 1
    assert report.left_out == {
        votes.CIRCLE: 3,
        votes.TIE: 1,
        votes.STRAY: 1,
        votes.NO_MAJORITY: 1,
        votes.SAME: 1,
        export.NOT_RATED: 1,
    }


def test_the_cards_head_names_each_split_and_the_types(judged: Any) -> None:
    out, _ = judged.export("ppo", validation_share=0.25)
    head = yaml.safe_load((out / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert head["configs"] == [
        {
            "config_name": name,
            "data_files": [
                {"split": split, "path": f"{folder}/{split}.jsonl"}
                for split in ("train", "validation")
            ],
        }
        for name, folder in (("default", "data"), ("prompts", "prompts"))
    ]
    columns = [each["name"] for each in head["dataset_info"][0]["features"]]
    assert columns[:5] == ["query", "tools", "chat_template_kwargs", "response", "reward"]


@pytest.mark.parametrize(
    ("purpose", "method", "strings"),
    [
        ("dpo", "dpo", "chat"),
        ("dpo", "orpo", "chat"),
        ("reward", "reward", "chat"),
        ("kto", "kto", "chat"),
        ("sft", "sft", "chat"),
        ("dpo", "kto", "chat"),
        ("dpo", "dpo", "raw"),
        ("kto", "kto", "raw"),
        ("sft", "sft", "raw"),
    ],
)
@pytest.mark.parametrize("thinking", ["keep", "strip"])
def test_finetune_reads_every_row_unchanged(
    log: Any, purpose: str, method: Any, strings: Any, thinking: str
) -> None:
    for n in range(10):
        for content, thumb in (("Yes.", "up"), ("No.", "down")):
            answer = log.answer(
                content,
                prompt=f"Question {n}",
                raw=strings == "raw",
                reasoning="Hm." if n % 2 and strings == "chat" else None,
                thinking=(None, True, False, True)[n % 4],
                tools=[{"type": "function", "function": {"name": "f"}}] if n % 3 else (),
                calls=[("f", "{}")] if n % 3 and thumb == "up" and strings == "chat" else (),
            )
            log.rate(answer, thumb=thumb)
    out, report = log.export(purpose, thinking=thinking, prompts=strings)
    with open_renderer(Path(DEMO_DIR)) as renderer:
        data = prepare_data(
            [str(out / "data")],
            method=method,
            renderer=renderer,
            options=DataOptions(strings=strings),
        )
    assert data.n_rows == report.n_rows
    assert data.n_skipped == 0


def test_a_template_variable_of_two_types_is_refused(log: Any) -> None:
    for n, value in enumerate((True, "yes")):
        log.rate(log.answer(prompt=f"Question {n}", variables={"polite": value}), thumb="up")
    with pytest.raises(InvalidData, match="polite"):
        log.export("kto")


@pytest.mark.parametrize(
    "choices",
    [
        {"format": "csv"},
        {"format": "dpo", "validation_share": 1.0},
        {"format": "dpo", "min_gap": 0},
        {"format": "dpo", "min_gap": 5},
        {"format": "dpo", "min_margin": 0},
        {"format": "dpo", "max_pairs": 0},
    ],
)
def test_choices_that_make_no_sense_are_refused(choices: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettings):
        ExportOptions(**choices)


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        ExportOptions(format="dpo", filters=Query(since="yesterday"))
