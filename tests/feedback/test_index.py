"""Finding answers and ratings in the log."""

from __future__ import annotations

import base64
import multiprocessing
import os
import random
import signal
import sqlite3
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from qwenkit.errors import InvalidRequest, LogUnreadable
from qwenkit.feedback.catching_up import SPARE_TEXTS
from qwenkit.feedback.database import FILE
from qwenkit.feedback.index import FeedbackIndex
from qwenkit.feedback.log import FeedbackLog
from qwenkit.feedback.query import MAX_GROUP, Query, RatedAnswer
from qwenkit.feedback.records import (
    AdapterUsed,
    AnswerText,
    Comparison,
    Edit,
    Record,
    encode,
)

DAY = "2026-11-25.jsonl"


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "feedback"
    made.mkdir()
    return made


@pytest.fixture
def index(folder) -> Iterator[FeedbackIndex]:
    with closing(FeedbackIndex(folder)) as opened:
        yield opened


def write(folder: Path, records: Iterable[Record], name: str = DAY) -> None:
    with (folder / name).open("a", encoding="utf-8") as file:
        file.writelines(f"{encode(record)}\n" for record in records)


def ids(answers: Iterable[RatedAnswer]) -> list[str]:
    return [answer.interaction.id for answer in answers]


def found(index: FeedbackIndex, **query) -> list[str]:
    return ids(index.search(Query(**query)).items)


def test_answers_are_found_newest_first_with_the_ratings_that_count(
    folder, index, interaction, rating
) -> None:
    first, second = interaction("a", minute=1), interaction("b", minute=2)
    write(folder, [first, second, rating("r1", "a", minute=3, thumb="down")])
    write(folder, [rating("r2", "a", minute=4, thumb="up", scale=5)])

    report = index.refresh()

    assert (report.n_records, report.n_skipped) == (4, 0)
    up = rating("r2", "a", minute=4, thumb="up", scale=5)
    assert index.search(Query()).items == (RatedAnswer(second, ()), RatedAnswer(first, (up,)))
    assert index.answer("a") == RatedAnswer(first, (up,))
    assert index.answer("c") is None
    assert index.latest_change() == up.created_at


def test_a_refresh_takes_in_only_what_is_new(folder, index, interaction) -> None:
    write(folder, [interaction("a")])
    assert index.refresh().n_records == 1
    assert index.refresh().n_records == 0

    write(folder, [interaction("b")])
    write(folder, [interaction("c")], "2026-11-26.jsonl")

    assert index.refresh().n_records == 2
    assert sorted(found(index)) == ["a", "b", "c"]


def test_a_half_line_waits_until_it_is_whole(folder, index, interaction) -> None:
    line = encode(interaction("a")).encode() + b"\n"
    for byte in (line[:1], line[1:50], line[50:-1]):
        with (folder / DAY).open("ab") as file:
            file.write(byte)
        report = index.refresh()
        assert (report.n_records, report.n_skipped) == (0, 0)

    with (folder / DAY).open("ab") as file:
        file.write(line[-1:])
    assert index.refresh().n_records == 1


def test_lines_that_hold_no_record_are_counted_and_named_once(folder, index, interaction) -> None:
    write(folder, [interaction("a")])
    with (folder / DAY).open("a", encoding="utf-8") as file:
        file.write("hello\n\n" + "{}\n" * 150)
    write(folder, [interaction("b")])

    report = index.refresh()

    assert (report.n_records, report.n_skipped) == (2, 151)
    assert [(each.file.name, each.line) for each in report.skipped[:2]] == [(DAY, 2), (DAY, 4)]
    assert len(report.skipped) == 100
    assert index.refresh().n_skipped == 0


