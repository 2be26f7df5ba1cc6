"""Writing the log."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qwenkit.errors import InvalidRecord, LogUnwritable
from qwenkit.feedback.log import FeedbackLog, without_content
from qwenkit.feedback.reader import MAX_LINE_BYTES, Skipped, read_log
from qwenkit.feedback.records import RequestOptions, encode
from qwenkit.feedback.redaction import redactor

FARM = Path(__file__).with_name("writer_farm.py")


class Clock:
    """Time that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 25, 23, 59, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def ids(folder: Path) -> list[str]:
    return [record.id for record in read_log(folder)]


def test_a_record_is_one_line_in_the_file_of_the_day(tmp_path, interaction, rating) -> None:
    log = FeedbackLog(tmp_path / "feedback", clock=Clock())

    log.interaction(interaction())
    log.rating(rating(thumb="up"))

    text = (tmp_path / "feedback" / "2026-11-25.jsonl").read_text(encoding="utf-8")
    assert text == f"{encode(interaction())}\n{encode(rating(thumb='up'))}\n"


def test_nothing_is_made_before_the_first_record(tmp_path) -> None:
    FeedbackLog(tmp_path / "feedback").close()

    assert names(tmp_path) == []


def test_others_on_the_machine_may_not_read_the_log(tmp_path, interaction) -> None:
    FeedbackLog(tmp_path, clock=Clock()).interaction(interaction())

    assert (tmp_path / "2026-11-25.jsonl").stat().st_mode & 0o077 == 0


def test_a_new_day_begins_a_new_file(tmp_path, interaction) -> None:
    clock = Clock()
    log = FeedbackLog(tmp_path, clock=clock)

    log.interaction(interaction("a"))
    clock.now += timedelta(minutes=1)
    log.interaction(interaction("b"))

    assert names(tmp_path) == ["2026-11-25.jsonl", "2026-11-26.jsonl"]
    assert ids(tmp_path) == ["a", "b"]


def test_a_day_goes_on_in_another_file_where_one_is_full(tmp_path, interaction) -> None:
    size = len(encode(interaction("a"))) + 1
    log = FeedbackLog(tmp_path, max_bytes=2 * size, clock=Clock())

    for id_ in "abcde":
        log.interaction(interaction(id_))

    assert names(tmp_path) == ["2026-11-25.1.jsonl", "2026-11-25.2.jsonl", "2026-11-25.jsonl"]
    assert ids(tmp_path) == list("abcde")


def test_a_record_larger_than_a_file_may_be_is_written_all_the_same(tmp_path, interaction) -> None:
    log = FeedbackLog(tmp_path, max_bytes=1, clock=Clock())

    log.interaction(interaction("a"))
    log.interaction(interaction("b"))

    assert names(tmp_path) == ["2026-11-25.1.jsonl", "2026-11-25.jsonl"]


def test_a_log_that_is_opened_again_goes_on_in_the_last_file(tmp_path, interaction) -> None:
    for number in range(12):
        log = FeedbackLog(tmp_path, max_bytes=1, clock=Clock())
        log.interaction(interaction(str(number)))
        log.close()

    assert len(names(tmp_path)) == 12
    assert ids(tmp_path) == [str(number) for number in range(12)]


def test_the_broken_last_line_of_a_killed_writer_is_ended_first(tmp_path, interaction) -> None:
    whole = encode(interaction("a")) + "\n"
    file = tmp_path / "2026-11-25.jsonl"
    for n_kept in (*range(0, len(whole), 9), len(whole) - 2, len(whole) - 1, len(whole)):
        file.write_text(whole[:n_kept], encoding="utf-8")

        log = FeedbackLog(tmp_path, clock=Clock())
        log.interaction(interaction("b"))
        log.close()

        skipped: list[Skipped] = []
        found = [record.id for record in read_log(tmp_path, on_skip=skipped.append)]
        is_whole = n_kept >= len(whole) - 1
        assert found == (["a", "b"] if is_whole else ["b"])
        assert [each.line for each in skipped] == ([] if is_whole or not n_kept else [1])


