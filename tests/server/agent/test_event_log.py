"""The bounded log behind a stream."""

import asyncio

import pytest

from qwenkit.server.agent.event_log import FROM_THE_START, EventLog

pytestmark = pytest.mark.anyio


async def read(log, after=FROM_THE_START):
    return [event.data async for event in log.follow(after)]


def spell(event):
    return f"{event.id[0]}-{event.id[1]}"


async def test_events_have_ids_that_grow():
    log = EventLog()
    for number in range(100):
        log.write("x", str(number))
    log.close()
    ids = [event.id async for event in log.follow(FROM_THE_START)]
    assert ids == sorted(set(ids))


async def test_a_reader_goes_on_behind_the_event_it_names():
    log = EventLog()
    for number in range(5):
        log.write("x", str(number))
    log.close()
    ids = [spell(event) async for event in log.follow(FROM_THE_START)]
    assert await read(log, ids[1]) == ["2", "3", "4"]
    assert await read(log, ids[4]) == []
    assert await read(log, "nonsense") == ["0", "1", "2", "3", "4"]
    assert await read(log, None) == []


async def test_the_oldest_events_are_forgotten_first():
    log = EventLog(max_bytes=10)
    for number in range(10):
        log.write("x", f"{number:04}")
    log.close()
    assert await read(log) == ["0008", "0009"]


async def test_an_event_over_the_bound_is_kept_alone():
    log = EventLog(max_bytes=10)
    log.write("x", "a")
    log.write("x", "b" * 100)
    log.close()
    assert await read(log) == ["b" * 100]


async def test_readers_follow_while_it_is_written():
    log = EventLog()
    readers = [asyncio.create_task(read(log)) for _ in range(3)]
    for number in range(3):
        log.write("x", str(number))
        await asyncio.sleep(0)
    assert log.n_readers == 3
    log.close(forget=True)
    assert [await reader for reader in readers] == [["0", "1", "2"]] * 3
    assert log.n_readers == 0
    assert await read(log) == []


async def test_a_reader_that_was_too_slow_goes_on_with_what_is_left():
    log = EventLog(max_bytes=2)
    events = log.follow(FROM_THE_START)
    log.write("x", "0")
    assert (await anext(events)).data == "0"
    for number in range(1, 6):
        log.write("x", str(number))
    log.close()
    assert [event.data async for event in events] == ["4", "5"]


async def test_an_event_is_spelled_as_browsers_read_it():
    log = EventLog()
    log.write("values", "{}")
    log.close()
    [event] = [event async for event in log.follow(FROM_THE_START)]
    assert event.encode(with_id=False) == b"event: values\ndata: {}\n\n"
    assert event.encode(with_id=True).startswith(f"id: {spell(event)}\n".encode())
