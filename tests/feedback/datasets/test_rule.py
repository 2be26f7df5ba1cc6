"""Which answer is preferred, when raters, kinds of judgements and answers contradict each other."""

from __future__ import annotations

from typing import Any

import pytest

from qwenkit.feedback.query import Query

Pairs = set[tuple[str, str]]


def pairs(log: Any, **choices: Any) -> Pairs:
    return {
        (row.data["chosen"][0]["content"], row.data["rejected"][0]["content"])
        for row in log.rows("dpo", **choices)
    }


def test_a_rating_without_an_alternative_answer_never_becomes_a_pair(log: Any) -> None:
    log.rate(log.answer("Yes."), thumb="up")
    log.answer("No.")
    assert pairs(log) == set()


def test_answers_to_other_prompts_are_never_set_against_each_other(log: Any) -> None:
    log.rate(log.answer("Yes.", prompt="Is tea hot?"), thumb="up")
    log.rate(log.answer("No.", prompt="Is tea cold?"), thumb="down")
    assert pairs(log) == set()


def test_answers_by_other_templates_are_never_set_against_each_other(log: Any) -> None:
    log.rate(log.answer("Yes.", template_hash="one"), thumb="up")
    log.rate(log.answer("No.", template_hash="other"), thumb="down")
    assert pairs(log) == set()


def test_a_comparison_of_answers_to_other_prompts_is_left_out(log: Any) -> None:
    one, other = log.answer("Yes.", prompt="Is tea hot?"), log.answer("No.", prompt="Is it?")
    log.rate(one, better_than=other)
    assert pairs(log) == set()


def test_a_thumb_up_beats_a_thumb_down_on_a_regeneration(log: Any) -> None:
    log.rate(log.answer("No."), thumb="down")
    log.rate(log.answer("Yes."), thumb="up")
    assert pairs(log) == {("Yes.", "No.")}


def test_two_thumbs_up_are_a_tie(log: Any) -> None:
    for content in ("Yes.", "No."):
        log.rate(log.answer(content), thumb="up")
    assert pairs(log) == set()


def test_a_higher_scale_beats_a_lower_one_by_the_wanted_gap(log: Any) -> None:
    log.rate(log.answer("Yes."), scale=5)
    log.rate(log.answer("No."), scale=4)
    assert pairs(log) == {("Yes.", "No.")}
    assert pairs(log, min_gap=2) == set()


def test_a_scale_and_a_thumb_of_one_rater_are_compared_by_what_they_say(log: Any) -> None:
    log.rate(log.answer("Yes."), scale=4)
    log.rate(log.answer("No."), thumb="down")
    log.rate(log.answer("Perhaps."), scale=3)
    assert pairs(log) == {("Yes.", "No."), ("Yes.", "Perhaps.")}


def test_the_newest_judgement_of_a_rater_counts(log: Any) -> None:
    one, other = log.answer("Yes."), log.answer("No.")
    log.rate(one, thumb="down")
    log.rate(other, thumb="up")
    log.rate(one, thumb="up")
    log.rate(other, thumb="down")
    assert pairs(log) == {("Yes.", "No.")}


def test_a_newer_thumb_counts_over_a_scale_that_contradicts_it(log: Any) -> None:
    one, other = log.answer("Yes."), log.answer("No.")
    log.rate(one, scale=1)
    log.rate(one, thumb="up")
    log.rate(other, thumb="down")
    assert pairs(log) == {("Yes.", "No.")}


def test_a_thumb_and_a_scale_that_contradict_each_other_at_once_say_nothing(log: Any) -> None:
    one, other = log.answer("Yes."), log.answer("No.")
    log.rate(one, thumb="up", scale=1)
    log.rate(other, thumb="down")
    assert pairs(log) == set()


def test_a_retracted_rating_counts_no_more(log: Any) -> None:
    one, other = log.answer("Yes."), log.answer("No.")
    log.rate(one, thumb="up")
    log.rate(other, thumb="down")
    log.rate(other, retracted=True)
    assert pairs(log) == set()


def test_a_comparison_beats_thumbs(log: Any) -> None:
    one, other = log.answer("Yes."), log.answer("No.")
    for rater in ("ben", "cleo", "dan"):
        log.rate(one, rater=rater, thumb="down")
        log.rate(other, rater=rater, thumb="up")
    log.rate(one, better_than=other)
    assert pairs(log) == {("Yes.", "No.")}


def test_a_comparison_that_is_a_tie_keeps_thumbs_out_as_well(log: Any) -> None:
    one, other = log.answer("Yes."), log.answer("No.")
    log.rate(one, thumb="up", tied_with=other)
    log.rate(other, thumb="down")
    assert pairs(log) == set()


def test_a_comparison_may_stand_at_either_answer_and_the_newest_counts(log: Any) -> None:
    one, other = log.answer("Yes."), log.answer("No.")
    log.rate(other, better_than=one)
    log.rate(one, better_than=other)
    assert pairs(log) == {("Yes.", "No.")}
    log.rate(other, better_than=one)
    assert pairs(log) == {("No.", "Yes.")}


def test_the_majority_of_raters_decides(log: Any) -> None:
    one, other = log.answer("Yes."), log.answer("No.")
    for rater, verdict in (("ann", "better_than"), ("ben", "better_than"), ("cleo", "worse_than")):
        log.rate(one, rater=rater, **{verdict: other})
    assert pairs(log) == {("Yes.", "No.")}
    assert pairs(log, min_margin=2) == set()


