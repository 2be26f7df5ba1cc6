"""The texts that models are measured on and calibrated with: files, and two that ship here.

A document is plain text or a conversation; how it becomes tokens depends on the model and is said
in `tokens`. The built-in texts are disjoint, since a quantisation that was calibrated on the text
it is measured on looks better than it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, TypeAlias

from qwenkit.chat.messages import Message, Tool, parse_messages, parse_tools
from qwenkit.errors import InvalidMessages, InvalidRequest

BuiltinText: TypeAlias = Literal["evaluation", "calibration"]

_ROWS = (".jsonl", ".ndjson")
# Read as text, their brackets and names would be measured.
_OTHER_ROWS = (".json", ".gz", ".parquet")


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text, in which control tokens are only characters."""

    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages that the model's own chat template will render.

    Args:
        messages: In order.
        tools: What the model was offered.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()


Document: TypeAlias = Text | Conversation


def read_builtin(name: BuiltinText) -> tuple[Document, ...]:
    """A text that ships with qwenkit: prose, code, mathematics and conversations."""
    folder = resources.files("qwenkit.quality").joinpath("builtin", name)
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    return tuple(document for file in files for document in _read(file, file.name))


def read_documents(path: Path) -> tuple[Document, ...]:
    """Read a text file, or a JSONL file in any of the forms that training takes.

    A row of JSONL is `text`, `messages` (with `tools`), or a `prompt` with its `completion` or
    `chosen` answer, each a string or messages; or a `chosen` conversation that begins with its
    prompt.

    Raises:
        InvalidRequest: No such file, not UTF-8, empty, rows of another kind of file, or a bad row
            (with its line number).
    """
    if path.name.endswith(_OTHER_ROWS):
        raise InvalidRequest(
            f"`{path}` is neither a text nor lines of JSON",
            hint="name a .jsonl file with one object a line, or a .txt file",
        )
    try:
        documents = tuple(_read(path, str(path)))
    except OSError as exc:
        raise InvalidRequest(f"`{path}` can't be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(
            f"`{path}` is no text in UTF-8", hint="name a text file or a .jsonl file"
        ) from exc
    if not documents:
        raise InvalidRequest(f"`{path}` holds no text")
    return documents


def _read(file: Path | Traversable, name: str) -> Iterator[Document]:
    text = file.read_text(encoding="utf-8-sig")
    if name.endswith(_ROWS):
        yield from _rows(text, name)
    elif text.strip():
        yield Text(text)


def _rows(text: str, name: str) -> Iterator[Document]:
    # Not `splitlines`: strings may hold other line ends than these.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _row(line, f"{name}:{number}")


def _row(line: str, place: str) -> Document:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise InvalidRequest(f"{place}: no JSON: {exc}") from exc
    if not isinstance(row, dict):
        raise InvalidRequest(f"{place}: a row must be an object")
    try:
        return _document(row, place)
    except InvalidMessages as exc:
        raise InvalidRequest(f"{place}: {exc.message}") from exc


def _document(row: Mapping[str, Any], place: str) -> Document:
    if isinstance(row.get("text"), str):
        return Text(_encodable(row["text"], place))
    tools = parse_tools(_tools(row, place))
    if row.get("messages") is not None:
        return Conversation(parse_messages(row["messages"]), tools)
    answer = row.get("completion") or row.get("chosen")
    prompt = _turns(row["prompt"], "user") if row.get("prompt") is not None else ()
    answered = _turns(answer, "assistant") if answer else ()
    # Some data sets give the whole conversation as the answer.
    messages = answered if prompt and answered[: len(prompt)] == prompt else prompt + answered
    if prompt or len(messages) > 1:
        return Conversation(messages, tools)
    raise InvalidRequest(
        f"{place}: neither `text` nor `messages` nor `prompt`",
        hint="a row may be anything that training takes",
    )


def _tools(row: Mapping[str, Any], place: str) -> Any:
    tools = row.get("tools") or []
    if not isinstance(tools, str):
        return tools
    try:
        return json.loads(tools)
    except (ValueError, RecursionError) as exc:
        raise InvalidRequest(f"{place}: `tools` is a string and no JSON: {exc}") from exc


def _encodable(text: str, place: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidRequest(f"{place}: `text` holds half of a surrogate pair") from None
    return text


def _turns(value: Any, role: str) -> tuple[Message, ...]:
    if isinstance(value, str):
        return parse_messages([{"role": role, "content": value}])
    return parse_messages([value] if isinstance(value, Mapping) else value)
