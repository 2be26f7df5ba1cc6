from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.cli.chat.markdown import BlockSplitter

TEXT = """# Title

A paragraph
of two lines.

1. one

   still one
2. two

```python
def f():

    return "```not the end"

x = 1
```

````md
```
inner

```
````

| a |
|---|
| 1 |

last"""

BLOCKS = [
    "# Title",
    "A paragraph\nof two lines.",
    "1. one\n\n   still one\n2. two",
    '```python\ndef f():\n\n    return "```not the end"\n\nx = 1\n```',
    "````md\n```\ninner\n\n```\n````",
    "| a |\n|---|\n| 1 |",
    "last",
]


def split(pieces: list[str]) -> list[str]:
    splitter = BlockSplitter()
    blocks = [block for piece in pieces for block in splitter.feed(piece)]
    return [*blocks, *splitter.finish()]


def test_markdown_is_cut_between_its_blocks_and_never_inside_one() -> None:
    assert split([TEXT]) == BLOCKS


@given(st.sets(st.integers(1, len(TEXT) - 1)))
def test_the_blocks_are_the_same_however_the_text_is_split(cuts: set[int]) -> None:
    places = [0, *sorted(cuts), len(TEXT)]
    assert split([TEXT[a:b] for a, b in itertools.pairwise(places)]) == BLOCKS


@given(st.text(alphabet="a`~ \n-\t", max_size=60))
def test_no_line_is_lost_or_doubled(text: str) -> None:
    lines = [line for block in split([text]) for line in block.splitlines() if line.strip()]
    assert lines == [line for line in text.split("\n") if line.strip()]


@pytest.mark.parametrize("text", ["", "\n", "\n\n\n"])
def test_blank_text_has_no_blocks(text: str) -> None:
    assert split([text]) == []


def test_the_tail_is_the_block_that_still_grows() -> None:
    splitter = BlockSplitter()
    splitter.feed("one\n\ntwo\nthr")
    assert splitter.tail == "two\nthr"
