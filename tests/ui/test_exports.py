"""Files that a person takes away: this conversation, and everything in the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
expect = playwright.expect

if TYPE_CHECKING:
    from .conftest import Chat


def saved(chat: Chat, format_name: str, button: str) -> str:
    """The text of a file that the export dialog makes."""
    dialog = chat.page.get_by_role("dialog", name="Export")
    dialog.get_by_role("radio", name=format_name, exact=True).check()
    with chat.page.expect_download() as download:
        dialog.get_by_role("button", name=button).click()
    text: str = Path(download.value.path()).read_text(encoding="utf-8")
    return text


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def this_chat(chat: Chat, format_name: str) -> str:
    chat.button("Export").click()
    return saved(chat, format_name, "Save this conversation")


def all_logs(chat: Chat, format_name: str) -> str:
    chat.button("Export").click()
    chat.page.get_by_text("All logs", exact=True).click()
    return saved(chat, format_name, "Save")


def two_rated_versions(chat: Chat) -> tuple[str, str]:
    """A worse and a better answer to one message."""
    chat.say("anew")
    expect(chat.answer).to_contain_text("This is version")
    worse = chat.answer.get_by_text("This is version").inner_text()
    chat.of_answer("Bad answer").click()
    expect(chat.of_answer("Bad answer")).to_have_attribute("aria-pressed", "true")
    chat.of_answer("Regenerate").click()
    expect(chat.answer.get_by_label("Version 2 of 2")).to_be_visible()
    better = chat.answer.get_by_text("This is version").inner_text()
    chat.of_answer("Good answer").click()
    expect(chat.of_answer("Good answer")).to_have_attribute("aria-pressed", "true")
    return worse, better


def test_a_conversation_is_saved_as_markdown(chat: Chat) -> None:
    chat.say("hello")
    expect(chat.answer).to_contain_text("Hello there!")
    text = this_chat(chat, "Markdown")
    assert text.index("hello") < text.index("Hello there!")
    assert "A greeting needs a greeting." in text


def test_every_branch_of_a_conversation_is_a_line_to_learn_from(chat: Chat) -> None:
    worse, better = two_rated_versions(chat)
    found = rows(this_chat(chat, "JSONL"))
    said = [[message["content"] for message in row["messages"]] for row in found]
    assert sorted(said) == sorted([["anew", worse], ["anew", better]])


def test_rated_versions_of_an_answer_become_a_preference_pair(chat: Chat) -> None:
    worse, better = two_rated_versions(chat)
    [pair] = rows(this_chat(chat, "DPO"))
    assert pair["chosen"][-1]["content"] == better
    assert pair["rejected"][-1]["content"] == worse


def test_a_conversation_without_ratings_has_no_pairs_and_says_so(chat: Chat) -> None:
    chat.say("hello")
    expect(chat.answer).to_contain_text("Hello there!")
    chat.button("Export").click()
    dialog = chat.page.get_by_role("dialog", name="Export")
    dialog.get_by_role("radio", name="DPO", exact=True).check()
    dialog.get_by_role("button", name="Save this conversation").click()
    expect(dialog).to_contain_text("No pairs yet")


def test_the_log_is_saved_as_it_is(chat: Chat) -> None:
    chat.say("hello")
    expect(chat.answer).to_contain_text("Hello there!")
    thread_id = chat.page.url.rpartition("/")[2]
    found = [row for row in rows(all_logs(chat, "JSONL")) if row.get("thread_id") == thread_id]
    assert [row["answer"]["content"] for row in found] == ["Hello there!"]


def test_the_log_becomes_pairs_to_learn_from(chat: Chat) -> None:
    worse, better = two_rated_versions(chat)
    pairs = rows(all_logs(chat, "DPO"))
    assert any(better in json.dumps(each["chosen"]) for each in pairs)
    assert any(worse in json.dumps(each["rejected"]) for each in pairs)
