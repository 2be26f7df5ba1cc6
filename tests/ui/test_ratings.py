"""Ratings: thumbs, the scale, comments, corrections and comparisons, and what comes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
expect = playwright.expect

if TYPE_CHECKING:
    from .conftest import Chat, Served


def thread_of(chat: Chat) -> str:
    return str(chat.page.url.rpartition("/")[2])


def ratings(server: Served, chat: Chat) -> list[dict[str, Any]]:
    query = {"thread_id": thread_of(chat)}
    reply = httpx.get(f"{server.url}/v1/feedback/ratings", params=query)
    found: list[dict[str, Any]] = reply.raise_for_status().json()["data"]
    return found


def answered(chat: Chat, text: str = "hello", answer: str = "Hello there!") -> None:
    chat.say(text)
    expect(chat.answer).to_contain_text(answer)


def test_a_thumb_is_kept_and_shown_again_after_a_reload(chat: Chat, server: Served) -> None:
    answered(chat)
    chat.of_answer("Good answer").click()
    expect(chat.of_answer("Good answer")).to_have_attribute("aria-pressed", "true")
    chat.page.reload()
    expect(chat.of_answer("Good answer")).to_have_attribute("aria-pressed", "true")
    [rating] = ratings(server, chat)
    assert (rating["thumb"], rating["source"]) == ("up", "ui")


def test_the_other_thumb_takes_the_place_of_the_first(chat: Chat) -> None:
    answered(chat)
    chat.of_answer("Good answer").click()
    expect(chat.of_answer("Good answer")).to_have_attribute("aria-pressed", "true")
    chat.of_answer("Bad answer").click()
    expect(chat.of_answer("Bad answer")).to_have_attribute("aria-pressed", "true")
    expect(chat.of_answer("Good answer")).to_have_attribute("aria-pressed", "false")


def test_a_thumb_is_taken_back(chat: Chat) -> None:
    answered(chat)
    chat.of_answer("Good answer").click()
    expect(chat.of_answer("Good answer")).to_have_attribute("aria-pressed", "true")
    chat.of_answer("Good answer").click()
    expect(chat.of_answer("Good answer")).to_have_attribute("aria-pressed", "false")
    chat.page.reload()
    expect(chat.of_answer("Good answer")).to_have_attribute("aria-pressed", "false")


def test_a_place_on_the_scale_and_a_comment_are_kept(chat: Chat, server: Served) -> None:
    answered(chat)
    chat.of_answer("Rate answer").click()
    form = chat.answer.get_by_role("form", name="Rate answer")
    form.get_by_role("radio", name="4").check(force=True)
    form.get_by_label("Comment").fill("friendly, but short")
    form.get_by_role("button", name="Save rating").click()
    expect(chat.of_answer("Rate answer (4 of 5)")).to_be_visible()
    chat.page.reload()
    expect(chat.of_answer("Rate answer (4 of 5)")).to_be_visible()
    [rating] = ratings(server, chat)
    assert (rating["scale"], rating["comment"]) == (4, "friendly, but short")
    expect(chat.answer).to_contain_text("Your rating: 4 of 5")
    expect(chat.answer).to_contain_text("friendly, but short")
    chat.of_answer("Rate answer (4 of 5)").click()
    form.get_by_label("Comment").fill("")
    form.get_by_role("button", name="Save rating").click()
    expect(chat.answer).not_to_contain_text("friendly, but short")
    chat.page.reload()
    expect(chat.answer).to_contain_text("Your rating: 4 of 5")
    expect(chat.answer).not_to_contain_text("friendly, but short")


def test_an_answer_is_corrected_and_the_conversation_stays(chat: Chat, server: Served) -> None:
    answered(chat)
    chat.of_answer("Correct answer").click()
    form = chat.answer.get_by_role("form", name="Correct answer")
    form.get_by_label("How it should have been").fill("Good morning!")
    form.get_by_role("button", name="Save correction").click()
    expect(chat.answer).to_contain_text("Your correction")
    expect(chat.answer).to_contain_text("Hello there!")
    [rating] = ratings(server, chat)
    assert rating["edited"]["content"] == "Good morning!"


def test_of_two_answers_side_by_side_the_chosen_one_stays(chat: Chat, server: Served) -> None:
    answered(chat)
    chat.of_answer("Compare with another answer").click()
    dialog = chat.page.get_by_role("dialog", name="Compare answers")
    dialog.get_by_label("Second answer by").select_option("pirate")
    dialog.get_by_role("button", name="Write a second answer").click()
    comparison = chat.page.get_by_role("region", name="Comparison of two answers")
    expect(comparison.get_by_role("region", name="Answer A")).to_contain_text("Hello there!")
    expect(comparison.get_by_role("region", name="Answer B")).to_contain_text("Arr!")
    comparison.get_by_role("button", name="B is better").click()
    expect(comparison).to_have_count(0)
    expect(chat.answer).to_contain_text("Arr!")
    expect(chat.answers).to_have_count(1)
    [rating] = ratings(server, chat)
    assert rating["compared"]["verdict"] == "worse"
    chat.page.reload()
    expect(chat.answer).to_contain_text("Arr!")


def test_ratings_appear_on_the_feedback_page(chat: Chat) -> None:
    answered(chat)
    chat.of_answer("Good answer").click()
    expect(chat.of_answer("Good answer")).to_have_attribute("aria-pressed", "true")
    with chat.conversations() as shown:
        shown.get_by_role("button", name="Feedback").click()
    page = chat.page.get_by_role("group", name="Feedback")
    expect(page.get_by_role("heading", name="Feedback", exact=True)).to_be_visible()
    expect(page).to_contain_text("anonymous")
    chat.button("Back to the chat").click()
    expect(chat.page.get_by_label("Message", exact=True)).to_be_visible()
