"""Numbers of logits: what must hold for any, and formulas worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from qwenkit.quality.metrics import (
    Floats,
    agreements,
    divergences,
    log_probabilities,
    losses,
    summarise_divergences,
    summarise_losses,
)

LOGITS = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.floats(-80, 80, width=32),
)


@given(LOGITS)
def test_probabilities_add_up_to_one(logits: Floats) -> None:
    assert np.exp(log_probabilities(logits)).sum(axis=1) == pytest.approx(1)


@given(LOGITS, st.floats(-1000, 1000, width=32))
def test_a_constant_added_to_all_logits_changes_nothing(logits: Floats, constant: float) -> None:
    shifted = logits.astype(np.float64) + constant
    assert log_probabilities(shifted) == pytest.approx(log_probabilities(logits), abs=1e-9)


@given(LOGITS)
def test_a_model_does_not_diverge_from_itself_and_agrees_with_itself(logits: Floats) -> None:
    own = log_probabilities(logits)
    assert not divergences(own, own).any()
    assert agreements(own, own).all()


@given(st.data())
def test_a_divergence_is_never_negative(data: st.DataObject) -> None:
    logits = data.draw(LOGITS)
    other = data.draw(arrays(np.float32, logits.shape, elements=st.floats(-80, 80, width=32)))
    assert (divergences(log_probabilities(logits), log_probabilities(other)) >= 0).all()


def test_a_divergence_is_what_the_formula_gives_and_not_symmetric() -> None:
    p, q = np.array([[0.5, 0.25, 0.25]]), np.array([[0.25, 0.25, 0.5]])
    expected = 0.5 * math.log(2) + 0.25 * math.log(0.5)
    assert divergences(np.log(p), np.log(q))[0] == pytest.approx(expected)
    r = np.array([[0.8, 0.1, 0.1]])
    forward, backward = divergences(np.log(p), np.log(r)), divergences(np.log(r), np.log(p))
    assert abs(forward[0] - backward[0]) > 0.01


def test_the_first_of_equally_likely_tokens_counts() -> None:
    tied, first, last = (np.array([row]) for row in ([1.0, 1.0], [2.0, 1.0], [1.0, 2.0]))
    assert agreements(tied, first).all()
    assert not agreements(tied, last).any()


def test_a_model_that_knows_nothing_has_the_vocabulary_as_its_perplexity() -> None:
    own = log_probabilities(np.zeros((40, 7), np.float32))
    measured = summarise_losses(losses(own, np.arange(40) % 7))
    assert measured.value == pytest.approx(7)
    assert measured.standard_error == pytest.approx(0)
    assert measured.n_tokens == 40


@given(arrays(np.float64, st.integers(2, 50), elements=st.floats(0, 20)))
def test_the_standard_error_is_the_spread_over_the_root_of_the_count(values: Floats) -> None:
    measured = summarise_losses(values)
    expected = measured.value * values.std(ddof=1) / math.sqrt(len(values))
    assert measured.standard_error == pytest.approx(expected, abs=1e-9 * measured.value)


@given(arrays(np.float64, st.integers(1, 300), elements=st.floats(0, 50)))
def test_a_summary_is_in_order(values: Floats) -> None:
    summary = summarise_divergences(values)
    assert 0 <= summary.median <= summary.p99 <= summary.maximum
    assert summary.mean <= summary.maximum * (1 + 1e-12)


def test_one_position_has_no_spread_and_none_has_no_summary() -> None:
    assert summarise_losses(np.array([1.0])).standard_error == 0
    for summarise in (summarise_losses, summarise_divergences):
        with pytest.raises(ValueError, match="no"):
            summarise(np.array([]))
