"""What a person may choose: who answers, how, and how the page looks; and the key that it needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
expect = playwright.expect

if TYPE_CHECKING:
    from .conftest import Chat, Served


def test_an_adapter_answers_once_it_is_chosen(chat: Chat) -> None:
    chat.say("hello")
    expect(chat.answer).to_contain_text("Hello there!")
    with chat.panel("Settings") as panel:
        panel.get_by_role("radio", name="pirate").check()
    chat.say("hello")
    expect(chat.answer).to_contain_text("Arr!")
    chat.page.reload()
    chat.say("hello")
    expect(chat.answers).to_have_count(3)
    expect(chat.answer).to_contain_text("Arr!")
    chat.page.get_by_label("Model", exact=True).select_option("scripted")
    chat.say("hello")
    expect(chat.answers).to_have_count(4)
    expect(chat.answer).to_contain_text("Hello there!")


def test_what_is_chosen_is_sent_with_the_next_message(chat: Chat) -> None:
    with chat.panel("Settings") as panel:
        panel.get_by_role("switch", name="Think before answering").click()
        panel.get_by_label("What the model is told first").fill("Be brief.")
        panel.get_by_label("Temperature").fill("0.5")
        panel.get_by_label("Use of calculator").select_option("off")
    with chat.page.expect_request("**/runs/stream") as sent:
        chat.say("hello")
    expect(chat.answer).to_contain_text("Hello there!")
    body = sent.value.post_data_json
    chosen = {**body.get("context", {}), **body.get("config", {}).get("configurable", {})}
    assert chosen["thinking"] is False
    assert chosen["system_prompt"] == "Be brief."
    assert chosen["temperature"] == 0.5
    assert "calculator" not in chosen["tools"]


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_the_page_is_light_or_dark_as_chosen(chat: Chat, theme: str) -> None:
    with chat.panel("Settings") as panel:
        panel.get_by_text(theme, exact=True).click()
    chat.page.reload()
    expect(chat.page.get_by_label("Message", exact=True)).to_be_visible()
    scheme = chat.page.evaluate("getComputedStyle(document.documentElement).colorScheme")
    assert scheme == theme.lower()


def test_nothing_is_wider_than_the_window(chat: Chat) -> None:
    chat.say("markdown")
    expect(chat.answer.locator(".katex").first).to_be_visible()
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert chat.page.evaluate(wide) is False


@pytest.fixture(scope="module")
def locked(built_page: Path, start: Callable[..., Any]) -> Served:
    server: Served = start(api_keys=["user-key"], admin_api_keys=["admin-key"])
    return server


def test_the_key_is_asked_for_once_and_kept(
    locked: Served, window: Callable[..., Any], chat_at: type[Chat], form: str
) -> None:
    context, watched = window(form)
    chat = chat_at(context.new_page(), form, watched)
    chat.page.goto(locked.url)
    dialog = chat.page.get_by_role("dialog", name="API key")
    dialog.get_by_label("Key of this server").fill("wrong")
    dialog.get_by_role("button", name="Use this key").click()
    expect(dialog).to_contain_text("refused")
    dialog.get_by_label("Key of this server").fill("user-key")
    dialog.get_by_role("button", name="Use this key").click()
    expect(dialog).to_have_count(0)
    chat.say("hello")
    expect(chat.answer).to_contain_text("Hello there!")
    chat.page.reload()
    expect(chat.answer).to_contain_text("Hello there!")
    expect(dialog).to_have_count(0)
    assert "user-key" not in chat.page.url
    assert all("user-key" not in asked for asked in watched.requests)


def test_a_user_is_not_offered_what_only_an_admin_may_do(
    locked: Served, window: Callable[..., Any], chat_at: type[Chat], form: str
) -> None:
    context, watched = window(form)
    chat = chat_at(context.new_page(), form, watched)
    chat.page.goto(locked.url)
    dialog = chat.page.get_by_role("dialog", name="API key")
    dialog.get_by_label("Key of this server").fill("user-key")
    dialog.get_by_role("button", name="Use this key").click()
    expect(dialog).to_have_count(0)
    with chat.panel("MCP servers") as panel:
        expect(panel).to_contain_text("needs an admin")
        expect(panel.get_by_text("Connect a server")).to_have_count(0)
    with chat.conversations() as shown:
        expect(shown.get_by_label("Search conversations")).to_be_visible()
        expect(shown.get_by_role("button", name="Feedback")).to_have_count(0)
