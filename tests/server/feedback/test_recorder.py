"""Records reach their sinks; what a sink does is no answer's concern."""

import asyncio
import logging
import threading
from collections import Counter
from dataclasses import replace

import pytest

from qwenkit.chat.events import ChatDone, ChatFinish, ChatStarted, ChoiceDone, Timings, Usage
from qwenkit.errors import LogUnwritable
from qwenkit.feedback.records import Rating, ToolRun, now
from qwenkit.server.recording import LOG, Recorder, recorded

pytestmark = pytest.mark.anyio

EVENTS = (
    ChatStarted(1, 0),
    ChoiceDone(0, ChatFinish.STOP),
    ChatDone(Usage(1, 0, 1, 0), Timings(0.0, 0.0, 0.0)),
)


def tool_run(call_id="call_1"):
    return ToolRun(
        id=call_id,
        created_at=now(),
        name="clock",
        arguments="{}",
        result="noon",
        is_error=False,
        duration_s=0.1,
    )


def rating():
    return Rating(id="rating-1", created_at=now(), answer_id="chatcmpl-1", source="api", thumb="up")


class Kept:
    """A sink that keeps everything; may be held, and may fail."""

    def __init__(self, failure=None):
        self.records = []
        self.failure = failure
        self.was_reached = threading.Event()
        self.is_open = threading.Event()
        self.is_open.set()
        self.is_closed = False

    def interaction(self, record):
        self._take(record)

    def rating(self, record):
        self._take(record)

    def tool_run(self, record):
        self._take(record)

    def close(self):
        self.is_closed = True

    def _take(self, record):
        self.was_reached.set()
        assert self.is_open.wait(10)
        if self.failure is not None:
            raise self.failure
        self.records.append(record)


@pytest.fixture
def counts():
    return Counter()


@pytest.fixture
async def recorder(counts):
    recorder = Recorder(lambda *what: counts.update([what]), wait_s=0.05, most_waiting=3)
    yield recorder
    await recorder.close()


class Capture:
    """Counts events."""

    def __init__(self):
        self.events = []

    def follow(self, event):
        self.events.append(event)

    def records(self):
        return [tool_run(f"call_{len(self.events)}")]


async def told(events=EVENTS):
    for event in events:
        yield event


async def test_the_last_event_waits_until_the_log_has_the_answer():
    recorder, log, passed_on = Recorder(lambda *what: None, wait_s=10), Kept(), []
    take = passed_on.append
    log.is_open.clear()
    recorder.attach(LOG, log)

    async def listen():
        async for event in recorded(told(), Capture(), recorder):
            take(event)

    listening = asyncio.create_task(listen())
    assert await asyncio.to_thread(log.was_reached.wait, 10)
    assert passed_on == [*EVENTS[:-1]]
    log.is_open.set()
    await listening
    assert passed_on == [*EVENTS]
    assert [each.id for each in log.records] == ["call_3"]
    await recorder.close()


async def test_but_it_does_not_wait_for_ever(recorder):
    log = Kept()
    log.is_open.clear()
    recorder.attach(LOG, log)
    assert [event async for event in recorded(told(), Capture(), recorder)] == [*EVENTS]
    assert log.records == []
    log.is_open.set()
    await recorder.close()
    assert len(log.records) == 1


async def test_an_answer_that_is_cut_off_is_recorded_without_a_wait(recorder):
    log = Kept()
    recorder.attach(LOG, log)
    stream = recorded(told(), Capture(), recorder)
    await anext(stream)
    await stream.aclose()
    await recorder.close()
    assert [each.id for each in log.records] == ["call_1"]


async def test_closing_a_recorded_stream_closes_the_stream_below(recorder):
    closed = []

    async def below():
        try:
            yield EVENTS[0]
            yield EVENTS[1]
        finally:
            closed.append(True)

    recorder.attach(LOG, Kept())
    stream = recorded(below(), Capture(), recorder)
    await anext(stream)
    await stream.aclose()
    assert closed == [True]


