"""Turns callers' text and ids into checked tokens and back. Knows the tokenizer; no routes.

Long texts are encoded on another thread: the event loop has other streams to carry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from qwenkit.backends.base import Tokenizer
from qwenkit.errors import InvalidRequest

_LONG = 16_384


async def encode(tokenizer: Tokenizer, text: str, *, special: bool) -> list[int]:
    """The tokens of a text; control tokens are recognised in it only when `special`."""
    if len(text) < _LONG:
        return tokenizer.encode(text, special=special)
    return await asyncio.to_thread(tokenizer.encode, text, special=special)


def decode(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    """The text of some tokens, control tokens included; broken characters show as U+FFFD."""
    return b"".join(map(tokenizer.piece, tokens)).decode("utf-8", "replace")


def check_ids(tokenizer: Tokenizer, tokens: Sequence[int], *, param: str) -> None:
    """Let only ids of the vocabulary pass.

    Raises:
        InvalidRequest: One is none; `param` and its index name it.
    """
    if tokens and not 0 <= min(tokens) <= max(tokens) < tokenizer.n_vocab:
        for index, token in enumerate(tokens):
            check_id(tokenizer, token, param=f"{param}[{index}]")


def check_id(tokenizer: Tokenizer, token: int, *, param: str) -> None:
    """Let only an id of the vocabulary pass.

    Raises:
        InvalidRequest: It is none.
    """
    if not 0 <= token < tokenizer.n_vocab:
        raise InvalidRequest(
            f"{param} is {token}; token ids go from 0 to {tokenizer.n_vocab - 1}", param=param
        )
