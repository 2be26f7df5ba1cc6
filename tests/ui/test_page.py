"""The page as a whole: its weight, what it asks of others, and whether everyone can use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
expect = playwright.expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from .conftest import Chat, Served

MOST_BYTES = 400_000


def test_the_page_is_usable_after_at_most_400_kb(
    server: Served, window: Callable[..., Any], chat_at: type[Chat], form: str
) -> None:
    context, watched = window(form)
    page = context.new_page()
    protocol = context.new_cdp_session(page)
    protocol.send("Network.enable")
    sizes: list[float] = []
    protocol.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    page.goto(server.url)
    expect(page.get_by_label("Message", exact=True)).to_be_editable()
    page.wait_for_load_state("networkidle")
    assert sum(sizes) <= MOST_BYTES
    before = len(sizes)
    chat = chat_at(page, form, watched)
    chat.say("hello")
    expect(chat.answer).to_contain_text("Hello there!")
    assert len(sizes) > before


def test_a_second_visit_takes_the_files_of_the_page_from_the_browsers_own_memory(
    server: Served, window: Callable[..., Any]
) -> None:
    context, _ = window()
    page = context.new_page()
    page.goto(server.url)
    page.wait_for_load_state("networkidle")
    assert page.evaluate(SENT_ASSETS) != []
    page.reload()
    expect(page.get_by_label("Message", exact=True)).to_be_visible()
    assert page.evaluate(SENT_ASSETS) == []


SENT_ASSETS = """() =>
  performance.getEntriesByType("resource")
    .filter(({ name, transferSize }) => name.includes("/assets/") && transferSize > 0)
    .map(({ name }) => name)
"""


def test_an_answer_with_a_picture_and_links_makes_the_page_ask_nobody(chat: Chat) -> None:
    chat.say("markdown")
    expect(chat.answer.locator(".katex").first).to_be_visible()
    chat.page.wait_for_load_state("networkidle")
    assert chat.watched.foreign(chat.page.url.partition("#")[0].rstrip("/")) == []
    assert "example.org" in chat.page.content()


def empty(chat: Chat) -> Iterator[None]:
    yield


def answered(chat: Chat) -> Iterator[None]:
    chat.say("markdown")
    expect(chat.answer.locator(".katex").first).to_be_visible()
    chat.say("multiply")
    expect(chat.answer).to_contain_text("It is 391.")
    chat.answer.get_by_role("group", name="Tool calculator").get_by_role("button").first.click()
    chat.answer.get_by_role("button", name="Thought for").first.click()
    chat.of_answer("Rate answer").click()
    yield


def asking(chat: Chat) -> Iterator[None]:
    chat.say("look up")
    expect(chat.page.get_by_role("group", name="Approve variable")).to_be_visible()
    yield


def compared(chat: Chat) -> Iterator[None]:
    chat.say("hello")
    expect(chat.answer).to_contain_text("Hello there!")
    chat.of_answer("Compare with another answer").click()
    chat.button("Write a second answer").click()
    expect(chat.button("B is better")).to_be_enabled()
    yield


def listed(chat: Chat) -> Iterator[None]:
    chat.say("hello")
    expect(chat.answer).to_contain_text("Hello there!")
    with chat.conversations() as shown:
        expect(shown.locator("[data-thread-row]").first).to_be_visible()
        shown.get_by_role("button", name="Options of").first.click()
        yield


def settings(chat: Chat) -> Iterator[None]:
    with chat.panel("Settings") as panel:
        expect(panel.get_by_label("Use of calculator")).to_be_visible()
        yield


def servers(chat: Chat) -> Iterator[None]:
    with chat.panel("MCP servers") as panel:
        panel.get_by_text("6 tools").click()
        panel.get_by_text("Connect a server").click()
        yield


def exporting(chat: Chat) -> Iterator[None]:
    chat.say("hello")
    expect(chat.answer).to_contain_text("Hello there!")
    chat.button("Export").click()
    expect(chat.button("Save this conversation")).to_be_visible()
    yield


def shortcuts(chat: Chat) -> Iterator[None]:
    with chat.conversations() as shown:
        shown.get_by_role("button", name="Keyboard shortcuts").click()
    expect(chat.page.get_by_role("dialog")).to_be_visible()
    yield


def feedback(chat: Chat) -> Iterator[None]:
    chat.say("hello")
    expect(chat.answer).to_contain_text("Hello there!")
    chat.of_answer("Good answer").click()
    expect(chat.of_answer("Good answer")).to_have_attribute("aria-pressed", "true")
    with chat.conversations() as shown:
        shown.get_by_role("button", name="Feedback").click()
    expect(chat.page.get_by_role("group", name="Feedback")).to_contain_text("anonymous")
    yield


VIEWS = (
    empty,
    answered,
    asking,
    compared,
    listed,
    settings,
    servers,
    exporting,
    shortcuts,
    feedback,
)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_everyone_can_use_it(
    chat: Chat,
    axe: Callable[[Page], list[str]],
    view: Callable[[Chat], Iterator[None]],
    theme: str,
) -> None:
    chat.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    with contextmanager(view)(chat):
        assert axe(chat.page) == []
    chat.watched.complaints.clear()  # axe makes some of its own


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_on_a_phone_everything_is_large_enough_to_touch(
    server: Served,
    window: Callable[..., Any],
    chat_at: type[Chat],
    view: Callable[[Chat], Iterator[None]],
) -> None:
    context, watched = window("phone")
    chat = chat_at(context.new_page(), "phone", watched)
    chat.page.goto(server.url)
    with contextmanager(view)(chat):
        small = set(chat.page.evaluate(TOO_SMALL))
        assert small == set()
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert chat.page.evaluate(wide) is False


# A switch is pressed in a wider area than it shows.
TOO_SMALL = """() =>
  [...document.querySelectorAll("button:not([role=switch]), select, summary, input.field")]
    .filter((control) => control.checkVisibility({ visibilityProperty: true }))
    .map((control) => [control, control.getBoundingClientRect()])
    .filter(([, box]) => box.width > 1 && (box.height < 43.5 || box.width < 39.5))
    .map(([control, box]) =>
      `${control.getAttribute("aria-label") || control.textContent} ${box.width}x${box.height}`)
"""
