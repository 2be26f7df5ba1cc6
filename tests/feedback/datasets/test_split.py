"""What is held out: whole threads, whole prompts, and always the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwenkit.feedback.datasets.export import export_dataset
from qwenkit.feedback.datasets.options import ExportOptions
from qwenkit.feedback.query import Query


def held_out(log: Any, purpose: str = "kto", **choices: Any) -> dict[str, str]:
    """The split of each judged answer."""
    choices = {"validation_share": 0.5, **choices}
    return {
        answer: row.split for row in log.rows(purpose, **choices) for answer in row.data["answers"]
    }


def rated(log: Any, content: str = "Yes.", thumb: str = "up", **of_answer: Any) -> str:
    answer = log.answer(content, **of_answer)
    log.rate(answer, thumb=thumb)
    return str(answer)


def test_a_thread_is_in_one_split(log: Any) -> None:
    for n in range(60):
        rated(log, prompt=f"Question {n}", thread=f"thread-{n % 20}")
    splits = held_out(log)
    assert set(splits.values()) == {"train", "validation"}
    for n in range(20):
        assert len({splits[f"chatcmpl-{2 * m}"] for m in range(n, 60, 20)}) == 1


def test_a_prompt_is_in_one_split_whatever_its_threads(log: Any) -> None:
    for n in range(60):
        rated(log, f"Answer {n}", prompt=f"Question {n % 20}", thread=f"thread-{n}")
    splits = held_out(log)
    assert set(splits.values()) == {"train", "validation"}
    for n in range(20):
        assert len({splits[f"chatcmpl-{2 * m}"] for m in range(n, 60, 20)}) == 1


def test_threads_that_share_a_prompt_over_others_are_in_one_split(log: Any) -> None:
    for n in range(40):
        rated(log, f"One {n}", prompt=f"Question {n}", thread=f"thread-{n}")
        rated(log, f"Other {n}", prompt=f"Question {n}", thread=f"thread-{n + 1}")
    assert len(set(held_out(log).values())) == 1


def test_the_same_messages_are_in_one_split_whatever_renders_them(log: Any) -> None:
    for n in range(20):
        for template in ("one", "other"):
            rated(
                log,
                f"{template} {n}",
                prompt=f"Question {n}",
                template_hash=template,
                prompt_hash=f"{template}{n}",
            )
    splits = list(held_out(log).items())
    by_answer = dict(splits)
    assert set(by_answer.values()) == {"train", "validation"}
    for n in range(20):
        assert by_answer[f"chatcmpl-{4 * n}"] == by_answer[f"chatcmpl-{4 * n + 2}"]


def test_later_turns_of_a_conversation_without_a_thread_are_in_its_split(log: Any) -> None:
    for n in range(20):
        first = [{"role": "user", "content": f"Question {n}"}]
        rated(log, f"Answer {n}", prompt=first)
        talk = [
            *first,
            {"role": "assistant", "content": f"Answer {n}"},
            {"role": "user", "content": "Why?"},
        ]
        rated(log, "Because.", prompt=talk)
    splits = held_out(log)
    assert set(splits.values()) == {"train", "validation"}
    for n in range(20):
        assert splits[f"chatcmpl-{4 * n}"] == splits[f"chatcmpl-{4 * n + 2}"]


def test_what_is_added_later_moves_nothing(log: Any) -> None:
    for n in range(60):
        rated(log, prompt=f"Question {n}", thread=f"thread-{n}")
    before = held_out(log)
    for n in range(60):
        rated(log, "And no.", thumb="down", prompt=f"Question {n}", thread=f"new-{n}")
        rated(log, prompt=f"New question {n}", thread=f"thread-{n}")
    after = held_out(log)
    assert {answer: after[answer] for answer in before} == before


def test_every_format_and_choice_holds_the_same_threads_out(log: Any) -> None:
    for n in range(40):
        for content, thumb in (("Yes.", "up"), ("No.", "down")):
            rated(
                log, content, thumb, prompt=f"Question {n}", thread=f"thread-{n}", reasoning="Hm."
            )
    splits = held_out(log)
    for purpose, choices in (
        ("dpo", {}),
        ("dpo", {"thinking": "strip"}),
        ("sft", {}),
        ("ppo", {}),
        ("trlx", {}),
        ("reward", {"min_gap": 2}),
    ):
        for answer, split in held_out(log, purpose, **choices).items():
            assert splits[answer] == split


def test_the_share_and_the_seed_decide_how_much_and_which(log: Any) -> None:
    for n in range(400):
        rated(log, prompt=f"Question {n}")
    tenth = held_out(log, validation_share=0.1)
    assert 20 <= list(tenth.values()).count("validation") <= 60
    assert tenth == held_out(log, validation_share=0.1)
    assert tenth != held_out(log, validation_share=0.1, seed=1)
    assert set(held_out(log, validation_share=0).values()) == {"train"}
    third = held_out(log, validation_share=0.3)
    assert all(third[answer] == split for answer, split in tenth.items() if split == "validation")


def test_chance_may_hold_out_nothing_of_little(log: Any) -> None:
    rated(log)
    assert set(held_out(log, validation_share=0.001).values()) == {"train"}


def test_filters_do_not_move_what_they_leave(log: Any) -> None:
    for n in range(60):
        rated(log, prompt=f"Question {n}", model="demo" if n % 2 else "other")
    splits = held_out(log)
    for answer, split in held_out(log, filters=Query(model="demo")).items():
        assert splits[answer] == split


def test_what_was_learned_from_is_never_held_out(log: Any, tmp_path: Path) -> None:
    unrated = [log.answer("First.", prompt=f"First {n}", thread=f"thread-{n}") for n in range(40)]
    for n in range(40):
        rated(log, prompt=f"Second {n}", thread=f"thread-{n}")
    learned: list[bytes] = []
    options = ExportOptions(format="kto", validation_share=0.4)
    export_dataset(log.index(), options, tmp_path / "one", on_train_keys=learned.extend)
    before = held_out(log, validation_share=0.4)
    for answer in unrated:  # each is now the oldest answer of its thread
        log.rate(answer, thumb="down")
    moved = held_out(log, validation_share=0.4)
    assert any(moved[each] == "validation" for each in before if before[each] == "train")
    export_dataset(log.index(), replace(options, seed=1), tmp_path / "two", learned=learned)
    text = (tmp_path / "two" / "data" / "validation.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert rows
    assert all(before.get(answer) != "train" for row in rows for answer in row["answers"])
