"""Texts become vectors between the steps of answers."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from qwenkit.backends.scripted import ScriptedBackend
from qwenkit.errors import ContextOverflow, DecodeFailed, EngineStopped, InvalidRequest

from .conftest import ask

pytestmark = pytest.mark.anyio


def tokens(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8).astype(np.int32)


async def test_texts_become_vectors_of_length_one_in_their_order(start_engine) -> None:
    engine = start_engine(ScriptedBackend({}))
    first, second, third = await engine.embed([tokens("aab"), tokens("b"), tokens("aaaabb")])
    assert [np.linalg.norm(v) for v in (first, second, third)] == pytest.approx([1, 1, 1])
    np.testing.assert_allclose(first, third, atol=1e-6)  # the same shares
    assert not np.allclose(first, second)


async def test_a_long_text_gives_way_to_answers_between_its_chunks(start_engine) -> None:
    backend = ScriptedBackend({"?": "x" * 40}, n_batch=32, n_ctx=4096)
    engine = start_engine(backend)
    embedding = asyncio.create_task(engine.embed([tokens("a" * 4000)]))
    answer = await ask(engine, "?")
    assert answer.text() == "x" * 40
    assert not embedding.done()
    await embedding


async def test_a_text_that_fails_leaves_the_others(start_engine) -> None:
    backend = ScriptedBackend({"?": "x"})
    backend.failing_tokens = {ord("!")}
    engine = start_engine(backend)
    with pytest.raises(DecodeFailed):
        await engine.embed([tokens("a"), tokens("!"), tokens("b")])
    assert len(await engine.embed([tokens("b")])) == 1


class Remembers(ScriptedBackend):
    """Knows which texts it was asked to embed."""

    def embed(self, tokens):
        self.embedded = [*getattr(self, "embedded", []), bytes(tokens.astype(np.uint8))]
        return super().embed(tokens)


async def test_a_text_that_is_not_wanted_any_more_is_not_computed(start_engine) -> None:
    backend = Remembers({"?": "x"})
    engine = start_engine(backend)
    backend.hold()
    first = asyncio.create_task(engine.embed([tokens("a")]))
    second = asyncio.create_task(engine.embed([tokens("b")]))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    backend.release()
    assert len(await first) == 1
    assert await engine.drain(10)
    assert backend.embedded == [b"a"]


async def test_texts_and_answers_do_not_fill_the_queue_for_each_other(start_engine) -> None:
    engine = start_engine(ScriptedBackend({"?": "x"}, n_slots=1), max_queue=2)
    embedding = asyncio.create_task(engine.embed([tokens("a")] * 100))
    await asyncio.sleep(0)
    assert (await ask(engine, "?")).text() == "x"
    assert len(await embedding) == 100


async def test_work_in_the_background_gives_way_to_a_text(start_engine) -> None:
    backend = ScriptedBackend({"?": "x"})
    engine = start_engine(backend)
    backend.hold()
    engine.warm(tuple(tokens("a" * 100)))
    assert await asyncio.to_thread(backend.wait_until_held)
    embedding = asyncio.create_task(engine.embed([tokens("b")]))
    assert await asyncio.to_thread(backend.wait_until_held)
    backend.release()
    assert len(await embedding) == 1


async def test_stopping_ends_what_waits(start_engine) -> None:
    backend = ScriptedBackend({"?": "x"})
    engine = start_engine(backend)
    backend.hold()
    waiting = asyncio.create_task(engine.embed([tokens("a"), tokens("b")]))
    assert await asyncio.to_thread(backend.wait_until_held)
    closing = asyncio.create_task(asyncio.to_thread(engine.close))
    with pytest.raises(EngineStopped):
        await waiting
    await closing


async def test_what_can_t_be_embedded_is_refused_with_its_reason(start_engine) -> None:
    engine = start_engine(ScriptedBackend({}, n_ctx=16))
    with pytest.raises(InvalidRequest, match="empty"):
        await engine.embed([tokens("")])
    with pytest.raises(ContextOverflow, match=r"17.*16"):
        await engine.embed([tokens("a" * 17)])
    with pytest.raises(InvalidRequest, match="vocabulary"):
        await engine.embed([np.array([10**6], np.int32)])
