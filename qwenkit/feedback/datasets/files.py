"""Writes rows to JSON lines or Parquet, a few at a time. Knows columns, not what they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from qwenkit.extras import import_extra
from qwenkit.feedback.datasets.columns import Type, arrow_schema
from qwenkit.feedback.datasets.options import FileType
from qwenkit.feedback.datasets.rows import Row

_GROUP_ROWS = 4096


def write_rows(
    rows: Iterable[Row],
    path: Path,
    *,
    files: FileType,
    columns: Mapping[str, Type],
    on_rows: Callable[[list[Row]], None],
) -> int:
    """Write rows to a new file; without any row there is no file.

    Args:
        rows: Read once.
        path: The file.
        files: What it is written as.
        columns: What the rows hold; Parquet goes by it.
        on_rows: Told of rows that were written.

    Returns:
        How many were written.

    Raises:
        MissingExtra: pyarrow is not installed, and Parquet is wanted.
    """
    groups = _groups(rows)
    first = next(groups, None)
    if first is None:
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    write = _write_parquet if files == "parquet" else _write_json_lines
    n_rows = 0
    for group in write(_chained(first, groups), path, columns):
        n_rows += len(group)
        on_rows(group)
    return n_rows


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while group := list(islice(left, _GROUP_ROWS)):
        yield group


def _chained(first: list[Row], others: Iterator[list[Row]]) -> Iterator[list[Row]]:
    yield first
    yield from others


def _write_json_lines(
    groups: Iterator[list[Row]], path: Path, _: Mapping[str, Type]
) -> Iterator[list[Row]]:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for group in groups:
            file.writelines(f"{row.line()}\n" for row in group)
            yield group


def _write_parquet(
    groups: Iterator[list[Row]], path: Path, columns: Mapping[str, Type]
) -> Iterator[list[Row]]:
    pyarrow = import_extra("pyarrow", extra="train")
    parquet = import_extra("pyarrow.parquet", extra="train")
    schema = arrow_schema(columns)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in groups:
            rows = [dict(row.data) for row in group]
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
            yield group
