"""Where rows come from: JSON lines, Parquet, Hub datasets, standard input. Knows no kinds of rows.

    rows.jsonl, rows.jsonl.gz   one JSON object a line
    rows.json                   a list of objects, or one a line
    rows.parquet                one object a row
    folder/                     every such file in it
    owner/name[:config][:split] a dataset on the Hub, its split `train` by default
    -                           standard input, as JSON lines

Files are read a piece at a time, but for a list in a `.json`. A line that is no JSON is a row with
a failure, so that its number can be told.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from qwenkit.chat.messages import JsonValue
from qwenkit.errors import DownloadFailed, InvalidData
from qwenkit.extras import import_extra

STDIN = "-"
JSON_LINES = (".jsonl", ".ndjson", ".json")
SUFFIXES = (*JSON_LINES, *(f"{suffix}.gz" for suffix in JSON_LINES), ".parquet")
MAX_LINE_BYTES = 64 * 1024 * 1024

_BATCH_ROWS = 1024
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_HUB_DATASET = re.compile(rf"(?P<repo>{_PART}/{_PART})(?::(?P<config>[\w.-]+))?(?::(?P<split>.+))?")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row, read or not.

    Args:
        place: Its name: the file and the number of its line or row, counted from 1.
        value: What it holds.
        failure: Why it could not be read; empty when it could.
    """

    place: str
    value: JsonValue = None
    failure: str = ""


def read_source(source: str) -> Iterator[SourceRow]:
    """Read rows one after another.

    Raises:
        InvalidData: There is no such source, or it can't be read.
        MissingExtra: It takes `datasets` or `pyarrow`.
        DownloadFailed: The Hub or the network said no.
    """
    if source == STDIN:
        yield from _json_lines(sys.stdin.buffer, "stdin")
        return
    path = _existing(source)
    if path is not None and path.is_dir():
        yield from _folder(path)
    elif path is not None:
        yield from _file(path)
    elif source.endswith(SUFFIXES) or (named := _HUB_DATASET.fullmatch(source)) is None:
        raise InvalidData(f"there is no file `{source}`")
    else:
        yield from _hub_dataset(source, named)


def dataset_rows(
    path: str, *, name: str, config: str | None = None, split: str = "train"
) -> Iterator[SourceRow]:
    """Rows of a dataset as `datasets` finds it: a repository on the Hub, or a folder of the kind.

    Raises:
        InvalidData: There is no such dataset, configuration or split.
        MissingExtra: `datasets` is not installed.
        DownloadFailed: The Hub or the network said no.
    """
    datasets = import_extra("datasets", extra="train")
    with _translated(datasets, name):
        rows = datasets.load_dataset(path, config, split=split, streaming=True)
        for number, row in enumerate(rows, start=1):
            yield SourceRow(f"{name}:{number}", without_nulls(row))


def without_nulls(value: JsonValue) -> JsonValue:
    """A table's value without the nulls that fill its objects.

    All objects of a column have the same fields: one that a row did not have is null there, and
    would be rendered as an argument or a schema's keyword that nobody wrote.
    """
    if isinstance(value, Mapping):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    if isinstance(value, list):
        return [without_nulls(each) for each in value]
    return value


def _existing(source: str) -> Path | None:
    """The file or folder of that name, if there is one."""
    try:
        path = Path(source).expanduser()
        return path if path.exists() else None
    # `~name` of nobody, a name longer than a file can have, or a folder that is closed to us.
    except (RuntimeError, OSError):
        return None


def _folder(folder: Path) -> Iterator[SourceRow]:
    files = [path for path in sorted(folder.iterdir()) if path.name.endswith(SUFFIXES)]
    if not files:
        raise InvalidData(f"`{folder}` has no file that ends in {', '.join(SUFFIXES)}")
    for path in files:
        yield from _file(path)


def _file(path: Path) -> Iterator[SourceRow]:
    if path.name.endswith(".parquet"):
        yield from _parquet(path)
        return
    if not path.name.endswith(SUFFIXES):
        raise InvalidData(
            f"`{path}` is of no kind that can be read", hint=f"one of {', '.join(SUFFIXES)}"
        )
    try:
        with _opened(path) as file:
            read = _json_list if _holds_list(path) else _json_lines
            yield from read(file, path.name)
    except (OSError, EOFError, zlib.error) as exc:
        raise InvalidData(f"`{path}` can't be read: {exc}") from exc


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _holds_list(path: Path) -> bool:
    if not path.name.endswith((".json", ".json.gz")):
        return False
    with _opened(path) as file:
        return file.read(1024).removeprefix(_BOM).lstrip().startswith(b"[")


def _json_list(file: BinaryIO, name: str) -> Iterator[SourceRow]:
    try:
        rows = json.loads(file.read().removeprefix(_BOM))
    except (ValueError, RecursionError) as exc:
        raise InvalidData(f"`{name}` is no JSON: {exc}") from exc
    for number, row in enumerate(rows, start=1):
        yield SourceRow(f"{name}:{number}", row)


def _json_lines(file: BinaryIO, name: str) -> Iterator[SourceRow]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        if not line.endswith(b"\n") and len(line) == MAX_LINE_BYTES:
            _skip_line(file)
            yield SourceRow(f"{name}:{number}", failure=f"it is longer than {MAX_LINE_BYTES} bytes")
        elif line.strip():
            yield _parsed(line.removeprefix(_BOM) if number == 1 else line, f"{name}:{number}")


def _skip_line(file: BinaryIO) -> None:
    while (line := file.readline(MAX_LINE_BYTES)) and not line.endswith(b"\n"):
        pass


def _parsed(line: bytes, place: str) -> SourceRow:
    try:
        return SourceRow(place, json.loads(line.decode("utf-8")))
    except (ValueError, RecursionError) as exc:
        return SourceRow(place, failure=f"it is no JSON: {exc}")


def _parquet(path: Path) -> Iterator[SourceRow]:
    pyarrow = import_extra("pyarrow", extra="train")
    parquet = import_extra("pyarrow.parquet", extra="train")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield SourceRow(f"{path.name}:{number}", without_nulls(row))
    # A text that is no UTF-8 is a ValueError.
    except (OSError, ValueError, pyarrow.ArrowException) as exc:
        raise InvalidData(f"`{path}` can't be read as Parquet: {exc}") from exc


def _hub_dataset(source: str, named: re.Match[str]) -> Iterator[SourceRow]:
    config, split = named["config"], named["split"]
    if split is None:  # one part behind the name is the split
        config, split = None, config
    return dataset_rows(named["repo"], name=source, config=config, split=split or "train")


@contextmanager
def _translated(datasets: Any, name: str) -> Iterator[None]:
    import httpx

    try:
        yield
    except datasets.exceptions.DatasetNotFoundError as exc:
        raise InvalidData(
            f"there is neither a file nor a dataset on the Hub called `{name}`"
        ) from exc
    except (httpx.HTTPError, ConnectionError) as exc:
        raise DownloadFailed(f"the dataset `{name}` can't be fetched: {exc}") from exc
    # A RuntimeError: a dataset that comes as a script, which `datasets` runs no more.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as exc:
        raise InvalidData(f"the dataset `{name}` can't be read: {exc}") from exc