@pytest.mark.parametrize("failure", [OSError("disk"), LogUnwritable("full"), ValueError("bug")])
async def test_a_sink_that_fails_breaks_neither_answers_nor_other_sinks(
    recorder, counts, caplog, failure
):
    broken, sound = Kept(failure), Kept()
    recorder.attach(LOG, broken)
    recorder.attach("other", sound)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert [e async for e in recorded(told(), Capture(), recorder)] == [*EVENTS]
        await recorder.close()
    assert len(sound.records) == 3
    assert counts[LOG, "tool_run", "failed"] == 3
    assert counts["other", "tool_run", "written"] == 3
    assert len(caplog.records) == 1  # said once, not every time


async def test_a_sink_that_hangs_holds_up_no_other(recorder):
    hanging, sound = Kept(), Kept()
    hanging.is_open.clear()
    recorder.attach(LOG, sound)
    recorder.attach("hanging", hanging)
    await recorder.written(lambda: [tool_run()])
    assert len(sound.records) == 1
    hanging.is_open.set()


async def test_records_beyond_what_may_wait_are_counted_and_dropped(recorder, counts):
    log = Kept()
    log.is_open.clear()
    recorder.attach(LOG, log)
    for _ in range(10):
        recorder.submit(lambda: [tool_run()])
    log.is_open.set()
    await recorder.close()
    n_dropped = counts[LOG, "batch", "dropped"]
    assert n_dropped >= 6
    assert len(log.records) == 10 - n_dropped


async def test_records_are_made_once_and_not_on_the_loop(recorder):
    made = []

    def make():
        made.append(threading.get_ident())
        return [tool_run()]

    recorder.attach(LOG, Kept())
    recorder.attach("other", Kept())
    await recorder.written(make)
    await recorder.close()
    assert len(made) == 1
    assert made[0] != threading.get_ident()


async def test_what_no_sink_may_see_is_taken_out_before_any_sees_it(recorder):
    log, other = Kept(), Kept()
    recorder.prepare = lambda record: tool_run("prepared")
    recorder.attach(LOG, log)
    recorder.attach("other", other)
    await recorder.written(lambda: [tool_run()])
    await recorder.close()
    assert [each.id for each in (*log.records, *other.records)] == ["prepared"] * 2


async def test_a_rating_is_given_back_as_it_is_kept_and_made_so_beside_the_loop(recorder):
    prepared_on = []

    def prepare(record):
        prepared_on.append(threading.get_ident())
        return replace(record, comment="[redacted]")

    recorder.prepare = prepare
    recorder.attach(LOG, Kept())
    kept = await recorder.rate(rating())
    assert kept.comment == "[redacted]"
    assert len(prepared_on) == 1
    assert prepared_on[0] != threading.get_ident()


async def test_without_a_log_nothing_is_recorded_anywhere(recorder):
    other = Kept()
    recorder.attach("other", other)
    assert not recorder.wants(None)
    recorder.submit(lambda: [tool_run()])
    await recorder.close()
    assert other.records == []


async def test_a_rating_is_acknowledged_when_it_is_written_and_then_passed_on(recorder):
    log, other = Kept(), Kept()
    recorder.attach(LOG, log)
    recorder.attach("other", other)
    await recorder.rate(rating())
    assert [each.thumb for each in log.records] == ["up"]
    await recorder.close()
    assert len(other.records) == 1


@pytest.mark.parametrize("failure", [OSError("disk"), LogUnwritable("the disk is full")])
async def test_a_rating_that_is_not_written_is_refused_and_goes_nowhere_else(recorder, failure):
    other = Kept()
    recorder.attach(LOG, Kept(failure))
    recorder.attach("other", other)
    with pytest.raises(LogUnwritable):
        await recorder.rate(rating())
    await recorder.close()
    assert other.records == []


async def test_a_sink_that_takes_anothers_place_gets_what_comes_after(recorder):
    before, after = Kept(), Kept()
    recorder.attach(LOG, before)
    recorder.submit(lambda: [tool_run("one")])
    recorder.attach(LOG, after)
    recorder.submit(lambda: [tool_run("two")])
    await recorder.close()
    assert [each.id for each in before.records] == ["one"]
    assert [each.id for each in after.records] == ["two"]
    assert before.is_closed
    assert after.is_closed


async def test_a_sink_that_never_got_anything_is_closed_too(recorder):
    sink = Kept()
    recorder.attach(LOG, sink)
    await recorder.close()
    assert sink.is_closed
