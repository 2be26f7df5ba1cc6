"""Whether there is enough to learn from, and what is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qwenkit.improve.check import Counts, check
from qwenkit.improve.options import ImproveOptions, MethodChoice

PLENTY = Counts(
    n_pairs=30,
    n_held_out_pairs=10,
    n_liked=30,
    n_disliked=30,
    n_held_out_liked=10,
    n_held_out_disliked=10,
    n_held_out_alone=30,
    n_alone=0,
    n_chosen_longer=15,
    n_contradicted=0,
    left_out={},
)
LABELS = replace(PLENTY, n_pairs=0, n_held_out_pairs=0, n_chosen_longer=0)


def test_pairs_are_learned_from_where_there_are_enough() -> None:
    found = check(PLENTY, ImproveOptions())
    assert found.method == "dpo"
    assert found.missing == ()
    assert found.cautions == ()


def test_single_answers_are_where_pairs_are_few() -> None:
    assert check(LABELS, ImproveOptions()).method == "kto"
    assert check(replace(PLENTY, n_held_out_pairs=3), ImproveOptions()).method == "kto"


@pytest.mark.parametrize(
    ("method", "named"), [("dpo", ["dpo"]), ("kto", ["kto"]), ("auto", ["dpo", "kto"])]
)
def test_what_is_missing_is_said_of_each_method_that_was_tried(
    method: MethodChoice, named: list[str]
) -> None:
    few = replace(LABELS, n_disliked=2)
    found = check(few, ImproveOptions(method=method))
    assert found.method is None
    assert [sentence.partition(":")[0] for sentence in found.missing] == named


def test_what_is_missing_has_both_numbers() -> None:
    found = check(replace(PLENTY, n_pairs=3), ImproveOptions(method="dpo", min_pairs=12))
    assert "3 of 12 pairs to learn from" in found.missing[0]
    assert "held-out" not in found.missing[0]


def test_a_method_that_is_chosen_is_not_replaced_by_another() -> None:
    assert check(LABELS, ImproveOptions(method="dpo")).method is None
    assert check(PLENTY, ImproveOptions(method="kto")).method == "kto"


@pytest.mark.parametrize(("n_longer", "word"), [(30, "longer"), (1, "shorter")])
def test_pairs_that_differ_in_length_one_way_only_are_warned_of(n_longer: int, word: str) -> None:
    (caution,) = check(replace(PLENTY, n_chosen_longer=n_longer), ImproveOptions()).cautions
    assert word in caution


def test_raters_who_disagree_are_warned_of() -> None:
    assert len(check(replace(PLENTY, n_contradicted=30), ImproveOptions()).cautions) == 1
    assert check(replace(PLENTY, n_contradicted=5), ImproveOptions()).cautions == ()


def test_having_nothing_to_keep_is_warned_of() -> None:
    (caution,) = check(replace(PLENTY, n_held_out_alone=0), ImproveOptions()).cautions
    assert "good" in caution


def test_how_much_few_good_answers_leave_unseen_is_said() -> None:
    few = replace(PLENTY, n_held_out_alone=6)
    (caution,) = check(few, ImproveOptions()).cautions
    assert "39%" in caution
    assert check(replace(few, n_alone=23), ImproveOptions()).cautions == ()


def test_labels_teach_good_answers_that_are_not_held_out() -> None:
    few = replace(LABELS, n_held_out_alone=6, n_alone=23)
    (caution,) = check(few, ImproveOptions()).cautions
    assert "6 liked answers" in caution


def test_many_of_one_kind_are_warned_of() -> None:
    lopsided = replace(LABELS, n_liked=200, n_disliked=8)
    assert len(check(lopsided, ImproveOptions()).cautions) == 1
