"""Every guide does what it says: its blocks are run in order, as one script, with the demo model.

What a block prints is compared loosely with what the guide shows: numbers and ids may differ.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .langfuse import URL_OF_THE_PAGES, langfuse
from .pages import DOCS, GUIDES, Block, blocks
from .reader import Reader

QUICK = frozenset({"feedback-log"})
"""Pages that cost the usual suite a second or two; the others are read by `nox -s guides`."""
TRAINING = frozenset({"finetune", "improve", "onnx", "preferences", "qat"})
"""Guides that need torch, and minutes."""
PAGES = [DOCS / "getting-started.md", *sorted(GUIDES.glob("*.md"))]
COMMAND_S = 600.0
TOOLS = ("curl", "jq", "openssl", "promtool")


def marks(name: str) -> tuple[pytest.MarkDecorator, ...]:
    if name in QUICK:
        return ()
    return (pytest.mark.parity, pytest.mark.slow) if name in TRAINING else (pytest.mark.guides,)


def needs_nothing(page: list[Block]) -> bool:
    return not any(block.is_code and block.not_run is None for block in page)


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.stem, marks=marks(page.stem)) for page in PAGES]
)
def test_a_page_does_what_it_says(page: Path, reader: Callable[..., Reader]) -> None:
    found = blocks(page)
    if needs_nothing(found):
        pytest.skip("nothing in it can be run here")
    for tool in TOOLS:
        if shutil.which(tool) is None and any(tool in block.text for block in found):
            pytest.skip(f"{tool} is not installed")
    with others_of(found) as instead:
        reader(COMMAND_S, instead).read(found)


@contextmanager
def others_of(page: list[Block]) -> Iterator[dict[str, str]]:
    """The other servers that a page talks to."""
    if not any(URL_OF_THE_PAGES in block.text for block in page):
        yield {}
        return
    pytest.importorskip("langfuse")
    with langfuse() as instead:
        yield instead
