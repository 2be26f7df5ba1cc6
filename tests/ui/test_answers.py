"""Answers: how they come, are stopped, written anew and edited, and what stays of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
expect = playwright.expect

if TYPE_CHECKING:
    from .conftest import Chat


def test_an_answer_comes_with_its_thinking_folded_and_its_counters(chat: Chat) -> None:
    chat.say("hello")
    expect(chat.answer).to_contain_text("Hello there!")
    thought = chat.answer.get_by_role("button", name="Thought for")
    expect(thought).to_have_attribute("aria-expanded", "false")
    expect(chat.answer.get_by_text("A greeting needs a greeting.")).to_be_hidden()
    thought.click()
    expect(chat.answer.get_by_text("A greeting needs a greeting.")).to_be_visible()
    expect(chat.answer).to_contain_text("tokens/s")


def test_an_answer_is_seen_while_it_is_written(chat: Chat) -> None:
    chat.say("slowly")
    expect(chat.answer).to_contain_text("step3")
    assert "arrived" not in chat.answer.inner_text()
    expect(chat.button("Stop")).to_be_visible()
    expect(chat.answer).to_contain_text("step40 arrived.")
    expect(chat.button("Send")).to_be_visible()


def test_without_thinking_the_answer_comes_at_once(chat: Chat) -> None:
    chat.button("Thinking").click()
    chat.say("hello")
    expect(chat.answer).to_contain_text("Hello there!")
    expect(chat.answer.get_by_role("button", name="Thought")).to_have_count(0)


def test_markdown_becomes_headings_tables_code_and_math(chat: Chat) -> None:
    chat.say("markdown")
    expect(chat.answer.get_by_role("heading", name="A heading")).to_be_visible()
    expect(chat.answer.get_by_role("cell", name="232")).to_be_visible()
    expect(chat.answer.locator("pre code")).to_contain_text("return 2 * n")
    expect(chat.answer.locator("pre code span").first).to_be_visible()
    expect(chat.answer.locator(".katex").first).to_be_visible()
    link = chat.answer.get_by_role("link", name="link")
    expect(link).to_have_attribute("rel", "noopener noreferrer")


def test_a_piece_of_code_is_copied_as_it_was_written(chat: Chat) -> None:
    chat.say("markdown")
    chat.answer.get_by_role("button", name="Copy code").click()
    copied = chat.page.evaluate("navigator.clipboard.readText()")
    assert copied.rstrip("\n") == "def double(n):\n    return 2 * n"


def test_an_answer_is_written_anew_and_both_versions_are_kept(chat: Chat) -> None:
    chat.say("anew")
    expect(chat.answer).to_contain_text("This is version")
    first = chat.answer.get_by_text("This is version").inner_text()
    chat.of_answer("Regenerate").click()
    expect(chat.answer.get_by_label("Version 2 of 2")).to_be_visible()
    expect(chat.answers).to_have_count(1)
    second = chat.answer.get_by_text("This is version").inner_text()
    assert second != first
    chat.of_answer("Previous version of this answer").click()
    expect(chat.answer).to_contain_text(first)
    chat.of_answer("Next version of this answer").click()
    expect(chat.answer).to_contain_text(second)


def test_a_message_is_edited_and_the_older_branch_goes_on_existing(chat: Chat) -> None:
    chat.say("hello")
    expect(chat.answer).to_contain_text("Hello there!")
    chat.say("multiply")
    expect(chat.answer).to_contain_text("It is 391.")
    chat.messages.first.get_by_role("button", name="Edit message").click()
    chat.page.get_by_label("Edit message text").fill("changed")
    chat.button("Save and send").click()
    expect(chat.answer).to_contain_text("The change is seen.")
    expect(chat.messages).to_have_count(1)
    chat.messages.first.get_by_role("button", name="Previous version of this message").click()
    expect(chat.messages).to_have_count(2)
    expect(chat.answer).to_contain_text("It is 391.")


def test_what_is_said_on_an_older_branch_goes_on_there(chat: Chat) -> None:
    chat.say("anew")
    expect(chat.answer).to_contain_text("This is version")
    first = chat.answer.get_by_text("This is version").inner_text()
    chat.of_answer("Regenerate").click()
    expect(chat.answer.get_by_label("Version 2 of 2")).to_be_visible()
    chat.of_answer("Previous version of this answer").click()
    chat.say("hello")
    expect(chat.answer).to_contain_text("Hello there!")
    expect(chat.answers.first).to_contain_text(first)
    chat.page.reload()
    expect(chat.answer).to_contain_text("Hello there!")
    expect(chat.answers.first).to_contain_text(first)


def test_a_stopped_answer_keeps_what_was_written_and_the_chat_goes_on(chat: Chat) -> None:
    chat.say("slowly")
    expect(chat.answer).to_contain_text("step4")
    chat.button("Stop").click()
    expect(chat.answer).to_contain_text("Stopped before it was finished.")
    expect(chat.answer).to_contain_text("step4")
    chat.say("hello")
    expect(chat.answer).to_contain_text("Hello there!")
    chat.page.reload()
    expect(chat.answers.first).to_contain_text("Stopped before it was finished.")
    assert "arrived" not in chat.answers.first.inner_text()


def test_a_reload_in_mid_answer_goes_on_with_it(chat: Chat) -> None:
    chat.say("slowly")
    expect(chat.answer).to_contain_text("step4")
    chat.page.reload()
    expect(chat.answer).to_contain_text("step40 arrived.")
    expect(chat.answers).to_have_count(1)
    expect(chat.messages).to_have_count(1)
    expect(chat.button("Send")).to_be_visible()


def test_a_conversation_is_the_same_in_another_window(chat: Chat) -> None:
    chat.say("hello")
    expect(chat.answer).to_contain_text("Hello there!")
    other = type(chat)(chat.page.context.new_page(), chat.form, chat.watched)
    other.page.goto(chat.page.url)
    expect(other.answer).to_contain_text("Hello there!")
    expect(other.messages).to_contain_text(["hello"])


def test_enter_sends_where_there_is_a_keyboard_and_breaks_the_line_where_there_is_none(
    chat: Chat,
) -> None:
    message = chat.page.get_by_label("Message", exact=True)
    message.focus()
    chat.page.keyboard.type("hello")
    chat.page.keyboard.press("Enter")
    if chat.form == "phone":
        expect(message).to_have_value("hello\n")
    else:
        expect(chat.answer).to_contain_text("Hello there!")
        expect(message).to_be_focused()


@pytest.mark.parametrize("lost", ["**/agent/**", "**/runs/stream"])
def test_a_message_that_did_not_arrive_is_kept_and_sent_again(chat: Chat, lost: str) -> None:
    chat.page.route(lost, lambda route: route.abort())
    chat.say("hello")
    shown = chat.page.get_by_role("region", name="Conversation")
    again = shown.get_by_role("button", name="Try again")
    expect(again).to_be_visible()
    expect(chat.messages).to_contain_text("hello")
    chat.page.unroute(lost)
    again.click()
    expect(chat.answer).to_contain_text("Hello there!")
    expect(chat.messages).to_have_count(1)
    chat.watched.complaints.clear()  # the browser tells of every request that fails