@pytest.fixture
def library(folder, index, interaction, rating) -> FeedbackIndex:
    """Answers a to f, a minute apart."""
    tuned = AdapterUsed(name="tuned", version="3")
    write(
        folder,
        [
            interaction("a", minute=0, thread_id="t1"),
            interaction("b", minute=1, thread_id="t1", model="demo"),
            interaction("c", minute=2, thread_id="t2", adapter=tuned),
            interaction("d", minute=3, answer=AnswerText(content="Grüße, 世界你好, E=mc² 100%")),
            interaction("e", minute=4, messages=None, prompt="Once upon", answer=None),
            interaction(
                "f",
                minute=5,
                messages=(
                    {"role": "user", "content": "Ararat again?"},
                    {"role": "user", "content": [{"type": "text", "text": "Mount Etna"}]},
                ),
            ),
            rating("r1", "a", rater="ada", thumb="up", scale=4),
            rating("r2", "b", rater="ada", thumb="down", scale=2),
            rating("r3", "b", rater="bob", thumb="up"),
            rating("r4", "c", compared=Comparison(other_id="d", verdict="better")),
        ],
    )
    index.refresh()
    return index


@pytest.mark.parametrize(
    ("asked", "answers"),
    [
        ({}, "fedcba"),
        ({"thread_id": "t1"}, "ba"),
        ({"thread_id": "t9"}, ""),
        ({"model": "demo"}, "b"),
        ({"adapter": "tuned"}, "c"),
        ({"adapter": ""}, "fedba"),
        ({"rater": "ada"}, "ba"),
        ({"rater": "anonymous"}, "c"),
        ({"thumb": "up"}, "ba"),
        ({"thumb": "up", "rater": "ada"}, "a"),
        ({"thumb": "down", "rater": "bob"}, ""),
        ({"min_scale": 3}, "a"),
        ({"max_scale": 3}, "b"),
        ({"min_scale": 2, "max_scale": 4}, "ba"),
        ({"thumb": "up", "max_scale": 2}, "b"),
        ({"thumb": "up", "max_scale": 2, "rater": "bob"}, ""),
        ({"rated": True}, "dcba"),
        ({"rated": False}, "fe"),
        ({"since": "2026-11-25T00:02"}, "fedc"),
        ({"until": "2026-11-25T00:02"}, "ba"),
        ({"since": "2026-11-26"}, ""),
        ({"text": "ARARAT"}, "dcba"),
        ({"text": "5,137"}, "fcba"),
        ({"text": "etna"}, "f"),
        ({"text": "upon"}, "e"),
        ({"text": "grüße"}, "d"),
        ({"text": "GRÜ"}, "d"),
        ({"text": "世界你"}, "d"),
        ({"text": "世界"}, "d"),
        ({"text": "²"}, "d"),
        ({"text": "mc² 100%"}, "d"),
        ({"text": '"; DROP TABLE answers; --'}, ""),
        ({"text": "tall rarat"}, ""),
        ({"text": "ararat", "thread_id": "t1", "thumb": "down"}, "b"),
    ],
)
def test_a_search_finds(library, asked, answers: str) -> None:
    assert found(library, **asked) == list(answers)
    assert library.count(Query(**asked)) == len(answers)
    assert ids(library.answers(Query(**asked))) == list(reversed(answers))


@pytest.mark.parametrize("limit", [1, 2, 3, 6])
@pytest.mark.parametrize("asked", [{}, {"text": "ararat"}, {"rated": True}])
def test_pages_hold_every_answer_once(library, limit: int, asked) -> None:
    pages = []
    cursor = None
    while True:
        page = library.search(Query(limit=limit, cursor=cursor, **asked))
        pages += ids(page.items)
        assert len(page.items) <= limit
        cursor = page.next_cursor
        if cursor is None:
            break

    assert pages == found(library, **asked)


@pytest.mark.parametrize(("text", "n_pages"), [("é", 3), ("é!", 3), ("né!", 1)])
def test_a_page_looks_for_a_text_in_so_many_answers_at_most(
    folder, index, interaction, monkeypatch, text: str, n_pages: int
) -> None:
    monkeypatch.setattr("qwenkit.feedback.index.CHUNK", 2)
    monkeypatch.setattr("qwenkit.feedback.index.MAX_LOOKED_AT", 3)
    said = {0: "né!", 5: "né!"}
    write(
        folder,
        [
            interaction(str(i), minute=i, answer=AnswerText(content=said.get(i, "no")))
            for i in range(7)
        ],
    )
    index.refresh()

    pages = [index.search(Query(text=text, limit=5))]
    while pages[-1].next_cursor is not None:
        pages.append(index.search(Query(text=text, limit=5, cursor=pages[-1].next_cursor)))

    assert [each for page in pages for each in ids(page.items)] == ["5", "0"]
    assert len(pages) == n_pages


