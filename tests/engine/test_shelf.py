"""States put aside in ordinary memory, and brought back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.engine.engine import Engine
from qwenkit.engine.shelf import Shelf, Shelved

from .conftest import ask

Start = Callable[..., Engine]


def item(text: str, *, namespace: str = "", n_bytes: int = 10) -> Shelved:
    return Shelved(
        namespace, np.frombuffer(text.encode(), np.uint8).astype(np.int32), b"x" * n_bytes
    )


def tokens(text: str) -> np.ndarray:
    return item(text).tokens


def test_the_longest_prefix_is_found() -> None:
    shelf = Shelf(100)
    for text in ("abcd", "abxy", "zzz"):
        shelf.put(item(text))
    found, length = shelf.match("", tokens("abcq"))
    assert found is not None
    assert bytes(found.tokens.astype(np.uint8)) == b"abcd"
    assert length == 3
    assert shelf.match("", tokens("q")) == (None, 0)
    assert shelf.match("other", tokens("abcd")) == (None, 0)


def test_over_its_bytes_the_least_recently_used_goes() -> None:
    shelf = Shelf(30)
    for text in ("aa", "bb", "cc"):
        shelf.put(item(text))
    shelf.match("", tokens("aa"))
    shelf.put(item("dd"))
    kept = [text for text in ("aa", "bb", "cc", "dd") if shelf.covers("", tokens(text))]
    assert kept == ["aa", "cc", "dd"]


def test_a_state_larger_than_the_shelf_is_not_kept() -> None:
    shelf = Shelf(5)
    shelf.put(item("aa"))
    assert not shelf.covers("", tokens("aa"))


def test_what_a_longer_state_holds_too_is_not_kept_twice() -> None:
    shelf = Shelf(15)
    shelf.put(item("aa"))
    shelf.put(item("aab"))
    assert shelf.match("", tokens("aa"))[1] == 2
    shelf.forget_covered("", tokens("aabb"))
    assert shelf.match("", tokens("aab")) == (None, 0)


@pytest.mark.anyio
async def test_a_state_put_aside_while_others_ran_is_found_again(start_engine: Start) -> None:
    backend = ScriptedBackend(
        {"?": "z"}, n_slots=4, n_resident=4, n_ctx=2048, n_cells=2048, saves_states=True
    )
    engine = start_engine(backend)
    prompts = [letter * 200 + "?" for letter in "abcd"]
    for prompt in prompts:
        await ask(engine, prompt)
    assert engine.snapshot().cells_used <= 256 + 202
    for prompt in prompts:
        assert (await ask(engine, prompt)).ready.n_cached == 200
    assert engine.snapshot().cells_used == backend.n_cells_used


@pytest.mark.anyio
async def test_a_full_pool_puts_states_aside_instead_of_losing_them(start_engine: Start) -> None:
    backend = ScriptedBackend(
        {"?": "z"}, n_slots=2, n_resident=2, n_ctx=256, n_cells=256, saves_states=True
    )
    engine = start_engine(backend)
    for letter in "abc":
        await ask(engine, letter * 150 + "?")
    assert (await ask(engine, "a" * 150 + "?")).ready.n_cached == 150


@pytest.mark.anyio
async def test_a_closed_engine_keeps_nothing_on_its_shelf(start_engine: Start) -> None:
    backend = ScriptedBackend(
        {"?": "z"}, n_slots=2, n_resident=2, n_ctx=256, n_cells=256, saves_states=True
    )
    engine = start_engine(backend)
    for letter in "abc":
        await ask(engine, letter * 150 + "?")
    assert engine.snapshot().shelf_bytes > 0
    engine.close()
    assert (engine.snapshot().n_shelved, engine.snapshot().shelf_bytes) == (0, 0)


@pytest.mark.anyio
async def test_many_answers_with_a_shelf_are_those_without(start_engine: Start) -> None:
    backend = ScriptedBackend(
        {"?": "abc" * 20}, n_slots=3, n_resident=3, n_ctx=300, n_cells=600, saves_states=True
    )
    engine = start_engine(backend)
    heads = [letter * n for letter in "abcdef" for n in (40, 120)]
    answers = await asyncio.gather(*(ask(engine, head + "?") for head in heads * 3))
    assert {answer.text() for answer in answers} == {"abc" * 20}
    assert engine.snapshot().cells_used == backend.n_cells_used
