"""Texts: which files are taken, what becomes of a conversation, and that ours don't overlap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qwenkit.chat.messages import Role, parse_messages
from qwenkit.errors import InvalidRequest
from qwenkit.quality.texts import Conversation, Document, Text, read_builtin, read_documents
from qwenkit.quality.tokens import MIN_WINDOW, cut, encode

CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


def write(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def words(documents: tuple[Document, ...]) -> set[str]:
    parts = []
    for document in documents:
        if isinstance(document, Text):
            parts.extend(document.text.split("\n"))
        else:
            parts.extend(message.content for message in document.messages)
    return {part for part in parts if len(part) > 40}


def test_our_texts_have_prose_code_mathematics_and_conversations_with_tools() -> None:
    for name in ("evaluation", "calibration"):
        documents = read_builtin(name)
        conversations = [each for each in documents if isinstance(each, Conversation)]
        assert len(documents) - len(conversations) == 3
        assert any(conversation.tools for conversation in conversations)


def test_we_never_measure_on_what_we_calibrate_with() -> None:
    assert not words(read_builtin("evaluation")) & words(read_builtin("calibration"))


def test_ours_fill_several_windows(demo_f32: Path) -> None:
    assert len(cut(encode(read_builtin("evaluation"), demo_f32), n_ctx=512)) >= 8
    assert len(cut(encode(read_builtin("calibration"), demo_f32), n_ctx=512)) >= 4


@pytest.mark.parametrize(
    ("row", "roles"),
    [
        ({"messages": [{"role": "user", "content": "hi"}]}, ["user"]),
        ({"prompt": "hi", "completion": "hello"}, ["user", "assistant"]),
        (
            {"prompt": [{"role": "system", "content": "be brief"}], "chosen": "hello"},
            ["system", "assistant"],
        ),
        ({"prompt": "hi"}, ["user"]),
        ({"chosen": CHAT, "rejected": CHAT[:1]}, ["user", "assistant"]),
        ({"prompt": CHAT[:1], "chosen": CHAT}, ["user", "assistant"]),
        ({"prompt": "hi", "completion": CHAT[1]}, ["user", "assistant"]),
        ({"messages": CHAT, "tools": "[]"}, ["user", "assistant"]),
    ],
    ids=[
        "messages",
        "strings",
        "preference",
        "prompt alone",
        "conversations",
        "a prompt and a conversation that begins with it",
        "a single message",
        "tools as a string",
    ],
)
def test_rows_of_training_data_are_conversations(
    tmp_path: Path, row: Any, roles: list[str]
) -> None:
    [document] = read_documents(write(tmp_path, row))
    assert isinstance(document, Conversation)
    assert [message.role for message in document.messages] == [Role(role) for role in roles]


def test_a_row_of_text_is_text(tmp_path: Path) -> None:
    assert read_documents(write(tmp_path, {"text": "a"}, {"text": "b"})) == (Text("a"), Text("b"))


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'{"text": "fine"}\n{"text": ', "rows.jsonl:2"),
        (b"[1]", "rows.jsonl:1"),
        (b'{"question": "hi"}', "rows.jsonl:1"),
        (b'{"messages": [{"role": "wizard", "content": "hi"}]}', "rows.jsonl:1"),
        (b'{"chosen": "hello"}', "rows.jsonl:1"),
        (b'{"text": "\\ud800"}', "rows.jsonl:1"),
        (b'{"messages": [], "tools": "["}', "rows.jsonl:1"),
        (b"[" * 100_000, "rows.jsonl:1"),
        (b'{"text": ' + b"1" * 5_000 + b"}", "rows.jsonl:1"),
        (b"\n\n", "no text"),
        (b"\xff\xfe", "UTF-8"),
    ],
    ids=[
        "no JSON",
        "no object",
        "no form of ours",
        "no role",
        "no prompt",
        "half a surrogate pair",
        "tools that are no JSON",
        "too deep",
        "too many digits",
        "empty",
        "no text file",
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path: Path, content: bytes, place: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=place):
        read_documents(path)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.ndjson", "text.txt"])
def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path, name: str) -> None:
    content = "a b" if name.endswith(".txt") else '{"text": "a b"}'
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert read_documents(tmp_path / name) == (Text("a b"),)


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl.gz", "rows.parquet"])
def test_rows_in_other_files_are_never_read_as_plain_text(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('[{"text": "a"}]', encoding="utf-8")
    with pytest.raises(InvalidRequest, match="lines of JSON"):
        read_documents(tmp_path / name)


def test_a_file_that_is_not_there_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="No such file"):
        read_documents(tmp_path / "none.txt")


def test_control_tokens_are_tokens_in_conversations_and_characters_in_text(demo_f32: Path) -> None:
    messages = parse_messages([{"role": "user", "content": "hi"}])
    start = encode((Conversation(messages),), demo_f32)[0]
    assert start not in encode("<|im_start|>user", demo_f32)


def test_documents_are_separated_by_the_token_for_it(demo_f32: Path) -> None:
    one, other = encode("one", demo_f32), encode("other", demo_f32)
    both = encode((Text("one"), Text("other")), demo_f32)
    assert both[: len(one)].tolist() == one.tolist()
    assert both[len(one) + 1 :].tolist() == other.tolist()


def test_tokens_pass_through(demo_f32: Path) -> None:
    assert encode(np.array([5, 6, 7]), demo_f32).tolist() == [5, 6, 7]


def test_windows_are_whole_and_from_the_beginning() -> None:
    windows = cut(np.arange(100, dtype=np.int32), n_ctx=32)
    assert windows.shape == (3, 32)
    assert windows[1, 0] == 32
    assert cut(np.arange(100, dtype=np.int32), n_ctx=32, n_windows=2).shape == (2, 32)


@pytest.mark.parametrize(
    ("n_tokens", "n_ctx", "n_windows"),
    [(31, 32, None), (100, MIN_WINDOW - 1, None), (100, 32, 0)],
    ids=["a short text", "a short window", "no windows"],
)
def test_windows_that_cant_be_are_refused(n_tokens: int, n_ctx: int, n_windows: int | None) -> None:
    with pytest.raises(InvalidRequest):
        cut(np.zeros(n_tokens, np.int32), n_ctx=n_ctx, n_windows=n_windows)