def test_what_is_written_meanwhile_does_not_move_the_pages(folder, library, interaction) -> None:
    page = library.search(Query(limit=2))
    write(folder, [interaction("new", minute=9)])
    library.refresh()

    rest = library.search(Query(limit=9, cursor=page.next_cursor))

    assert ids(page.items) + ids(rest.items) == list("fedcba")


def in_base64(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        *("x", "", "bnVsbA==", "WzFd", "Ä"),
        *map(
            in_base64, ('["2026", 1e999]', f'["2026", {2**64}]', '["\\ud800", 1]', '{"a":1,"b":2}')
        ),
    ],
)
def test_a_cursor_that_was_never_given_out_is_refused(library, cursor: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        library.search(Query(cursor=cursor))

    assert caught.value.param == "cursor"


def test_ratings_are_found_by_conversation_and_by_answer(folder, library, rating) -> None:
    write(folder, [rating("r5", "unknown", minute=9, thread_id="t1", thumb="up")])
    library.refresh()

    assert [each.id for each in library.ratings(thread_id="t1")] == ["r1", "r2", "r3", "r5"]
    assert [each.id for each in library.ratings(answer_id="b")] == ["r2", "r3"]
    assert [each.id for each in library.all_ratings()] == ["r1", "r2", "r3", "r4", "r5"]


def test_a_retracted_rating_counts_nowhere(folder, library, rating) -> None:
    gone = [
        rating("r5", "a", rater="ada", minute=9, retracted=True),
        rating("r6", "c", minute=9, retracted=True),
    ]
    write(folder, gone)
    library.refresh()

    assert found(library, rated=True) == ["b"]
    assert library.ratings(answer_id="a") == ()
    assert found(library, thumb="up") == ["b"]


def test_a_rating_may_be_written_before_its_answer(folder, index, interaction, rating) -> None:
    write(folder, [rating("r", "a", thumb="up"), interaction("a")])
    index.refresh()

    assert found(index, thumb="up") == ["a"]


def test_runs_of_tools_are_found_by_conversation_and_by_answer(folder, index, tool_run) -> None:
    second = tool_run("2", minute=2, thread_id="t", answer_id="a")
    first = tool_run("1", minute=1, thread_id="t", answer_id="b")
    write(folder, [second, first])
    index.refresh()

    assert list(index.tool_runs(thread_id="t")) == [first, second]
    assert list(index.tool_runs(answer_id="a")) == [second]


def test_a_rating_that_was_pulled_is_known_by_where_it_comes_from(folder, index, rating) -> None:
    write(folder, [rating(external_id="score-1", thumb="up")])
    index.refresh()

    assert index.has_external("score-1")
    assert not index.has_external("score-2")


def test_answers_to_one_prompt_come_together_in_order_of_its_hash(
    folder, index, interaction, rating
) -> None:
    write(
        folder,
        [
            interaction("b1", prompt_hash="bb"),
            interaction("a1", prompt_hash="aa"),
            interaction("b2", prompt_hash="bb", minute=2),
            interaction("b3", prompt_hash="bb", template_hash="other"),
            rating("r", "b2", edited=Edit(content="better")),
        ],
    )
    index.refresh()

    groups = list(index.prompt_groups(Query()))

    assert [(group.prompt_hash, group.template_hash, ids(group.answers)) for group in groups] == [
        ("aa", "t", ["a1"]),
        ("bb", "other", ["b3"]),
        ("bb", "t", ["b1", "b2"]),
    ]
    assert groups[2].answers[1].ratings[0].edited == Edit(content="better")
    assert [ids(each.answers) for each in index.prompt_groups(Query(rated=True))] == [["b2"]]


def test_of_too_many_answers_to_a_prompt_the_rated_and_the_newest_are_kept(
    folder, index, interaction, rating
) -> None:
    n_all = 2 * MAX_GROUP + 500
    write(folder, (interaction(f"a{i}") for i in range(n_all)))
    write(folder, [rating("r", "a0", thumb="up")])
    index.refresh()

    (group,) = index.prompt_groups(Query())

    newest = [f"a{i}" for i in range(n_all - MAX_GROUP + 1, n_all)]
    assert ids(group.answers) == ["a0", *newest]
    assert group.n_left_out == n_all - MAX_GROUP


def test_groups_and_answers_are_read_past_any_chunk(folder, index, interaction) -> None:
    n_all = 1700
    write(folder, (interaction(f"{i}", prompt_hash=f"{i // 3:05}") for i in range(n_all)))
    index.refresh()

    assert len(ids(index.answers(Query()))) == n_all
    sizes = [len(group.answers) for group in index.prompt_groups(Query())]
    assert sum(sizes) == n_all
    assert set(sizes) == {3, 2}


def test_an_id_that_comes_twice_is_taken_in_once(folder, index, interaction, rating) -> None:
    write(folder, [interaction("a"), interaction("a"), rating("r", "a"), rating("r", "a")])

    assert index.refresh().n_records == 2
    assert found(index) == ["a"]


def test_files_that_retention_deleted_are_forgotten(folder, index, interaction, rating) -> None:
    write(folder, [interaction("a"), rating("r1", "b", minute=5, thumb="up")], "2026-11-24.jsonl")
    write(folder, [interaction("b"), rating("r2", "b", minute=1, thumb="down")])
    index.refresh()
    assert found(index, thumb="up") == ["b"]

    (folder / "2026-11-24.jsonl").unlink()
    index.refresh()

    assert found(index) == ["b"]
    # What the newer rating had overruled counts again.
    assert found(index, thumb="down") == ["b"]
    assert index.answer("a") is None


def test_an_answer_whose_file_went_since_is_not_found(folder, index, interaction) -> None:
    write(folder, [interaction("a")])
    index.refresh()

    (folder / DAY).unlink()

    assert found(index) == []
    assert index.answer("a") is None


def test_a_file_that_was_edited_by_hand_is_read_anew(folder, index, interaction, rating) -> None:
    write(folder, [interaction("a"), interaction("b"), rating("r", "b", thumb="up")])
    index.refresh()

    kept = (folder / DAY).read_text(encoding="utf-8").splitlines(keepends=True)[1:]
    (folder / DAY).write_text("".join(kept), encoding="utf-8")
    write(folder, [interaction(letter) for letter in "cdefgh"])
    index.refresh()

    assert sorted(found(index)) == list("bcdefgh")
    assert found(index, thumb="up") == ["b"]


def test_a_file_that_was_edited_and_then_grew_is_read_to_its_end(
    folder, index, interaction, monkeypatch
) -> None:
    monkeypatch.setattr("qwenkit.feedback.catching_up.STEP_LINES", 2)
    write(folder, [interaction(str(i), minute=i) for i in range(5)])
    index.refresh()
    (folder / DAY).write_text("".join((folder / DAY).read_text().splitlines(True)[1:]))
    write(folder, [interaction(str(i), minute=i) for i in range(5, 8)])

    index.refresh()

    assert found(index) == list("7654321")


def test_an_answer_whose_line_was_the_only_one_can_be_deleted(folder, index, interaction) -> None:
    write(folder, [interaction("a")])
    index.refresh()
    (folder / DAY).write_text("")

    index.refresh()

    assert index.count(Query()) == 0


def test_an_index_that_is_deleted_is_made_anew(folder, index, interaction) -> None:
    write(folder, [interaction("a")])
    index.refresh()

    for path in folder.glob(f"{FILE}*"):
        path.unlink()

    assert index.refresh().n_records == 1
    assert found(index) == ["a"]


def test_an_index_that_is_damaged_is_made_anew(folder, interaction) -> None:
    write(folder, [interaction("a")])
    (folder / FILE).write_bytes(b"this is no database, and never was one" * 100)

    with closing(FeedbackIndex(folder)) as index:
        index.refresh()
        assert found(index) == ["a"]


def test_an_index_of_another_version_is_made_anew(folder, index, interaction) -> None:
    write(folder, [interaction("a")])
    index.refresh()
    with closing(sqlite3.connect(folder / FILE)) as connection:
        connection.execute("PRAGMA user_version = 99")

    with closing(FeedbackIndex(folder)) as reopened:
        assert reopened.refresh().n_records == 1


def test_only_the_user_that_made_an_index_can_read_it(folder, index, interaction) -> None:
    write(folder, [interaction("a")])
    index.refresh()

    assert [path.stat().st_mode & 0o077 for path in folder.glob(f"{FILE}*")] == [0, 0, 0]


@pytest.mark.parametrize("text", ["hel\0lo", "l\0l", "\0\0\0\0", "llo w"])
def test_a_text_with_a_zero_in_it_is_looked_for_like_any_other(
    folder, index, interaction, text: str
) -> None:
    said = {"hel\0lo": "ab", "l\0l": "ab", "\0\0\0\0": "b", "llo w": "b"}
    write(
        folder,
        [
            interaction("a", answer=AnswerText(content="hel\0lo")),
            interaction("b", answer=AnswerText(content="\0\0\0\0 hel\0lo hello world")),
        ],
    )
    index.refresh()

    assert sorted(found(index, text=text)) == list(said[text])


def test_an_index_that_cannot_be_made_is_named(folder) -> None:
    (folder / FILE).mkdir()

    with pytest.raises(LogUnreadable, match=FILE):
        FeedbackIndex(folder)


def test_a_log_without_a_folder_is_empty_until_there_is_one(tmp_path, interaction) -> None:
    folder = tmp_path / "feedback"
    with closing(FeedbackIndex(folder)) as index:
        assert index.refresh().n_records == 0
        assert found(index) == []
        assert not folder.exists()

        FeedbackLog(folder).interaction(interaction("a"))

        assert index.refresh().n_records == 1
        assert found(index) == ["a"]


def test_an_index_mostly_of_deleted_answers_is_made_anew(folder, index, interaction) -> None:
    write(folder, (interaction(f"old{i}") for i in range(SPARE_TEXTS + 1)), "2026-11-01.jsonl")
    write(folder, [interaction("a", answer=AnswerText(content="Etna"))])
    index.refresh()

    (folder / "2026-11-01.jsonl").unlink()
    report = index.refresh()

    assert report.n_records == 1
    assert found(index, text="etna") == ["a"]
    assert index.refresh().n_records == 0


def test_threads_share_an_index(folder, index, interaction) -> None:
    write(folder, (interaction(f"{i}", minute=i) for i in range(50)))

    def ask(_: int) -> int:
        index.refresh()
        return len(ids(index.answers(Query())))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(40))) == {50}


