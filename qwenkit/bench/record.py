"""What happened to the requests of a round, and the figures that follow. Pure arithmetic."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

Figures: TypeAlias = dict[str, float | None]
"""Names of metrics and their values; None where a round can't tell."""


@dataclass(slots=True)
class Record:
    """One request, filled while it streams. Times are seconds on one steady clock.

    Args:
        sent: When it was sent.
        pieces: When each piece of text came. A piece is a token, or a few where characters or
            the server's writes span several.
        n_prompt: Tokens in the prompt, as the server counts.
        n_cached: Of them, tokens whose state the server reused, where it says so.
        n_completion: Tokens generated, as the server counts.
    """

    sent: float = 0.0
    pieces: list[float] = field(default_factory=list)
    n_prompt: int = 0
    n_cached: int = 0
    n_completion: int = 0

    @property
    def first_token_s(self) -> float:
        """Seconds from sending to the first piece."""
        return self.pieces[0] - self.sent

    def gaps(self, after: float = float("-inf"), before: float = float("inf")) -> list[float]:
        """Seconds between neighbouring pieces, of those gaps that touch the time span."""
        pairs = itertools.pairwise(self.pieces)
        return [end - start for start, end in pairs if end > after and start < before]

    def tokens_within(self, start: float, end: float) -> float:
        """How many tokens came after `start` until `end`."""
        n_pieces = sum(start < each <= end for each in self.pieces)
        return n_pieces * self.n_completion / len(self.pieces)


def decode_figures(records: Sequence[Record]) -> Figures:
    """How fast answers came.

    `decode_tokens_per_s` counts only the time in which all of them were being generated;
    `output_tokens_per_s` all tokens over all time, prompts and waiting included.
    """
    sent = min(each.sent for each in records)
    last = max(each.pieces[-1] for each in records)
    n_tokens = sum(each.n_completion for each in records)
    gaps = [gap for each in records for gap in each.gaps()]
    return {
        "decode_tokens_per_s": _common_rate(records),
        "output_tokens_per_s": n_tokens / (last - sent),
        **_first_token_figures(records),
        "gap_p50_ms": _milliseconds(percentile(gaps, 50)),
        "gap_p99_ms": _milliseconds(percentile(gaps, 99)),
        "gap_max_ms": _milliseconds(max(gaps, default=None)),
    }


def prefill_figures(records: Sequence[Record]) -> Figures:
    """How fast prompts were computed, until each had its first token."""
    sent = min(each.sent for each in records)
    last_first = max(each.pieces[0] for each in records)
    n_tokens = sum(each.n_prompt for each in records)
    return {
        "prefill_tokens_per_s": n_tokens / (last_first - sent),
        **_first_token_figures(records),
        "all_started_s": last_first - sent,
    }


def stall_figures(running: Sequence[Record], arriving: Record) -> Figures:
    """What a prompt's arrival did to the streams that ran."""
    came, answered = arriving.sent, arriving.pieces[0]
    before = [gap for each in running for gap in each.gaps(before=came)]
    meanwhile = [gap for each in running for gap in each.gaps(came, answered)]
    return {
        "worst_gap_ms": _milliseconds(max(meanwhile, default=None)),
        "meanwhile_gap_p50_ms": _milliseconds(percentile(meanwhile, 50)),
        "before_gap_p50_ms": _milliseconds(percentile(before, 50)),
        "first_token_s": arriving.first_token_s,
        "arriving_tokens": arriving.n_prompt,
    }


def percentile(values: Iterable[float], percent: float) -> float | None:
    """The smallest value that at least so many percent of them don't exceed."""
    ordered = sorted(values)
    if not ordered:
        return None
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def median_figures(rounds: Sequence[Figures]) -> Figures:
    """The median of each metric over rounds, of those that could tell it."""
    return {name: _median(figures[name] for figures in rounds) for name in rounds[0]}


def median_ratios(ours: Sequence[Figures], theirs: Sequence[Figures]) -> Figures:
    """The median over rounds of each metric's ratio, first to second, paired round by round."""
    return {
        name: _median(_ratio(a[name], b[name]) for a, b in zip(ours, theirs, strict=True))
        for name in ours[0]
    }


def _common_rate(records: Sequence[Record]) -> float | None:
    start = max(each.pieces[0] for each in records)
    end = min(each.pieces[-1] for each in records)
    if end <= start:
        return None  # they never ran all at once
    return sum(each.tokens_within(start, end) for each in records) / (end - start)


def _first_token_figures(records: Sequence[Record]) -> Figures:
    waits = [each.first_token_s for each in records]
    return {"first_token_p50_s": percentile(waits, 50), "first_token_max_s": max(waits)}


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
