"""Rows come from files of every kind, in order, each with its number."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.errors import InvalidData
from qwenkit.training.data import sources
from qwenkit.training.data.sources import SourceRow, dataset_rows, read_source, without_nulls

ROWS = [{"text": "one"}, {"text": "zwei ö"}]
LINES = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in ROWS)


def numbered(name: str) -> list[SourceRow]:
    return [SourceRow(f"{name}:{n}", row) for n, row in enumerate(ROWS, start=1)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES.encode()),
        ("a.ndjson", LINES.replace("\n", "\r\n").encode()),
        ("a.json", LINES.encode()),
        ("a.json", json.dumps(ROWS, indent=1).encode()),
        ("a.jsonl", b"\xef\xbb\xbf" + LINES.encode()),
        ("a.jsonl", LINES.rstrip("\n").encode()),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("a.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0)),
    ],
)
def test_a_files_rows_have_their_numbers(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert list(read_source(str(tmp_path / name))) == numbered(name)


def test_standard_input_is_json_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(LINES.encode())))
    assert list(read_source("-")) == numbered("stdin")


def test_a_folder_is_its_files_by_name(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text(LINES, encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps(ROWS), encoding="utf-8")
    (tmp_path / "notes.txt").write_text("no data", encoding="utf-8")
    assert list(read_source(str(tmp_path))) == numbered("a.json") + numbered("b.jsonl")


def test_a_file_is_read_as_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(LINES + "{" * 10, encoding="utf-8")
    rows = read_source(str(path))
    assert next(rows) == numbered("a.jsonl")[0]
    path.write_text("", encoding="utf-8")


@pytest.mark.parametrize("line", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": }'])
def test_a_line_that_is_no_json_is_a_failure_between_rows(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n' + line + b'\n{"text": "b"}\n')
    first, second, third = read_source(str(path))
    assert (first.value, third.value) == ({"text": "a"}, {"text": "b"})
    assert second.place == "a.jsonl:2"
    assert second.failure


def test_a_line_without_end_is_a_failure_and_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 64)
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "' + "x" * 500 + '"}\n{"text": "b"}\n', encoding="utf-8")
    first, second = read_source(str(path))
    assert first.failure
    assert second == SourceRow("a.jsonl:2", {"text": "b"})


@pytest.mark.parametrize("name", ["none.jsonl", "no/such/place", "none.parquet", "what?", ""])
def test_a_source_that_is_not_there_is_an_error(name: str, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    if name == "":
        with pytest.raises(InvalidData):  # the current folder, which holds no data
            list(read_source(name))
        return
    with pytest.raises(InvalidData, match="there is no file"):
        list(read_source(name))


@pytest.mark.parametrize("name", ["a" * 5000, "~nobody-of-that-name/a.jsonl", "a\0b.jsonl"])
def test_a_name_that_no_file_can_have_is_a_file_that_is_not_there(name: str) -> None:
    with pytest.raises(InvalidData, match="there is no file"):
        list(read_source(name))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"text"),
        ("a.json", b"[1, 2"),
        ("a.jsonl.gz", b"not gzip\n"),
        ("a.jsonl.gz", gzip.compress(LINES.encode() * 99, mtime=0)[:-20]),
    ],
)
def test_a_file_that_can_not_be_read_is_an_error(tmp_path: Path, name, content) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidData):
        list(read_source(str(tmp_path / name)))


@given(
    st.recursive(
        st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
    )
)
def test_what_has_no_nulls_stays_as_it_is(value: object) -> None:
    assert without_nulls(value) == value


MESSAGES = [
    {"messages": [{"role": "user", "content": "a", "tool_calls": None}], "answer": None},
    {
        "messages": [
            {
                "role": "assistant",
                "content": "A",
                "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}],
            }
        ],
        "answer": 2,
    },
]
WITHOUT_NULLS = [{"messages": [{"role": "user", "content": "a"}]}, MESSAGES[1]]


@pytest.mark.parity
def test_a_parquet_files_rows_come_without_the_nulls_that_fill_it(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(MESSAGES), path)
    rows = list(read_source(str(path)))
    assert [row.place for row in rows] == ["a.parquet:1", "a.parquet:2"]
    assert [row.value for row in rows] == WITHOUT_NULLS


@pytest.mark.parity
def test_a_damaged_parquet_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 nothing of the kind PAR1")
    with pytest.raises(InvalidData):
        list(read_source(str(path)))


@pytest.mark.parity
def test_a_parquet_file_with_a_text_that_is_no_utf_8_is_an_error(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    text = pyarrow.array([b"\xff\xfe"], pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": text}), tmp_path / "a.parquet")
    with pytest.raises(InvalidData, match="utf-8"):
        list(read_source(str(tmp_path / "a.parquet")))


@pytest.mark.parity
def test_a_dataset_that_comes_as_a_script_is_an_error(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text("import datasets", encoding="utf-8")
    with pytest.raises(InvalidData, match="script"):
        list(dataset_rows(str(script), name="me/mine"))


@pytest.mark.parity
def test_a_dataset_is_read_by_split_and_its_lack_is_an_error(tmp_path: Path) -> None:
    for split, rows in (("train", ROWS), ("test", ROWS[:1])):
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        (tmp_path / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    assert list(dataset_rows(str(tmp_path), name="me/mine")) == numbered("me/mine")
    assert len(list(dataset_rows(str(tmp_path), name="me/mine", split="test"))) == 1
    with pytest.raises(InvalidData):
        list(dataset_rows(str(tmp_path), name="me/mine", split="none"))
    with pytest.raises(InvalidData):
        list(dataset_rows(str(tmp_path), name="me/mine", config="none"))