def test_progress_is_told_in_bytes_and_only_where_there_is_something_new(
    folder, index, interaction
) -> None:
    told: list[tuple[int | None, list[int]]] = []

    @contextmanager
    def progress(description: str, *, total: int | None, unit: str = "B"):
        assert unit == "B"
        steps: list[int] = []
        told.append((total, steps))
        yield steps.append

    write(folder, [interaction("a"), interaction("b")])
    index.refresh(progress)
    index.refresh(progress)

    size = (folder / DAY).stat().st_size
    assert [(total, sum(steps)) for total, steps in told] == [(size, size)]


def index_until_killed(folder: Path) -> None:
    with closing(FeedbackIndex(folder)) as index:
        index.refresh()


def test_processes_that_share_an_index_and_are_killed_leave_it_whole(
    folder, interaction, rating
) -> None:
    records = [interaction(f"{i}", minute=i % 60) for i in range(3000)]
    records += [rating(f"r{i}", f"{i}", thumb="up") for i in range(0, 3000, 10)]
    write(folder, records)
    draw = random.Random(3)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["qwenkit.feedback.index"])
    for _ in range(4):
        pair = [context.Process(target=index_until_killed, args=(folder,)) for _ in range(2)]
        for process in pair:
            process.start()
        for process in pair:
            process.join(draw.random() * 0.3)
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signal.SIGKILL)
            process.join()

    with closing(FeedbackIndex(folder)) as index:
        index.refresh()
        assert index.count(Query()) == 3000
        assert index.count(Query(thumb="up", text="ararat")) == 300
        assert len({*ids(index.answers(Query()))}) == 3000