def test_a_full_disk_is_named_and_leaves_no_half_line(tmp_path, interaction, rating) -> None:
    log = FeedbackLog(tmp_path, clock=Clock())
    log.interaction(interaction("a"))
    file = tmp_path / "2026-11-25.jsonl"
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))
    try:
        with pytest.raises(LogUnwritable) as caught:
            log.rating(rating(thumb="up"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert str(file) in caught.value.message
    assert "free some space" in caught.value.hint
    assert file.read_bytes() == before
    log.rating(rating(thumb="up"))
    assert ids(tmp_path) == ["a", "rating-1"]


def test_an_answer_that_cannot_be_written_is_counted_and_breaks_nothing(
    tmp_path, interaction, tool_run, rating, caplog
) -> None:
    (tmp_path / "feedback").write_text("a file where the folder would be", encoding="utf-8")
    log = FeedbackLog(tmp_path / "feedback")

    log.interaction(interaction())
    log.tool_run(tool_run())

    assert log.n_lost == 2
    assert "chatcmpl-1 is not in the log" in caplog.text
    with pytest.raises(LogUnwritable):
        log.rating(rating(thumb="up"))


def test_an_answer_that_makes_no_line_is_counted_and_breaks_nothing(tmp_path, interaction) -> None:
    log = FeedbackLog(tmp_path)

    log.interaction(interaction(sampling={"temperature": float("nan")}))

    assert log.n_lost == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize("wrong", [{"scale": 6}, {"rater": ""}, {"created_at": "today"}])
def test_a_rating_that_could_not_be_read_again_is_not_taken(tmp_path, rating, wrong) -> None:
    with pytest.raises(InvalidRecord):
        FeedbackLog(tmp_path).rating(rating(thumb="up", **wrong))

    assert names(tmp_path) == []


def test_a_record_too_long_to_be_read_is_not_written(tmp_path, rating) -> None:
    with pytest.raises(InvalidRecord, match="longer than 64 MiB"):
        FeedbackLog(tmp_path).rating(rating(comment="x" * MAX_LINE_BYTES))

    assert names(tmp_path) == []


def test_a_file_that_is_deleted_while_it_is_open_is_begun_anew(tmp_path, interaction) -> None:
    log = FeedbackLog(tmp_path, clock=Clock())
    log.interaction(interaction("a"))

    (tmp_path / "2026-11-25.jsonl").unlink()
    log.interaction(interaction("b"))

    assert ids(tmp_path) == ["b"]


def test_a_lock_that_is_never_let_go_is_named(tmp_path, rating) -> None:
    log = FeedbackLog(tmp_path, lock_timeout_s=0, clock=Clock())
    file = tmp_path / "2026-11-25.jsonl"
    file.touch()
    with file.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(LogUnwritable, match=r"keeps .* locked"):
            log.rating(rating(thumb="up"))


def test_threads_share_a_log(tmp_path, interaction) -> None:
    log = FeedbackLog(tmp_path, max_bytes=5000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: log.interaction(interaction(f"{i}")), range(200)))

    assert sorted(ids(tmp_path), key=int) == [str(i) for i in range(200)]


def test_files_past_their_time_are_deleted_and_no_others(tmp_path, interaction) -> None:
    clock = Clock()
    for days_ago in range(5):
        day = FeedbackLog(tmp_path, clock=lambda ago=days_ago: clock.now - timedelta(days=ago))
        day.interaction(interaction(str(days_ago)))
        day.close()
    (tmp_path / "notes.jsonl").touch()
    (tmp_path / "2026-02-30.jsonl").touch()

    deleted = FeedbackLog(tmp_path, keep_days=2, clock=clock).prune()

    assert [path.name for path in deleted] == ["2026-11-21.jsonl", "2026-11-22.jsonl"]
    assert ids(tmp_path) == ["2", "1", "0"]
    assert {"notes.jsonl", "2026-02-30.jsonl"} <= set(names(tmp_path))
    assert FeedbackLog(tmp_path, clock=clock).prune() == ()


def test_without_content_nothing_that_was_said_is_kept(tmp_path, interaction, tool_run) -> None:
    log = FeedbackLog(tmp_path, content=False, clock=Clock())
    said = interaction(
        tools=({"type": "function", "function": {"name": "secret_tool"}},),
        options=RequestOptions(stop=("secret",), response_format={"secret": 1}, max_tokens=5),
    )

    log.interaction(said)
    log.tool_run(tool_run())

    lines = (tmp_path / "2026-11-25.jsonl").read_text(encoding="utf-8").splitlines()
    kept, run = (json.loads(line) for line in lines)
    assert (kept["messages"], kept["prompt"], kept["answer"], kept["tools"]) == (
        None,
        None,
        None,
        [],
    )
    assert kept["options"]["max_tokens"] == 5
    assert (run["arguments"], run["result"]) == (None, None)
    assert "secret" not in json.dumps(kept)


def test_what_a_person_said_of_an_answer_is_kept_without_content_too(rating) -> None:
    said = rating(comment="too long")

    assert without_content(said) == said


def test_records_are_redacted_before_they_are_written(tmp_path, rating) -> None:
    log = FeedbackLog(tmp_path, redact=redactor(["email"]), clock=Clock())

    log.rating(rating(comment="ask ada@example.org"))

    assert "ada@" not in (tmp_path / "2026-11-25.jsonl").read_text(encoding="utf-8")


def test_a_log_that_a_forked_process_inherits_locks_for_itself(tmp_path, interaction) -> None:
    done = run_farm(tmp_path, n_kills=0, inherit=True)

    assert done["n_missing"] == 0
    assert done["n_records"] == done["n_acknowledged"] > 0


def test_no_acknowledged_record_is_lost_in_a_hundred_kills_under_four_writers(tmp_path) -> None:
    done = run_farm(tmp_path, n_kills=100)

    assert done["n_missing"] == 0
    assert done["n_duplicates"] == 0
    assert done["n_acknowledged"] > 500
    assert done["n_kills"] == 100


@pytest.mark.slow
def test_no_acknowledged_record_is_lost_in_three_thousand_kills(tmp_path) -> None:
    done = run_farm(tmp_path, n_kills=3000)

    assert done["n_missing"] == 0
    assert done["n_duplicates"] == 0
    assert done["n_cut_off"] > 0


def run_farm(folder: Path, *, n_kills: int, inherit: bool = False) -> dict[str, int]:
    """Four writers of which some are killed; tells what became of what they wrote."""
    options = json.dumps({"folder": str(folder), "n_kills": n_kills, "inherit": inherit})
    done = subprocess.run(
        [sys.executable, "-W", "error", str(FARM), options],
        capture_output=True,
        check=False,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr.decode()
    told: dict[str, int] = json.loads(done.stdout)
    return told
