"""Tools: asked for, allowed, changed and denied; and the servers that they come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
expect = playwright.expect

if TYPE_CHECKING:
    from .conftest import Chat


def test_a_tool_that_may_run_freely_shows_its_arguments_and_result(chat: Chat) -> None:
    chat.say("multiply")
    expect(chat.answer).to_contain_text("It is 391.")
    call = chat.answer.get_by_role("group", name="Tool calculator")
    call.get_by_role("button").first.click()
    expect(call.get_by_role("region", name="Arguments")).to_contain_text("17*23")
    expect(call.get_by_role("region", name="Result")).to_contain_text("391")


def test_a_tool_runs_once_it_is_approved(chat: Chat) -> None:
    chat.say("look up")
    question = chat.page.get_by_role("group", name="Approve variable")
    expect(question).to_contain_text("FIRST")
    question.get_by_role("button", name="Approve", exact=True).click()
    expect(chat.answer).to_contain_text("It says alpha.")
    expect(question).to_have_count(0)


def test_a_tool_that_is_denied_does_not_run(chat: Chat) -> None:
    chat.say("look up")
    question = chat.page.get_by_role("group", name="Approve variable")
    question.get_by_role("button", name="Deny", exact=True).click()
    question.get_by_label("Reason").fill("not that one")
    question.get_by_role("button", name="Deny the call").click()
    expect(chat.answer).to_contain_text("Then I will not.")
    assert "alpha" not in chat.page.content()
    chat.page.reload()
    expect(chat.answer).to_contain_text("variable was denied")


def test_a_tool_runs_with_the_arguments_that_a_person_gives(chat: Chat) -> None:
    chat.say("look up")
    question = chat.page.get_by_role("group", name="Approve variable")
    question.get_by_role("button", name="Edit", exact=True).click()
    question.get_by_label("Arguments (JSON)").fill('{"name": ')
    question.get_by_role("button", name="Run with these arguments").click()
    expect(question).to_contain_text("must be a JSON object")
    question.get_by_label("Arguments (JSON)").fill('{"name": "SECOND"}')
    question.get_by_role("button", name="Run with these arguments").click()
    expect(chat.answer).to_contain_text("It says beta.")


def test_a_question_is_still_there_after_a_reload(chat: Chat) -> None:
    chat.say("look up")
    question = chat.page.get_by_role("group", name="Approve variable")
    expect(question).to_be_visible()
    chat.page.reload()
    question.get_by_role("button", name="Approve", exact=True).click()
    expect(chat.answer).to_contain_text("It says alpha.")


def test_a_tool_that_is_always_allowed_is_not_asked_about_again(chat: Chat) -> None:
    chat.say("look up")
    chat.button("Always allow").click()
    expect(chat.answer).to_contain_text("It says alpha.")
    chat.button("New chat").first.click()
    chat.say("look up")
    expect(chat.answer).to_contain_text("It says alpha.")


@pytest.fixture
def far(far_url: str, chat: Chat) -> Iterator[str]:
    """A server of tools that the chat does not know; it is taken away again afterwards."""
    yield far_url
    with chat.panel("MCP servers") as panel:
        card = panel.get_by_role("article", name="far")
        card.get_by_role("button", name="Remove far").click()
        card.get_by_role("button", name="Remove", exact=True).click()
        expect(card).to_have_count(0)


def test_a_server_is_tested_added_used_and_removed(chat: Chat, far: str) -> None:
    with chat.panel("MCP servers") as panel:
        expect(panel.get_by_role("article", name="machine")).to_contain_text("6 tools")
        panel.get_by_text("Connect a server").click()
        panel.get_by_label("Server's name").fill("far")
        panel.get_by_label("URL").fill(far)
        panel.get_by_role("button", name="Test connection").click()
        expect(panel).to_contain_text("huge")
        panel.get_by_role("button", name="Connect", exact=True).click()
        card = panel.get_by_role("article", name="far")
        expect(card).to_contain_text("tools")
    chat.say("far away")
    chat.button("Approve").click()
    expect(chat.answer).to_contain_text("It came from far.")


def test_a_server_in_a_private_network_is_refused_at_its_field(chat: Chat) -> None:
    with chat.panel("MCP servers") as panel:
        panel.get_by_text("Connect a server").click()
        panel.get_by_label("Server's name").fill("nobody")
        panel.get_by_label("URL").fill("http://192.168.0.1/mcp")
        panel.get_by_role("button", name="Test connection").click()
        expect(panel.get_by_label("URL")).to_have_attribute("aria-invalid", "true")
    chat.watched.complaints.clear()  # the browser tells of every refusal
