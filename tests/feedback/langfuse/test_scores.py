from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qwenkit.feedback.langfuse import ids
from qwenkit.feedback.langfuse.scores import Score, is_own, judgement
from qwenkit.feedback.records import Comparison, Edit, Interaction, Rating


def by_name(scores: tuple[Score, ...]) -> dict[str, Any]:
    return {score.name: score.value for score in scores}


def test_each_kind_of_judgement_becomes_a_score_of_its_own(
    an_answer: Callable[..., Interaction], a_rating: Callable[..., Rating]
) -> None:
    rating = a_rating(
        thumb="up",
        scale=4,
        compared=Comparison(other_id="chatcmpl-2", verdict="better"),
        edited=Edit(content="In the south of Norway.", reasoning_content="Look closer."),
        comment="good",
    )
    scores = judgement(an_answer(), [rating]).scores
    assert {score.name: (score.data_type, score.value) for score in scores} == {
        "thumb": ("BOOLEAN", 1),
        "scale": ("NUMERIC", 4),
        "comparison": ("CATEGORICAL", "better"),
        "output": ("CORRECTION", "In the south of Norway."),
    }
    assert {score.comment for score in scores} == {"good"}
    about = {score.name: score.metadata for score in scores}
    assert about["comparison"]["other_id"] == "chatcmpl-2"
    assert about["output"]["reasoning_content"] == "Look closer."
    assert about["thumb"]["rater"] == "bob"


def test_a_score_is_of_the_observation_of_its_answer(
    an_answer: Callable[..., Interaction], a_rating: Callable[..., Rating]
) -> None:
    (score,) = judgement(an_answer(), [a_rating(thumb="down")]).scores
    assert score.value == 0
    assert score.trace_id == ids.trace_id(an_answer())
    assert score.observation_id == ids.answer_observation_id("chatcmpl-1")


def test_a_thumb_that_was_turned_leaves_one_score_and_a_stale_one(
    an_answer: Callable[..., Interaction], a_rating: Callable[..., Rating]
) -> None:
    first = a_rating("rating-1", thumb="up")
    second = a_rating("rating-2", thumb="down", created_at="2026-11-25T15:00:00.000000Z")
    now = judgement(an_answer(), [first, second])
    assert [(score.id, score.value) for score in now.scores] == [("rating-2-thumb", 0)]
    assert now.stale == ("rating-1-thumb",)


def test_two_raters_keep_a_score_each(
    an_answer: Callable[..., Interaction], a_rating: Callable[..., Rating]
) -> None:
    ratings = [a_rating("rating-1", thumb="up"), a_rating("rating-2", thumb="down", rater="eve")]
    now = judgement(an_answer(), ratings)
    assert len(now.scores) == 2
    assert now.stale == ()


def test_a_retracted_rating_leaves_stale_scores_only(
    an_answer: Callable[..., Interaction], a_rating: Callable[..., Rating]
) -> None:
    given = a_rating("rating-1", thumb="up", scale=5)
    gone = a_rating("rating-2", retracted=True, created_at="2026-11-25T15:00:00.000000Z")
    now = judgement(an_answer(), [given, gone])
    assert now.scores == ()
    assert set(now.stale) == {"rating-1-thumb", "rating-1-scale"}


def test_what_came_from_langfuse_never_goes_back(
    an_answer: Callable[..., Interaction], a_rating: Callable[..., Rating]
) -> None:
    pulled = a_rating(thumb="up", source="langfuse", external_id="langfuse:1")
    assert judgement(an_answer(), [pulled]) == judgement(an_answer(), [])


def test_words_alone_are_a_text_that_langfuse_takes(
    an_answer: Callable[..., Interaction], a_rating: Callable[..., Rating]
) -> None:
    (score,) = judgement(an_answer(), [a_rating(comment="w" * 600)]).scores
    assert score.data_type == "TEXT"
    assert score.value == "w" * 500
    assert score.comment == "w" * 600


def test_of_an_answer_whose_content_is_not_kept_no_words_are_told(
    an_answer: Callable[..., Interaction], a_rating: Callable[..., Rating]
) -> None:
    rating = a_rating(thumb="up", comment="Norway!", edited=Edit(content="In Norway."))
    only_words = a_rating("rating-2", rater="eve", comment="Norway!")
    now = judgement(an_answer(messages=None, answer=None), [rating, only_words])
    assert by_name(now.scores) == {"thumb": 1}
    assert "Norway" not in str(now)


def test_own_scores_are_told_by_their_ids(
    an_answer: Callable[..., Interaction], a_rating: Callable[..., Rating]
) -> None:
    (score,) = judgement(an_answer(), [a_rating(thumb="up")]).scores
    assert is_own(score.id)
    assert not is_own("c0ffee")
