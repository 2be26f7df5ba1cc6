from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from qwenkit.feedback.langfuse import ids
from qwenkit.feedback.langfuse.sink import LangfuseSink
from qwenkit.feedback.records import Interaction, Rating, ToolRun
from qwenkit.settings import LangfuseSpec


class Counts:
    """What became of records."""

    def __init__(self) -> None:
        self.sent = 0
        self.lost: Counter[str] = Counter()
        self._lock = threading.Lock()

    def on_langfuse_sent(self, n_records: int) -> None:
        with self._lock:
            self.sent += n_records

    def on_langfuse_lost(self, reason: str, n_records: int) -> None:
        with self._lock:
            self.lost[reason] += n_records


@pytest.fixture
def counts() -> Counts:
    return Counts()


@pytest.fixture
def open_sink(spec: LangfuseSpec, finder: Any, counts: Counts) -> Callable[..., LangfuseSink]:
    def open_sink(changed: LangfuseSpec | None = None, **options: Any) -> LangfuseSink:
        given: dict[str, Any] = {"pauses_s": (0.0,)} | options
        return LangfuseSink(changed or spec, find=finder, counter=counts, **given)

    return open_sink


def test_answers_tools_and_ratings_arrive_in_one_trace(
    open_sink: Callable[..., LangfuseSink],
    langfuse: Any,
    finder: Any,
    counts: Counts,
    an_answer: Callable[..., Interaction],
    a_rating: Callable[..., Rating],
    a_tool_run: Callable[..., ToolRun],
) -> None:
    finder.answers["chatcmpl-1"], finder.ratings = an_answer(), [a_rating(thumb="up")]
    sink = open_sink()
    sink.interaction(an_answer())
    sink.tool_run(a_tool_run())
    sink.rating(a_rating(thumb="up"))
    sink.close()
    (generation,), (tool,) = langfuse.observations("generation"), langfuse.observations("tool")
    assert tool.parent_id == generation.id
    score = langfuse.scores["rating-1-thumb"]
    assert score["traceId"] == generation.trace_id == tool.trace_id
    assert score["observationId"] == generation.id
    assert score["environment"] == "testing"
    assert (counts.sent, counts.lost) == (3, Counter())
    assert finder.closed


def test_a_rating_takes_back_what_it_replaces(
    open_sink: Callable[..., LangfuseSink],
    langfuse: Any,
    finder: Any,
    an_answer: Callable[..., Interaction],
    a_rating: Callable[..., Rating],
) -> None:
    first = a_rating("rating-1", thumb="up")
    second = a_rating("rating-2", thumb="down", created_at="2026-11-25T15:00:00.000000Z")
    finder.answers["chatcmpl-1"], finder.ratings = an_answer(), [first]
    sink = open_sink()
    sink.rating(first)
    sink.close()
    finder.ratings.append(second)
    sink = open_sink()
    sink.rating(second)
    sink.close()
    assert {name: each["value"] for name, each in langfuse.scores.items()} == {"rating-2-thumb": 0}
    assert langfuse.deleted == ["rating-1-thumb"]


def test_a_retracted_rating_deletes_its_scores(
    open_sink: Callable[..., LangfuseSink],
    langfuse: Any,
    finder: Any,
    an_answer: Callable[..., Interaction],
    a_rating: Callable[..., Rating],
) -> None:
    given = a_rating("rating-1", scale=5)
    gone = a_rating("rating-2", retracted=True, created_at="2026-11-25T15:00:00.000000Z")
    finder.answers["chatcmpl-1"], finder.ratings = an_answer(), [given, gone]
    sink = open_sink()
    sink.rating(gone)
    sink.close()
    assert langfuse.deleted == ["rating-1-scale"]


def test_a_rating_from_langfuse_is_not_sent_back(
    open_sink: Callable[..., LangfuseSink],
    langfuse: Any,
    a_rating: Callable[..., Rating],
) -> None:
    sink = open_sink()
    sink.rating(a_rating(thumb="up", source="langfuse", external_id="langfuse:1"))
    sink.close()
    assert langfuse.requests == []


def test_a_rating_of_an_unknown_answer_is_counted(
    open_sink: Callable[..., LangfuseSink], counts: Counts, a_rating: Callable[..., Rating]
) -> None:
    sink = open_sink()
    sink.rating(a_rating(thumb="up"))
    sink.close()
    assert counts.lost == Counter(unusable=1)


def test_records_that_come_together_are_sent_together(
    open_sink: Callable[..., LangfuseSink],
    langfuse: Any,
    spec: LangfuseSpec,
    counts: Counts,
    an_answer: Callable[..., Interaction],
) -> None:
    sink = open_sink(replace(spec, flush_at=10, flush_interval_s=60.0))
    for number in range(20):
        sink.interaction(an_answer(f"chatcmpl-{number}"))
    sink.close()
    assert len(langfuse.spans) == counts.sent == 20
    assert len(langfuse.requests) == 2


