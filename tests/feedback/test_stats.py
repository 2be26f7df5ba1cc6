"""Counts, agreement and win rates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.query import Query
from qwenkit.feedback.records import (
    AdapterUsed,
    Comparison,
    Interaction,
    Rating,
    Record,
    TokenCounts,
    encode,
)
from qwenkit.feedback.stats import compute_stats

Stats = Callable[..., dict[str, Any]]


@pytest.fixture
def stats(tmp_path: Path) -> Iterator[Stats]:
    """Counts records that stand in the order of their ids."""
    indexes = []

    def count(*records: Record, **query: Any) -> dict[str, Any]:
        folder = tmp_path / f"log-{len(indexes)}"
        folder.mkdir()
        lines = "".join(f"{encode(record)}\n" for record in records)
        (folder / "2026-11-01.jsonl").write_text(lines, encoding="utf-8")
        indexes.append(FeedbackIndex(folder))
        indexes[-1].refresh()
        return compute_stats(indexes[-1], Query(**query)).as_json()

    yield count
    for index in indexes:
        index.close()


def answer(
    name: str, *, day: int = 1, prompt: str = "P", adapter: str = "", model: str = "m"
) -> Interaction:
    return Interaction(
        id=name,
        created_at=f"2026-11-{day:02}T09:00:00.000000Z",
        source="api",
        model=model,
        prompt_hash=prompt,
        finish_reason="stop",
        usage=TokenCounts(prompt=1),
        adapter=AdapterUsed(name=adapter, version="1") if adapter else None,
    )


def rating(
    name: str, of: str, *, day: int = 1, hour: int = 10, rater: str = "ann", **said: Any
) -> Rating:
    return Rating(
        id=name,
        created_at=f"2026-11-{day:02}T{hour:02}:00:00.000000Z",
        answer_id=of,
        source="ui",
        rater=rater,
        **said,
    )


def compared(name: str, better: str, worse: str, verdict: Any = "better", **other: Any) -> Rating:
    return rating(name, better, compared=Comparison(other_id=worse, verdict=verdict), **other)


def by_adapter(found: dict[str, Any]) -> dict[str | None, dict[str, Any]]:
    return {each["adapter"]: each for each in found["adapters"]}


def test_an_empty_log_has_every_count(stats: Stats) -> None:
    assert stats() == {
        "n_answers": 0,
        "n_rated": 0,
        "n_ratings": 0,
        "n_up": 0,
        "n_down": 0,
        "scale": {"1": 0, "2": 0, "3": 0, "4": 0, "5": 0},
        "n_compared": 0,
        "n_edited": 0,
        "days": [],
        "agreement": [],
        "adapters": [],
        "raters": [],
    }


def test_ratings_count_on_the_day_they_were_given(stats: Stats) -> None:
    found = stats(
        answer("a", day=1),
        answer("b", day=1),
        answer("c", day=2),
        rating("r1", "a", day=2, thumb="up"),
        rating("r2", "b", day=3, thumb="down", rater="ben"),
        rating("r3", "b", day=3, scale=4),
        compared("r4", "a", "b", day=3),
    )
    assert found["days"] == [
        {"day": "2026-11-01", "n_answers": 2, "n_up": 0, "n_down": 0, "n_compared": 0},
        {"day": "2026-11-02", "n_answers": 1, "n_up": 1, "n_down": 0, "n_compared": 0},
        {"day": "2026-11-03", "n_answers": 0, "n_up": 0, "n_down": 1, "n_compared": 1},
    ]
    assert (found["n_answers"], found["n_rated"], found["n_ratings"]) == (3, 2, 4)
    assert found["scale"] == {"1": 0, "2": 0, "3": 0, "4": 1, "5": 0}
    assert found["raters"] == [{"rater": "ann", "n_ratings": 3}, {"rater": "ben", "n_ratings": 1}]


def test_an_answer_that_was_only_compared_with_is_rated(stats: Stats) -> None:
    assert stats(answer("a"), answer("b"), compared("r", "a", "b"))["n_rated"] == 2


def test_only_the_newest_rating_of_a_rater_counts(stats: Stats) -> None:
    found = stats(
        answer("a"),
        rating("r1", "a", thumb="up"),
        rating("r2", "a", hour=11, thumb="down"),
        rating("r3", "a", rater="ben", thumb="up"),
        rating("r4", "a", rater="ben", hour=12, retracted=True),
    )
    assert (found["n_up"], found["n_down"], found["n_ratings"]) == (0, 1, 1)


def test_raters_agree_when_they_like_the_same(stats: Stats) -> None:
    found = stats(
        answer("a"),
        answer("b", prompt="Q"),
        rating("r1", "a", thumb="up"),
        rating("r2", "a", rater="ben", day=2, scale=5),
        rating("r3", "a", rater="cleo", day=3, thumb="down"),
        rating("r4", "a", rater="dan", day=3, scale=3),
        rating("r5", "b", thumb="up"),
    )
    assert found["agreement"] == [
        {"day": "2026-11-02", "n_shared": 1, "n_agreed": 1, "agreement": 1.0},
        {"day": "2026-11-03", "n_shared": 2, "n_agreed": 0, "agreement": 0.0},
    ]


def test_raters_agree_when_they_prefer_the_same_whichever_answer_it_stands_at(
    stats: Stats,
) -> None:
    found = stats(
        answer("a"),
        answer("b"),
        compared("r1", "a", "b"),
        compared("r2", "b", "a", "worse", rater="ben", hour=11),
        compared("r3", "a", "b", "tie", rater="cleo", hour=12),
    )
    assert found["agreement"] == [
        {"day": "2026-11-01", "n_shared": 3, "n_agreed": 1, "agreement": pytest.approx(1 / 3)}
    ]


def test_adapters_win_by_comparisons_and_thumbs_on_the_same_prompt(stats: Stats) -> None:
    found = by_adapter(
        stats(
            answer("a1", prompt="P", adapter="new"),
            answer("b1", prompt="P"),
            compared("r1", "a1", "b1"),
            answer("a2", prompt="Q", adapter="new"),
            answer("b2", prompt="Q"),
            rating("r2", "a2", thumb="up"),
            rating("r3", "b2", thumb="down", rater="ben"),
            answer("a3", prompt="R", adapter="new"),
            answer("b3", prompt="R"),
            compared("r4", "a3", "b3", "tie"),
            answer("a4", prompt="S", adapter="new"),
            answer("b4", prompt="T"),
            rating("r5", "a4", thumb="down"),
            rating("r6", "b4", thumb="up"),
        )
    )
    new, none = found["new"], found[None]
    assert (new["wins"], new["losses"], new["ties"]) == (2, 0, 1)
    assert (none["wins"], none["losses"], none["ties"]) == (0, 2, 1)
    assert new["win_rate"] == pytest.approx(2.5 / 3)
    assert none["win_rate"] == pytest.approx(0.5 / 3)
    assert (new["model"], new["version"], none["version"]) == ("m", "1", None)


def test_answers_of_one_adapter_never_win_against_each_other(stats: Stats) -> None:
    (only,) = stats(answer("a"), answer("b"), compared("r", "a", "b"))["adapters"]
    assert (only["wins"], only["losses"], only["win_rate"]) == (0, 0, None)


def test_preferences_that_go_round_are_wins_all_the_same(stats: Stats) -> None:
    found = by_adapter(
        stats(
            *(answer(name, adapter=name) for name in "abc"),
            compared("r1", "a", "b"),
            compared("r2", "b", "c"),
            compared("r3", "c", "a"),
        )
    )
    assert {(each["wins"], each["losses"]) for each in found.values()} == {(1, 1)}


def test_two_versions_of_an_adapter_are_two(stats: Stats) -> None:
    old = answer("a", adapter="x")
    new = replace(answer("b", adapter="x"), adapter=AdapterUsed(name="x", version="2"))
    found = stats(old, new, compared("r", "b", "a"))["adapters"]
    assert [(each["version"], each["wins"]) for each in found] == [("1", 0), ("2", 1)]


def test_a_queried_adapter_is_still_measured_against_the_others(stats: Stats) -> None:
    (new,) = stats(answer("a", adapter="new"), answer("b"), compared("r", "a", "b"), adapter="new")[
        "adapters"
    ]
    assert (new["adapter"], new["wins"], new["n_answers"]) == ("new", 1, 1)


def test_with_a_rater_only_that_raters_word_counts(stats: Stats) -> None:
    found = stats(
        answer("a", adapter="new"),
        answer("b"),
        rating("r1", "a", thumb="up"),
        rating("r2", "b", rater="ben", thumb="up"),
        compared("r3", "b", "a", rater="ben"),
        rater="ben",
    )
    assert found["raters"] == [{"rater": "ben", "n_ratings": 2}]
    assert found["agreement"] == []
    assert by_adapter(found)["new"]["losses"] == 1
