"""The list of conversations: found again, renamed, deleted; and a server that was killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
expect = playwright.expect

if TYPE_CHECKING:
    from .conftest import Chat


def begin(chat: Chat, text: str) -> None:
    chat.button("New chat").first.click()
    chat.say(text)
    expect(chat.answer).to_contain_text("Hello there!")
    expect(chat.button("Send")).to_be_visible()


def test_conversations_are_listed_and_opened(chat: Chat) -> None:
    begin(chat, "hello, this is the first")
    begin(chat, "hello, this is the second")
    with chat.conversations() as shown:
        shown.get_by_role("button", name="hello, this is the first", exact=True).first.click()
    expect(chat.messages).to_contain_text(["hello, this is the first"])
    expect(chat.answer).to_contain_text("Hello there!")


def test_a_conversation_is_found_by_what_was_said_in_it(chat: Chat) -> None:
    begin(chat, f"hello, a zebra on a {chat.form}")
    begin(chat, "hello, nothing of that kind")
    with chat.conversations() as shown:
        shown.get_by_label("Search conversations").fill(f"zebra on a {chat.form}")
        found = shown.locator("[data-thread-row]")
        expect(found).to_have_count(1)
        found.click()
    expect(chat.messages).to_contain_text(["zebra"])


def test_a_conversation_is_renamed_and_stays_so(chat: Chat) -> None:
    title = f"Zoology on a {chat.form}"
    begin(chat, f"hello, to be renamed on a {chat.form}")
    with chat.conversations() as shown:
        row = f"hello, to be renamed on a {chat.form}"
        shown.get_by_role("button", name=f"Options of {row}").click()
        shown.get_by_role("button", name="Rename", exact=True).click()
        shown.get_by_label("Name of the conversation").fill(title)
        shown.get_by_label("Name of the conversation").press("Enter")
        expect(shown.get_by_role("button", name=title, exact=True)).to_be_visible()
    chat.page.reload()
    with chat.conversations() as shown:
        expect(shown.get_by_role("button", name=title, exact=True)).to_be_visible()


def test_a_deleted_conversation_is_gone_and_can_be_kept_for_a_moment(chat: Chat) -> None:
    title = f"hello, to be deleted on a {chat.form}"
    begin(chat, title)
    with chat.conversations() as shown:
        for answer in ("Undo", None):
            shown.get_by_role("button", name=f"Options of {title}").click()
            shown.get_by_role("button", name="Delete", exact=True).click()
            shown.get_by_role("button", name="Delete", exact=True).last.click()
            expect(shown.get_by_role("button", name=title, exact=True)).to_have_count(0)
            if answer:
                shown.get_by_role("button", name=answer).click()
                expect(shown.get_by_role("button", name=title, exact=True)).to_be_visible()
    chat.page.reload()
    with chat.conversations() as shown:
        expect(shown.get_by_label("Search conversations")).to_be_visible()
        expect(shown.get_by_role("button", name=title, exact=True)).to_have_count(0)


def test_a_killed_server_has_the_conversation_up_to_the_last_finished_step(
    built_page: Path,
    start: Callable[..., Any],
    window: Callable[..., Any],
    chat_at: type[Chat],
    form: str,
    tmp_path: Path,
) -> None:
    folders = {"log_dir": str(tmp_path / "logs"), "qwenkit_home": str(tmp_path / "home")}
    server = start(**folders)
    port = int(server.url.rpartition(":")[2])
    context, watched = window(form)
    chat = chat_at(context.new_page(), form, watched)
    chat.page.goto(server.url)
    chat.say("hello")
    expect(chat.answer).to_contain_text("Hello there!")
    chat.say("slowly")
    expect(chat.answer).to_contain_text("step4")
    server.kill()
    expect(chat.page.get_by_role("main")).to_contain_text("can't be reached")
    start(**folders, port=port)
    chat.page.reload()
    expect(chat.messages).to_contain_text(["hello", "slowly"])
    expect(chat.answers.first).to_contain_text("Hello there!")
    chat.button("Answer now").click()
    expect(chat.answer).to_contain_text("step40 arrived.")
    expect(chat.messages).to_have_count(2)
    expect(chat.answers).to_have_count(2)