def test_a_server_that_hangs_costs_no_time_and_what_finds_no_place_is_counted(
    open_sink: Callable[..., LangfuseSink],
    langfuse: Any,
    spec: LangfuseSpec,
    counts: Counts,
    an_answer: Callable[..., Interaction],
) -> None:
    langfuse.open.clear()
    sink = open_sink(replace(spec, timeout_s=30.0), most_waiting=50, close_s=0.1)
    answer = an_answer()
    began = time.perf_counter()
    for _ in range(1000):
        sink.interaction(answer)
    assert time.perf_counter() - began < 1.0
    began = time.perf_counter()
    sink.close()
    assert time.perf_counter() - began < 2.0
    # A few are on their way, and those that wait at the end are given up.
    assert counts.lost["queue_full"] >= 1000 - 50 - 2 * spec.flush_at
    assert counts.lost["closed"] > 0
    langfuse.open.set()


@pytest.mark.parametrize("status", [400, 401, 403, 500, 503])
def test_a_server_that_refuses_costs_a_counter_and_is_said_once(
    open_sink: Callable[..., LangfuseSink],
    langfuse: Any,
    spec: LangfuseSpec,
    counts: Counts,
    an_answer: Callable[..., Interaction],
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    langfuse.failures += [status] * 10
    sink = open_sink(replace(spec, flush_at=1))
    for number in range(3):
        sink.interaction(an_answer(f"chatcmpl-{number}"))
    sink.close()
    assert counts.lost == Counter(refused=3)
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "sk-lf" not in caplog.text


def test_a_server_that_is_not_there_costs_a_counter(
    open_sink: Callable[..., LangfuseSink],
    spec: LangfuseSpec,
    counts: Counts,
    an_answer: Callable[..., Interaction],
) -> None:
    sink = open_sink(replace(spec, base_url="http://127.0.0.1:9", timeout_s=1.0))
    sink.interaction(an_answer())
    sink.close()
    assert counts.lost == Counter(unreachable=1)


def test_a_server_that_comes_back_gets_what_comes_then(
    open_sink: Callable[..., LangfuseSink],
    langfuse: Any,
    spec: LangfuseSpec,
    counts: Counts,
    an_answer: Callable[..., Interaction],
) -> None:
    langfuse.failures += [400]
    sink = open_sink(replace(spec, flush_at=1))
    sink.interaction(an_answer("chatcmpl-1"))
    sink.interaction(an_answer("chatcmpl-2"))
    sink.close()
    (span,) = langfuse.spans.values()
    assert span.id == ids.answer_observation_id("chatcmpl-2")
    assert (counts.sent, counts.lost) == (1, Counter(refused=1))


def test_a_record_without_a_form_in_json_does_not_keep_others_from_arriving(
    open_sink: Callable[..., LangfuseSink],
    langfuse: Any,
    counts: Counts,
    an_answer: Callable[..., Interaction],
) -> None:
    sink = open_sink()
    sink.interaction(an_answer("chatcmpl-1", messages=({"role": "user", "content": {1}},)))
    sink.interaction(an_answer("chatcmpl-2"))
    sink.close()
    assert len(langfuse.spans) == 1
    assert (counts.sent, counts.lost) == (1, Counter(unusable=1))


def test_a_refused_score_is_counted(
    open_sink: Callable[..., LangfuseSink],
    langfuse: Any,
    finder: Any,
    counts: Counts,
    an_answer: Callable[..., Interaction],
    a_rating: Callable[..., Rating],
) -> None:
    finder.answers["chatcmpl-1"], finder.ratings = an_answer(), [a_rating(thumb="up")]
    langfuse.refused_scores.add("rating-1-thumb")
    sink = open_sink()
    sink.rating(a_rating(thumb="up"))
    sink.close()
    assert (counts.sent, counts.lost) == (0, Counter(refused=1))


def test_what_comes_after_closing_is_counted(
    open_sink: Callable[..., LangfuseSink],
    langfuse: Any,
    counts: Counts,
    an_answer: Callable[..., Interaction],
) -> None:
    sink = open_sink()
    sink.close()
    sink.interaction(an_answer())
    assert counts.lost == Counter(closed=1)


def test_pauses_between_tries_end_when_the_sink_is_closed(
    open_sink: Callable[..., LangfuseSink],
    langfuse: Any,
    counts: Counts,
    an_answer: Callable[..., Interaction],
) -> None:
    langfuse.failures += [503, 503]
    sink = open_sink(pauses_s=(600.0,), close_s=10.0)
    sink.interaction(an_answer())
    began = time.perf_counter()
    sink.close()
    assert time.perf_counter() - began < 5.0
    assert counts.lost == Counter(refused=1)
