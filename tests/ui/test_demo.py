"""The page as `qwenkit serve` brings it to somebody who has configured nothing."""

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


@pytest.fixture(scope="module")
def demo(built_page: Path, serve_command: Callable[[], Served]) -> Served:
    return serve_command()


def test_the_demo_model_thinks_answers_and_uses_the_calculator(
    demo: Served, window: Callable[..., Any], chat_at: type[Chat]
) -> None:
    context, watched = window("desktop")
    chat = chat_at(context.new_page(), "desktop", watched)
    chat.page.goto(demo.url)
    with chat.panel("Settings") as panel:
        panel.get_by_label("Temperature").fill("0")
    chat.say("What is qwenkit?")
    expect(chat.answer).to_contain_text("Qwen3", timeout=60_000)
    expect(chat.answer.get_by_role("button", name="Thought for")).to_be_visible(timeout=60_000)
    chat.button("New chat").first.click()
    chat.say("What is 17 * 23?")
    expect(chat.answer.get_by_role("group", name="Tool calculator")).to_be_visible(timeout=60_000)
    expect(chat.of_answer("Good answer")).to_be_visible(timeout=60_000)
    assert watched.foreign(demo.url) == []
    assert watched.complaints == []
