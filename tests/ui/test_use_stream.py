"""LangChain's `useStream` in a browser, on a page of another origin, against `/agent`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from qwenkit.ui.build import find_node

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
expect = playwright.expect

if TYPE_CHECKING:
    from playwright.sync_api import Page

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def origin(
    node_packages: Path,
    hosted: Callable[[Path], Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The page, built and served by another server than ours."""
    folder = tmp_path_factory.mktemp("page") / "dist"
    node = find_node()
    assert node is not None
    vite = node_packages / "vite" / "bin" / "vite.js"
    command = [str(node.node), str(vite), "build", "--outDir", str(folder), "--emptyOutDir"]
    subprocess.run(
        command, cwd=HERE / "page", env=node.environment(), check=True, capture_output=True
    )
    with hosted(folder) as url:
        yield url


@pytest.fixture(scope="module")
def address(origin: str, start: Callable[..., Any], mcp_config: Path) -> str:
    server = start(cors_origins=[origin], api_keys=["user-key"], mcp_config=str(mcp_config))
    return f"{origin}/?{urlencode({'api': f'{server.url}/agent', 'key': 'user-key'})}"


@pytest.fixture
def page(address: str, window: Callable[..., Any]) -> Page:
    context, _ = window()
    page: Page = context.new_page()
    page.goto(address)
    return page


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def turns(page: Page) -> Any:
    return page.locator("li[data-type] > span")


def settled(page: Page) -> None:
    expect(page.locator("output")).to_have_text("ready")


def test_an_answer_streams_and_stays(page: Page) -> None:
    say(page, "slowly")
    expect(turns(page).nth(1)).to_contain_text("step3")
    expect(page.locator("output")).to_have_text("writing")
    expect(turns(page)).to_have_count(2)
    expect(turns(page).nth(1)).to_contain_text("step40 arrived.")
    settled(page)


def test_a_call_is_approved(page: Page) -> None:
    say(page, "look up")
    expect(page.get_by_role("alert")).to_contain_text("variable")
    page.get_by_role("button", name="Approve").click()
    expect(turns(page)).to_have_text(["look up", "I will look.", "alpha-one", "It says alpha."])


def test_a_call_is_denied(page: Page) -> None:
    say(page, "look up")
    page.get_by_role("button", name="Deny").click()
    expect(turns(page).last).to_have_text("Then I will not.")
    assert "alpha" not in page.content()


def test_a_message_is_edited_and_the_older_branch_is_kept(page: Page) -> None:
    say(page, "hello")
    expect(turns(page)).to_have_text(["hello", "Hello there!"])
    settled(page)
    page.get_by_role("button", name="Edit").click()
    expect(turns(page)).to_have_text(["changed", "The change is seen."])
    settled(page)
    page.get_by_role("button", name="Branch 2 of 2").first.click()
    expect(turns(page)).to_have_text(["hello", "Hello there!"])


def test_an_answer_is_written_anew(page: Page) -> None:
    say(page, "anew")
    expect(turns(page).nth(1)).to_have_text("This is version 2.")
    settled(page)
    page.get_by_role("button", name="Regenerate").click()
    expect(turns(page).nth(1)).to_have_text("This is version 3.")
    expect(turns(page)).to_have_count(2)


def test_a_reload_in_mid_answer_goes_on_with_it(page: Page) -> None:
    say(page, "slowly")
    expect(turns(page).nth(1)).to_contain_text("step5")
    page.reload()
    expect(turns(page).nth(1)).to_contain_text("step40 arrived.")
    expect(turns(page)).to_have_count(2)


def test_stop_ends_the_answer_and_the_conversation_goes_on(page: Page) -> None:
    say(page, "slowly")
    expect(turns(page).nth(1)).to_contain_text("step5")
    page.get_by_role("button", name="Stop").click()
    settled(page)
    say(page, "hello")
    expect(turns(page).last).to_have_text("Hello there!")
    assert "arrived" not in page.content()
