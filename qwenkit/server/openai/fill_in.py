"""The prompt for a gap in a text, as Qwen was taught to fill it. Knows the tokenizer; no routes.

A file's form is `<|fim_prefix|>before<|fim_suffix|>after<|fim_middle|>`; what other files say can
stand before it. Source: Qwen2.5-Coder's report (arXiv 2409.12186), whose tokens Qwen3 kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from qwenkit.backends.base import Tokenizer
from qwenkit.errors import InvalidRequest
from qwenkit.server.tokenizing import encode

PREFIX, SUFFIX, MIDDLE = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"
PAD, REPOSITORY, FILE = "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"
STOPS = (PREFIX, SUFFIX, MIDDLE, PAD, REPOSITORY, FILE)
"""What follows a filled gap in texts that the model has seen, and is not part of it."""
_INSIDE_MARKS = re.compile("(?<=<)(?=" + "|".join(re.escape(mark[1:]) for mark in STOPS) + ")")
PROJECT_NAME, FILE_NAME = "myproject\n", "filename\n"
"""llama-server's names where the editor tells none, so that both servers say the same."""
OVERHEAD = 64
"""More tokens than the marks and names before other files take."""
SUFFIX_SHARE = 4
"""What follows the gap may have one part in so many, where not everything fits."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A gap as tokens.

    Args:
        before: What stands before it.
        after: What stands after it.
        extra: What else to know, the newest last; each begins with its file's mark and name.
    """

    before: Sequence[int]
    after: Sequence[int]
    extra: Sequence[Sequence[int]] = ()


async def gap(
    tokenizer: Tokenizer, before: str, after: str, extra: Sequence[tuple[str, str]] = ()
) -> Gap:
    """A gap's tokens. Code that spells a mark or a control token stays text.

    Args:
        tokenizer: The model's.
        before: The text before the gap.
        after: The text after it.
        extra: Names and texts of other files, the newest last.
    """
    return Gap(
        await _literal(tokenizer, before),
        await _literal(tokenizer, after),
        [await _file(tokenizer, name, text) for name, text in extra],
    )


def prompt(tokenizer: Tokenizer, filled: Gap, *, param: str) -> list[int]:
    """The prompt for a gap.

    Raises:
        InvalidRequest: The model has no token for a mark; `param` names the field.
    """
    marks = [_mark(tokenizer, text, param=param) for text in (PREFIX, SUFFIX, MIDDLE)]
    before, after, middle = marks
    own = [before, *filled.before, after, *filled.after, middle]
    return [*_others(tokenizer, filled.extra), *own]


def fitted(filled: Gap, room: int) -> tuple[Gap, bool]:
    """A gap that takes no more tokens than there is room for, and whether its own text was cut.

    What is next to the gap stays longest; other files go first, whole, and of them the oldest.
    """
    room = max(0, room - 3)
    n_after = min(len(filled.after), max(room // SUFFIX_SHARE, room - len(filled.before)))
    n_before = min(len(filled.before), room - n_after)
    before = filled.before[len(filled.before) - n_before :]
    cut = n_after < len(filled.after) or n_before < len(filled.before)
    extra = _newest(filled.extra, room - n_before - n_after)
    return Gap(before, filled.after[:n_after], extra), cut


def stop_tokens(tokenizer: Tokenizer) -> frozenset[int]:
    """The tokens that end what fills a gap."""
    ids = (tokenizer.token_id(text) for text in STOPS)
    return frozenset(token for token in ids if token is not None)


def has_gap(tokenizer: Tokenizer, tokens: Sequence[int]) -> bool:
    """Whether a raw prompt asks to fill a gap: editors write the marks themselves."""
    middle = tokenizer.token_id(MIDDLE)
    return middle is not None and middle in tokens


def _newest(extra: Sequence[Sequence[int]], room: int) -> list[Sequence[int]]:
    room -= OVERHEAD
    kept: list[Sequence[int]] = []
    for each in reversed(extra):
        room -= len(each)
        if room < 0:
            break
        kept.insert(0, each)
    return kept


def _others(tokenizer: Tokenizer, extra: Sequence[Sequence[int]]) -> list[int]:
    if not extra:
        return []
    repository, file = tokenizer.token_id(REPOSITORY), tokenizer.token_id(FILE)
    head = [] if repository is None else [repository, *tokenizer.encode(PROJECT_NAME)]
    own = [] if file is None else [file, *tokenizer.encode(FILE_NAME)]
    return [*head, *(token for each in extra for token in each), *own]


async def _file(tokenizer: Tokenizer, name: str, text: str) -> list[int]:
    mark = tokenizer.token_id(FILE)
    ended = text if text.endswith("\n") else f"{text}\n"
    tokens = await _literal(tokenizer, f"{name}\n{ended}")
    return tokens if mark is None else [mark, *tokens]


async def _literal(tokenizer: Tokenizer, text: str) -> list[int]:
    # These marks are no control tokens to Qwen's tokenizer: it would take them from any text.
    parts = [await encode(tokenizer, part, special=False) for part in _INSIDE_MARKS.split(text)]
    return [token for part in parts for token in part]


def _mark(tokenizer: Tokenizer, text: str, *, param: str) -> int:
    token = tokenizer.token_id(text)
    if token is None:
        raise InvalidRequest(
            f"the model has no token {text}, so it can't fill in before a suffix", param=param
        )
    return token
