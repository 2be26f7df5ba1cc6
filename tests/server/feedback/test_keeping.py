"""What is kept, for how long, and how that changes while the server runs."""

import asyncio
import logging
import threading
from datetime import UTC, datetime, timedelta

import pytest

from qwenkit.errors import InvalidSettings
from qwenkit.feedback.records import ToolRun, now
from qwenkit.server.feedback.service import seconds_to_next_day
from qwenkit.settings import Settings

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"


async def take_on(client, **changes):
    rereader = client.state.rereader
    given = {name: getattr(rereader.settings, name) for name in Settings.model_fields}
    await rereader.take_on(Settings(_env_file=None, **{**given, **changes}))


def old_file(log, days):
    log.folder.mkdir(parents=True, exist_ok=True)
    day = (datetime.now(UTC) - timedelta(days=days)).date()
    path = log.folder / f"{day.isoformat()}.jsonl"
    path.write_text("", encoding="utf-8")
    return path


async def test_what_is_too_old_is_deleted_at_the_start(make_app, run, log, until):
    old, young = old_file(log, 9), old_file(log, 3)
    async with run(make_app(log_keep_days=7)):
        await asyncio.to_thread(until, lambda: not old.exists())
        assert young.exists()


async def test_without_a_number_of_days_everything_stays(make_app, run, log):
    old = old_file(log, 4000)
    async with run(make_app()) as client:
        await client.state.feedback.prune()
    assert old.exists()


async def test_old_logs_that_can_not_be_deleted_are_told_and_stop_nothing(
    make_app, run, log, caplog
):
    path = old_file(log, 9)
    path.unlink()
    path.mkdir()
    async with run(make_app(log_keep_days=7)) as client:
        with caplog.at_level(logging.WARNING):
            await client.state.feedback.prune()
        assert (await client.get("/healthz")).status_code == 200
    assert "old logs could not be deleted" in caplog.text


def test_the_next_day_begins_at_midnight_utc():
    assert seconds_to_next_day(datetime(2026, 11, 25, 23, 59, 30, tzinfo=UTC)) == 30
    assert seconds_to_next_day(datetime(2026, 12, 31, 0, 0, 0, tzinfo=UTC)) == 86_400


async def test_a_running_server_takes_on_what_is_kept(make_app, run, ask, log, drained):
    async with run(make_app()) as client:
        await client.post(CHAT, json=ask("hello"))
        await take_on(client, log_answers="off")
        await client.post(CHAT, json=ask("hello"))
        await take_on(client, log_answers="metadata")
        await client.post(CHAT, json=ask("hello"))
        await take_on(client, log_answers="full", log_redact="email")
        await client.post(CHAT, json=ask("ada@example.org"))
        await drained(client)
    full, metadata, redacted = log.answers()
    assert full.answer.content == "Hello there!"
    assert metadata.answer is None
    assert "ada@" not in redacted.messages[0]["content"]


async def test_patterns_that_can_not_be_used_leave_what_was(make_app, run, ask, log, caplog):
    async with run(make_app(log_redact="email")) as client:
        with caplog.at_level(logging.ERROR):
            await take_on(client, log_redact="no-such-pattern")
        await client.post(CHAT, json=ask("ada@example.org"))
        (record,) = log.answers()
    assert "ada@" not in record.messages[0]["content"]
    assert "LOG_REDACT has no pattern" in caplog.text


def test_a_server_with_patterns_that_can_not_be_used_does_not_start(make_app):
    with pytest.raises(InvalidSettings, match="LOG_REDACT"):
        make_app(log_redact="no-such-pattern")


async def test_everything_that_waits_is_written_before_the_server_ends(make_app, run, log):
    def made(number):
        return ToolRun(
            id=f"call_{number}",
            created_at=now(),
            name="clock",
            arguments="{}",
            result="noon",
            is_error=False,
            duration_s=0.1,
        )

    begin = threading.Event()
    async with run(make_app()) as client:
        recorder = client.state.recorder
        recorder.submit(lambda: begin.wait(10) and ())
        for number in range(200):
            recorder.submit(lambda number=number: [made(number)])
        begin.set()
    assert [each.id for each in log.tool_runs()] == [f"call_{i}" for i in range(200)]


async def test_a_server_that_answers_nothing_leaves_no_folder(make_app, run, log):
    async with run(make_app()) as client:
        await client.get("/healthz")
    assert not log.folder.exists()
