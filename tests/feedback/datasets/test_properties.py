"""What holds for every log, whoever says what of which answer, in whatever order it is written."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from qwenkit.feedback.datasets.export import iter_rows
from qwenkit.feedback.datasets.options import FORMATS, ExportOptions
from qwenkit.feedback.records import Interaction, Rating

RATERS = ("ann", "ben", "cleo")
SAYS = ("label", "reward", "origin", "answers", "ratings", "prompt_hash")
"""Columns that say something of what a row is about."""
TEXTS = ("Yes.", " Yes.", "No.", "Perhaps.", "")

few = settings(
    max_examples=30,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # a log takes too long to be shrunk
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@st.composite
def said(draw: Any, n_answers: int) -> dict[str, Any]:
    """Something that somebody says of one of so many answers."""
    answers = st.integers(0, n_answers - 1)
    kinds: dict[str, Any] = {
        "thumb": st.sampled_from(("up", "down")),
        "scale": st.integers(1, 5),
        "better_than": answers,
        "worse_than": answers,
        "tied_with": answers,
        "edited": st.sampled_from(TEXTS),
        "retracted": st.just(True),
    }
    kind = draw(st.sampled_from(sorted(kinds)))
    return {
        "answer": draw(answers),
        "rater": draw(st.sampled_from(RATERS)),
        kind: draw(kinds[kind]),
    }


@st.composite
def logs(draw: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Answers, and what was said of them."""
    answer = st.fixed_dictionaries(
        {
            "content": st.sampled_from(TEXTS),
            "prompt": st.sampled_from(("P", "Q", "R", "S")),
            "thread": st.sampled_from((None, "a", "b", "c", "d", "e")),
            "reasoning": st.sampled_from((None, "Hm.")),
            "finish": st.sampled_from(("stop", "stop", "stop", "length", "cancelled")),
            "template_hash": st.sampled_from(("one", "one", "other")),
        }
    )
    answers = draw(st.lists(answer, min_size=1, max_size=12))
    return answers, draw(st.lists(said(len(answers)), max_size=25))


def written(new_log: Callable[[], Any], spoken: Any) -> Any:
    answers, judgements = spoken
    log = new_log()
    ids = [log.answer(**answer) for answer in answers]
    for judgement in judgements:
        by_id = {
            name: ids[value] if name in ("better_than", "worse_than", "tied_with") else value
            for name, value in judgement.items()
            if name != "answer"
        }
        log.rate(ids[judgement["answer"]], **by_id)
    return log


def all_rows(index: Any) -> dict[tuple[str, str], list[tuple[str, str]]]:
    return {
        (purpose, thinking): [
            (row.split, row.line())
            for row in iter_rows(
                index,
                ExportOptions(format=purpose, thinking=thinking, validation_share=0.5),  # type: ignore[arg-type]
            )
        ]
        for purpose in FORMATS
        for thinking in ("keep", "strip")
    }


@few
@given(spoken=logs(), order=st.integers(0, 1000))
def test_rows_do_not_depend_on_the_order_of_records(
    new_log: Callable[[], Any], spoken: Any, order: int
) -> None:
    log = written(new_log, spoken)
    assert all_rows(log.index()) == all_rows(log.index(shuffled=random.Random(order)))


@few
@given(spoken=logs())
def test_rows_are_sound(new_log: Callable[[], Any], spoken: Any) -> None:
    log = written(new_log, spoken)
    answers = {each.id: each for each in log.records if isinstance(each, Interaction)}
    ratings = {each.id: each for each in log.records if isinstance(each, Rating)}
    seen: dict[str, set[str]] = {}
    for (purpose, _), rows in all_rows(log.index()).items():
        about = set()
        for split, line in rows:
            row = json.loads(line)
            origins = [answers[name.removesuffix("#edited")] for name in row["answers"]]
            check_ratings(row, answers, ratings)
            check_prompt(row, origins)
            if purpose in ("dpo", "reward"):
                assert row["chosen"][0]["content"].strip() or row["chosen"][0].get("tool_calls")
                assert said_by(row["chosen"]) != said_by(row["rejected"])
                about.add(
                    (
                        line_of(row["prompt"]),
                        *sorted(map(line_of, (row["chosen"], row["rejected"]))),
                    )
                )
            else:
                about.add(line_of({name: row[name] for name in row if name not in SAYS}))
            for each in origins:
                seen.setdefault(f"prompt {each.messages}", set()).add(split)
                if each.thread_id:
                    seen.setdefault(f"thread {each.thread_id}", set()).add(split)
        assert len(about) == len(rows)
    for name, splits in seen.items():
        assert len(splits) == 1, name


def check_ratings(row: Any, answers: Any, ratings: Any) -> None:
    """Every row stands on ratings, all of them of answers to its prompt."""
    assert row["ratings"]
    for name in row["ratings"]:
        assert not ratings[name].retracted
        assert answers[ratings[name].answer_id].prompt_hash == row["prompt_hash"]


def check_prompt(row: Any, origins: Any) -> None:
    assert len({(each.prompt_hash, each.template_hash) for each in origins}) == 1
    assert row["prompt_hash"] == origins[0].prompt_hash
    for each, name in zip(origins, row["answers"], strict=True):
        assert each.finish_reason == "stop" or name.endswith("#edited")


def said_by(answer: Any) -> tuple[str, str]:
    return answer[0]["content"].strip(), answer[0].get("reasoning_content", "")


def line_of(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
