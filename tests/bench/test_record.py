from __future__ import annotations

import pytest

from qwenkit.bench.record import (
    Record,
    decode_figures,
    median_figures,
    median_ratios,
    percentile,
    prefill_figures,
    stall_figures,
)


def record(sent: float, *pieces: float, n_prompt: int = 10, n_completion: int = 0) -> Record:
    return Record(sent, list(pieces), n_prompt, 0, n_completion or len(pieces))


def test_decode_speed_counts_only_the_time_in_which_all_streams_ran() -> None:
    early = record(0, 1.0, 2.0, 3.0, 4.0)
    late = record(0, 2.0, 3.0, 4.0, 5.0)
    figures = decode_figures([early, late])
    # From 2.0 to 4.0 two tokens came on each.
    assert figures["decode_tokens_per_s"] == pytest.approx(2.0)
    assert figures["output_tokens_per_s"] == pytest.approx(8 / 5)


def test_streams_that_never_ran_all_at_once_have_no_decode_speed() -> None:
    figures = decode_figures([record(0, 1.0, 2.0), record(0, 3.0, 4.0)])
    assert figures["decode_tokens_per_s"] is None
    assert figures["output_tokens_per_s"] == pytest.approx(1.0)


def test_tokens_are_counted_by_the_server_and_not_by_pieces() -> None:
    figures = decode_figures([record(0, 1.0, 2.0, 3.0, n_completion=9)])
    assert figures["output_tokens_per_s"] == pytest.approx(3.0)
    assert figures["decode_tokens_per_s"] == pytest.approx(3.0)


def test_gaps_are_between_pieces_of_one_stream() -> None:
    figures = decode_figures([record(0, 1.0, 1.1, 1.2), record(0, 1.05, 1.55)])
    assert figures["gap_p50_ms"] == pytest.approx(100)
    assert figures["gap_max_ms"] == pytest.approx(500)


def test_prefill_speed_is_of_all_prompts_until_the_last_has_its_token() -> None:
    figures = prefill_figures([record(0, 1.0, n_prompt=100), record(0.5, 2.0, n_prompt=60)])
    assert figures["prefill_tokens_per_s"] == pytest.approx(80)
    assert figures["first_token_max_s"] == pytest.approx(1.5)
    assert figures["all_started_s"] == pytest.approx(2.0)


def test_the_worst_gap_is_the_one_that_the_arrival_made() -> None:
    running = record(0, 1.0, 1.1, 1.2, 3.2, 3.3, 9.3)
    figures = stall_figures([running], record(1.25, 3.1, n_prompt=2000))
    assert figures["worst_gap_ms"] == pytest.approx(2000)
    assert figures["before_gap_p50_ms"] == pytest.approx(100)
    assert figures["arriving_tokens"] == 2000


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (20, 1), (50, 3), (99, 5), (100, 5)])
def test_a_percentile_is_one_of_the_values(percent: float, value: float) -> None:
    assert percentile([5, 3, 1, 4, 2], percent) == value


def test_a_percentile_of_nothing_is_unknown() -> None:
    assert percentile([], 50) is None


def test_the_median_is_taken_of_the_rounds_that_know() -> None:
    rounds = [{"x": 1.0, "y": None}, {"x": 3.0, "y": 2.0}, {"x": 9.0, "y": None}]
    assert median_figures(rounds) == {"x": 3.0, "y": 2.0}


def test_ratios_are_paired_round_by_round() -> None:
    ours = [{"x": 2.0}, {"x": 30.0}, {"x": 1.0}]
    theirs = [{"x": 1.0}, {"x": 10.0}, {"x": 0.0}]
    # 2 and 3; the third pair has no ratio. The ratio of the medians would be 2.
    assert median_ratios(ours, theirs) == {"x": 2.5}
