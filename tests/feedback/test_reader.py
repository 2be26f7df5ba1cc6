"""Reading the log, whatever is in its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenkit.errors import InvalidRecord
from qwenkit.feedback.reader import CUT_OFF, Skipped, lines, read_log, record_of
from qwenkit.feedback.records import encode
from qwenkit.feedback.segments import segments


def read(folder: Path) -> tuple[list[str], list[Skipped]]:
    skipped: list[Skipped] = []
    return [record.id for record in read_log(folder, on_skip=skipped.append)], skipped


def test_files_are_read_in_the_order_they_were_written_in(tmp_path, rating) -> None:
    order = ["2026-11-25.jsonl", "2026-11-25.2.jsonl", "2026-11-25.10.jsonl", "2026-11-26.jsonl"]
    for name in reversed(order):
        (tmp_path / name).write_text(encode(rating(name)) + "\n", encoding="utf-8")

    assert read(tmp_path) == (order, [])


def test_other_files_in_the_folder_are_left_alone(tmp_path, rating) -> None:
    line = encode(rating()) + "\n"
    for name in ("2026-11-25.jsonl.bak", "2026-11-25.01.jsonl", "x.jsonl", "2026-13-01.jsonl"):
        (tmp_path / name).write_text(line, encoding="utf-8")

    assert segments(tmp_path) == []


def test_a_folder_that_is_not_there_has_no_records(tmp_path) -> None:
    assert read(tmp_path / "feedback") == ([], [])


def test_foreign_lines_are_skipped_and_named(tmp_path, rating) -> None:
    file = tmp_path / "2026-11-25.jsonl"
    good = encode(rating("a")).encode()
    newer = encode(rating("b")).replace('"schema":1', '"schema":9').encode()
    file.write_bytes(b"\n".join((good, b"hello", b"", b"\xff\x00", newer, good + b"\r", b"")))

    found, skipped = read(tmp_path)

    assert found == ["a", "a"]
    assert [(each.file, each.line) for each in skipped] == [(file, 2), (file, 4), (file, 5)]
    assert "schema is 9" in skipped[-1].why


def test_a_last_line_without_an_end_is_skipped_and_named(tmp_path, rating) -> None:
    file = tmp_path / "2026-11-25.jsonl"
    file.write_text(encode(rating("a")) + "\n" + encode(rating("b")), encoding="utf-8")

    found, skipped = read(tmp_path)

    assert found == ["a"]
    assert skipped == [Skipped(file=file, line=2, why=CUT_OFF)]


def test_what_is_appended_meanwhile_is_read_too(tmp_path, rating) -> None:
    file = tmp_path / "2026-11-25.jsonl"
    file.write_text(encode(rating("a")) + "\n" + encode(rating("b"))[:20], encoding="utf-8")
    records = read_log(tmp_path)
    assert next(records).id == "a"

    with file.open("a", encoding="utf-8") as appended:
        appended.write(encode(rating("b"))[20:] + "\n" + encode(rating("c")) + "\n")

    # What was buffered before ended in the half line; the rest of it is there now.
    assert [record.id for record in records] == ["b", "c"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=12).filter(lambda text: b"\n" not in text), max_size=6))
def test_a_file_can_be_read_on_from_the_end_of_any_line(tmp_path_factory, texts) -> None:
    path = tmp_path_factory.mktemp("lines") / "file"
    path.write_bytes(b"".join(text + b"\n" for text in texts))

    whole = list(lines(path))

    assert [line.text for line in whole] == texts
    for i, line in enumerate(whole):
        assert line.end is not None
        assert list(lines(path, line.end)) == whole[i + 1 :]


def test_a_line_longer_than_any_record_is_passed_over_piece_by_piece(tmp_path) -> None:
    path = tmp_path / "2026-11-25.jsonl"
    path.write_bytes(b"x" * 9 + b"\n" + b"y" * 25 + b"\nshort\n" + b"z" * 11)

    longest, longer, short, cut_off = lines(path, max_bytes=10)

    assert longest.text == b"x" * 9
    assert (longer.text, longer.offset, longer.end) == (None, 10, 36)
    assert short.text == b"short"
    assert (cut_off.text, cut_off.end) == (None, None)
    with pytest.raises(InvalidRecord, match="longer than"):
        record_of(longer)