@pytest.mark.parametrize(
    "verdicts", [("better_than", "worse_than"), ("better_than", *2 * ("tied_with",))]
)
def test_without_a_majority_there_is_no_pair(log: Any, verdicts: tuple[str, ...]) -> None:
    one, other = log.answer("Yes."), log.answer("No.")
    for number, verdict in enumerate(verdicts):
        log.rate(one, rater=f"rater-{number}", **{verdict: other})
    assert pairs(log) == set()


def test_raters_who_rated_both_count_and_others_do_not(log: Any) -> None:
    one, other = log.answer("Yes."), log.answer("No.")
    log.rate(one, scale=3)
    log.rate(other, scale=2)
    log.rate(one, rater="ben", thumb="down")
    log.rate(other, rater="cleo", thumb="up")
    assert pairs(log) == {("Yes.", "No.")}


def test_where_nobody_rated_both_the_liked_one_beats_the_disliked_one(log: Any) -> None:
    log.rate(log.answer("Yes."), rater="ann", thumb="up")
    log.rate(log.answer("No."), rater="ben", thumb="down")
    log.rate(log.answer("Perhaps."), rater="cleo", thumb="up")
    assert pairs(log) == {("Yes.", "No."), ("Perhaps.", "No.")}
    assert pairs(log, min_margin=2) == set()


def test_comparisons_that_go_round_in_a_circle_are_dropped(log: Any) -> None:
    a, b, c, d = (log.answer(content) for content in "ABCD")
    log.rate(a, better_than=b)
    log.rate(b, better_than=c)
    log.rate(c, better_than=a)
    log.rate(a, better_than=d)
    assert pairs(log) == {("A", "D")}


def test_a_weaker_preference_that_would_close_a_circle_goes_and_the_stronger_stay(log: Any) -> None:
    a, b, c = (log.answer(content) for content in "ABC")
    log.rate(a, better_than=b)
    log.rate(b, better_than=c)
    log.rate(c, rater="ben", scale=5)
    log.rate(a, rater="ben", scale=1)
    assert pairs(log) == {("A", "B"), ("B", "C")}


def test_a_long_circle_is_found(log: Any) -> None:
    answers = [log.answer(f"{n}") for n in range(50)]
    for one, other in zip(answers, [*answers[1:], answers[0]], strict=True):
        log.rate(one, better_than=other)
    assert pairs(log) == set()


def test_an_edited_text_is_preferred_to_the_original(log: Any) -> None:
    log.rate(log.answer("Yes"), edited="Yes, it is.")
    (row,) = log.rows("dpo")
    assert row.origin == "edited"
    assert pairs(log) == {("Yes, it is.", "Yes")}


def test_an_edit_that_changes_nothing_is_no_pair(log: Any) -> None:
    log.rate(log.answer("Yes."), edited=" Yes.\n")
    assert pairs(log) == set()


def test_only_the_newest_edit_of_a_rater_counts(log: Any) -> None:
    answer = log.answer("Yes")
    log.rate(answer, edited="Yes!")
    log.rate(answer, edited="Yes.")
    log.rate(answer, rater="ben", edited="Yes, very.")
    assert pairs(log) == {("Yes.", "Yes"), ("Yes, very.", "Yes")}


def test_the_same_text_twice_is_one_answer_and_its_ratings_count_together(log: Any) -> None:
    log.rate(log.answer("Yes."), rater="ann", thumb="up")
    log.rate(log.answer(" Yes. "), rater="ben", thumb="up")
    log.rate(log.answer("Yes."), rater="cleo", thumb="down")
    log.rate(log.answer("No."), rater="dan", thumb="down")
    assert pairs(log) == {("Yes.", "No.")}


def test_of_a_text_that_was_given_twice_a_raters_newest_word_counts(log: Any) -> None:
    first, again = log.answer("Yes."), log.answer("Yes.")
    log.rate(again, thumb="down")
    log.rate(first, thumb="up")
    log.rate(log.answer("No."), thumb="down")
    assert pairs(log) == {("Yes.", "No.")}


def test_an_answer_is_never_set_against_the_same_text(log: Any) -> None:
    one, other = log.answer("Yes."), log.answer("Yes.")
    log.rate(one, better_than=other)
    log.rate(one, thumb="up")
    log.rate(other, rater="ben", thumb="down")
    assert pairs(log) == set()


def test_calls_are_the_same_whatever_their_ids(log: Any) -> None:
    one = log.answer("", calls=[("clock", '{"zone": "Europe/Oslo"}')])
    other = log.answer("", calls=[("clock", '{"zone":"Europe/Oslo"}')])
    third = log.answer("", calls=[("clock", '{"zone": "Europe/Rome"}')])
    log.rate(one, thumb="up")
    log.rate(other, rater="ben", thumb="up")
    log.rate(third, thumb="down")
    assert len(log.rows("dpo")) == 1


def test_of_too_many_pairs_the_best_founded_stay(log: Any) -> None:
    good, bad = (
        [log.answer(f"Yes {n}") for n in range(3)],
        [log.answer(f"No {n}") for n in range(3)],
    )
    for answer, thumb in (*[(each, "up") for each in good], *[(each, "down") for each in bad]):
        log.rate(answer, thumb=thumb)
    log.rate(good[1], better_than=good[2])
    assert len(pairs(log)) == 10
    assert ("Yes 1", "Yes 2") in pairs(log, max_pairs=1)
    assert len(pairs(log, max_pairs=4)) == 4


def test_with_a_rater_only_that_raters_word_counts(log: Any) -> None:
    one, other = log.answer("Yes."), log.answer("No.")
    log.rate(one, rater="ann", better_than=other)
    for rater in ("ben", "cleo"):
        log.rate(one, rater=rater, worse_than=other)
    assert pairs(log, filters=Query(rater="ann")) == {("Yes.", "No.")}
    assert pairs(log) == {("No.", "Yes.")}
