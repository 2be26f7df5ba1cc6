"""The engine's thread in trouble: races, failures at the worst moment, and nothing leaked."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest

from qwenkit.backends.base import ComputeFailed, FloatArray, NoRoom, Rows
from qwenkit.backends.scripted import ScriptedBackend, ScriptedTokenizer
from qwenkit.engine import grammar, sampling
from qwenkit.engine.engine import Engine
from qwenkit.engine.observer import SilentObserver
from qwenkit.engine.request import PromptReady, SamplingParams, Thinking
from qwenkit.errors import DecodeFailed, EngineBusy, EngineStopped

from .conftest import GREEDY, Answer, ask, request

pytestmark = pytest.mark.anyio
Start = Callable[..., Engine]
ABC = {"abc": "defghi", "one": "111", "two": "222", "three": "333", "long": "x" * 400}


class TroubledBackend(ScriptedBackend):
    """A scripted backend with a say before and after every decode.

    `before(rows)` may return an error to raise; `after(rows, logits)` may change the logits.
    """

    before: Callable[[Rows], Exception | None] = staticmethod(lambda rows: None)
    after: Callable[[Rows, FloatArray], None] = staticmethod(lambda rows, logits: None)

    def decode(self, rows: Rows) -> FloatArray:
        error = self.before(rows)
        if error is not None:
            raise error
        logits = super().decode(rows)
        self.after(rows, logits)
        return logits


def once(error: Exception, when: Callable[[Rows], bool] = lambda rows: True) -> Any:
    """An error for the first decode of a kind."""
    left = [error]
    return lambda rows: left.pop() if left and when(rows) else None


def n_slots_in(rows: Rows) -> int:
    return len(set(rows.slots.tolist()))


async def settled(engine: Engine) -> None:
    """Wait until nothing runs and nothing waits."""
    assert await asyncio.to_thread(engine._loop.wait_idle, 10)


async def soon(awaited: Any) -> Any:
    """Its result; a request that hangs fails the test instead of stopping it."""
    return await asyncio.wait_for(awaited, 10)


@pytest.fixture
def chains(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Counts the C samplers that are not freed."""
    native, n = sampling.native, [0]
    init, free = native.llama_sampler_chain_init, native.llama_sampler_free

    def counted_init(params: Any) -> Any:
        n[0] += 1
        return init(params)

    def counted_free(chain: Any) -> None:
        n[0] -= 1
        free(chain)

    monkeypatch.setattr(native, "llama_sampler_chain_init", counted_init)
    monkeypatch.setattr(native, "llama_sampler_free", counted_free)

    def count() -> int:
        gc.collect()
        return n[0]

    return count


async def held_together(engine: Engine, backend: ScriptedBackend, prompts: list[str]) -> Any:
    """Ask several things at once so that one step has all of them."""
    backend.hold()
    asked = [asyncio.create_task(ask(engine, prompt)) for prompt in prompts]
    await asyncio.to_thread(backend.wait_until_held)
    while engine._n_open < len(prompts):
        await asyncio.sleep(0)
    backend.release()
    return await soon(asyncio.gather(*asked, return_exceptions=True))


async def test_a_failed_batch_is_taken_apart_even_where_one_of_it_gives_way(
    start_engine: Start,
) -> None:
    backend = TroubledBackend(ABC)
    failed = once(ComputeFailed(), lambda rows: n_slots_in(rows) == 3)

    def fail_then_no_room(rows: Rows) -> Exception | None:
        error: Exception | None = failed(rows)
        if error is not None:
            backend.before = once(NoRoom())
        return error

    backend.before = fail_then_no_room
    engine = start_engine(backend)
    answers = await held_together(engine, backend, ["one", "two", "three"])
    assert [answer.text() for answer in answers] == ["111", "222", "333"]
    assert engine.snapshot().n_preempted == 1


async def test_parked_states_make_room_before_any_answer_has_to_give_way(
    start_engine: Start,
) -> None:
    backend = TroubledBackend(ABC)
    engine = start_engine(backend)
    await ask(engine, "one")
    backend.before = once(NoRoom())
    assert (await soon(ask(engine, "two"))).text() == "222"
    assert engine.snapshot().n_evicted == 1


async def test_without_any_room_the_request_fails_and_the_next_one_is_answered(
    start_engine: Start,
) -> None:
    backend = TroubledBackend(ABC)
    backend.before = lambda rows: NoRoom()
    engine = start_engine(backend)
    with pytest.raises(DecodeFailed):
        await soon(ask(engine, "one"))
    backend.before = lambda rows: None
    assert (await soon(ask(engine, "one"))).text() == "111"


async def test_a_bug_after_a_decode_leaves_no_cell_behind(
    start_engine: Start, caplog: pytest.LogCaptureFixture
) -> None:
    backend = TroubledBackend(ABC)

    def broken(rows: Rows, logits: FloatArray) -> None:
        raise ZeroDivisionError

    backend.after = broken
    engine = start_engine(backend)
    with pytest.raises(DecodeFailed):
        await soon(ask(engine, "abc"))
    await settled(engine)
    assert backend.n_cells_used == engine.snapshot().cells_used == 0
    backend.after = lambda rows, logits: None
    assert (await soon(ask(engine, "abc"))).text() == "defghi"


async def test_a_bug_while_a_request_is_let_in_fails_it_and_not_the_engine(
    start_engine: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backend = ScriptedBackend(ABC)
    engine = start_engine(backend)
    await ask(engine, "abc")

    def broken(*_: int) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(backend, "copy", broken)
        with pytest.raises(DecodeFailed):
            await soon(ask(engine, "abc"))
    assert (await soon(ask(engine, "abc"))).text() == "defghi"


async def test_a_state_that_gave_no_numbers_is_not_reused(start_engine: Start) -> None:
    backend = TroubledBackend(ABC)

    def spoil(rows: Rows, logits: FloatArray) -> None:
        logits[:] = np.nan

    backend.after = spoil
    engine = start_engine(backend)
    with pytest.raises(DecodeFailed):
        await soon(ask(engine, "abc"))
    backend.after = lambda rows, logits: None
    answer = await soon(ask(engine, "abc"))
    assert answer.ready.n_cached == 0
    assert answer.text() == "defghi"


class SlowTokenizer(ScriptedTokenizer):
    """A vocabulary that takes its time, as reading a large one for a first grammar does."""

    def __init__(self) -> None:
        super().__init__()
        self.reading, self.go_on = threading.Event(), threading.Event()

    def piece(self, token: int, *, special: bool = True) -> bytes:
        self.reading.set()
        assert self.go_on.wait(10)
        return super().piece(token, special=special)


@pytest.mark.parametrize("end", [Engine.close, lambda engine: asyncio.run(engine.drain(0))])
async def test_a_request_whose_grammar_compiles_while_the_engine_ends_is_told_so(
    start_engine: Start, end: Callable[[Engine], None]
) -> None:
    backend = ScriptedBackend(ABC)
    slow = backend.tokenizer = SlowTokenizer()
    engine = start_engine(backend)
    asked = asyncio.create_task(ask(engine, "abc", grammar=grammar.choice(["yes"])))
    await asyncio.to_thread(slow.reading.wait, 10)
    await asyncio.to_thread(end, engine)
    slow.go_on.set()
    with pytest.raises(EngineStopped):
        await soon(asked)


async def test_whoever_asks_while_the_engine_closes_is_answered_or_told() -> None:
    for _ in range(30):
        engine = Engine(ScriptedBackend(ABC)).start()
        closing = asyncio.create_task(asyncio.to_thread(engine.close))
        asked = []
        while not closing.done():
            asked.append(asyncio.create_task(ask(engine, "one")))
            await asyncio.sleep(0)
        for outcome in await soon(asyncio.gather(*asked, return_exceptions=True)):
            assert isinstance(outcome, Answer | EngineStopped | EngineBusy)


async def test_a_thread_that_was_stopped_takes_nothing_more() -> None:
    engine = Engine(ScriptedBackend(ABC)).start()
    await asyncio.to_thread(engine._loop.stop)
    with pytest.raises(EngineStopped):
        await soon(ask(engine, "one"))
    assert engine._n_open == 0


async def test_an_engine_with_something_queued_never_says_it_is_idle(start_engine: Start) -> None:
    backend = ScriptedBackend(ABC)
    engine = start_engine(backend)
    loop, done = engine._loop, threading.Event()

    def keep_waking() -> None:
        while not done.is_set():
            loop._post(lambda: None)

    waker = threading.Thread(target=keep_waking)
    waker.start()
    try:
        for _ in range(100):
            backend.hold()
            asked = asyncio.create_task(ask(engine, "one", max_tokens=1))
            while not engine._n_open:
                await asyncio.sleep(0)
            assert await asyncio.to_thread(backend.wait_until_held)
            assert not loop.wait_idle(0)
            backend.release()
            await asked
    finally:
        done.set()
        waker.join()


async def test_a_stream_whose_event_loop_is_gone_gives_its_slot_back(start_engine: Start) -> None:
    engine = start_engine(ScriptedBackend(ABC))

    def abandon() -> Any:
        loop = asyncio.new_event_loop()
        stream = engine.stream(request(engine, "long"))
        loop.run_until_complete(stream.__anext__())
        loop.close()
        return stream

    stream = await asyncio.to_thread(abandon)
    await settled(engine)
    assert engine.snapshot().n_running == 0
    await stream.aclose()


async def test_counts_can_be_read_from_any_thread_at_any_time(start_engine: Start) -> None:
    engine = start_engine(ScriptedBackend({"?": "yes"}, n_slots=4, n_resident=200))
    failures: list[Exception] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                engine.snapshot()
            except Exception as exc:  # the test reports it
                failures.append(exc)
                return

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for i in range(15):
            await asyncio.gather(*(ask(engine, f"{i} {j}?") for j in range(20)))
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert failures == []


async def test_a_request_cancelled_before_the_thread_saw_it_leaves_nothing(
    start_engine: Start, chains: Callable[[], int]
) -> None:
    backend = ScriptedBackend(ABC)
    engine = start_engine(backend)
    backend.hold()
    running = asyncio.create_task(ask(engine, "one"))
    await asyncio.to_thread(backend.wait_until_held)
    gone = asyncio.create_task(ask(engine, "two", sampling=SamplingParams(seed=1), n=3))
    while engine._n_open < 4:
        await asyncio.sleep(0)
    gone.cancel()
    backend.release()
    await running
    await settled(engine)
    del gone
    assert chains() == 0


async def test_prompt_log_probabilities_are_whole_with_several_choices_and_a_cached_prompt(
    start_engine: Start,
) -> None:
    engine = start_engine(ScriptedBackend({"?": "yes"}, n_slots=4, n_outputs=6))
    text = "abcdefghijklmnopqrstuvwxyz?"
    await ask(engine, text)
    answer = await soon(ask(engine, text, n=3, prompt_logprobs=True, logprobs=0))
    assert isinstance(answer.events[0], PromptReady)
    assert len(answer.ready.logprobs) == len(text)
    assert [answer.text(choice) for choice in range(3)] == ["yes"] * 3


async def test_more_choices_than_the_queue_holds_come_in_when_nothing_else_is_there(
    start_engine: Start,
) -> None:
    engine = start_engine(ScriptedBackend(ABC, n_slots=1), max_queue=1)
    answer = await soon(ask(engine, "one", n=5))
    assert [answer.text(choice) for choice in range(5)] == ["111"] * 5


async def test_the_end_of_a_thinking_budget_in_a_full_pool_does_not_stop_the_engine(
    start_engine: Start,
) -> None:
    added = ScriptedTokenizer().added_tokens
    opened, close = added["<think>"], added["</think>"]
    backend = ScriptedBackend(
        {"q": "<think>" + "h" * 60 + "</think>ok", "w": "."}, n_slots=2, n_ctx=90, n_cells=90
    )
    engine = start_engine(backend)
    thinking = Thinking(
        open=opened, close=close, budget=12, ending=(*b"Considering the limited time", close)
    )
    answers = await soon(
        asyncio.gather(
            *(ask(engine, f"{i}q", thinking=thinking, max_tokens=60) for i in range(4)),
            *(ask(engine, f"{i}" + "w" * 50) for i in range(4)),
        )
    )
    assert all(answer.text().endswith("ok") for answer in answers[:4])


class Noted(SilentObserver):
    """Notes the requests it is told of."""

    def __init__(self) -> None:
        self.prompts: list[int] = []
        self.outcomes: list[str] = []

    def on_prompt(self, n_prompt: int, n_cached: int, adapter: str) -> None:
        self.prompts.append(n_prompt)

    def on_choice_done(self, n_tokens: int, outcome: str, adapter: str) -> None:
        self.outcomes.append(outcome)


async def test_warming_is_not_counted_among_the_requests(start_engine: Start) -> None:
    noted = Noted()
    engine = start_engine(ScriptedBackend(ABC), observer=noted)
    engine.warm(engine.tokenizer.encode("w" * 50))
    while engine.snapshot().n_parked < 1:
        await asyncio.sleep(0)
    await ask(engine, "one")
    await settled(engine)
    assert noted.prompts == [3]
    assert noted.outcomes == ["stop"]


# What the stress test asks, and what must come back.
PROMPTS = {f"{key}{i}?": answer for i in range(6) for key, answer in (("ab", "yes"), ("cd", "no!"))}


async def ask_at_random(engine: Engine, rng: random.Random) -> str:
    """Ask for something, and perhaps go away again; says how it ended."""
    key = rng.choice(list(PROMPTS))
    head = rng.choice("hijk") * rng.choice((0, 5, 60))
    fails = rng.random() < 0.1
    fields: dict[str, Any] = {
        "n": rng.choice((1, 1, 1, 3)),
        "max_tokens": rng.choice((None, 0, 2, 20)),
        "sampling": rng.choice((GREEDY, SamplingParams(temperature=0.1, seed=1))),
        "logprobs": rng.choice((None, 2)),
        "prompt_logprobs": rng.random() < 0.2,
        "stop": rng.choice(((), ("zz",))),
        "grammar": grammar.choice(["yes", "no!"]) if rng.random() < 0.2 else None,
    }
    patience = rng.choice((None, None, 0, 1, 3, 6))
    answer = Answer()
    made = request(engine, head + ("~" if fails else "") + key, **fields)
    try:
        async with aclosing(engine.stream(made)) as events:
            async for event in events:
                answer.events.append(event)
                if patience is not None and len(answer.events) > patience:
                    return "left"
    except DecodeFailed:
        assert fails
        return "failed"
    assert not fails
    whole = PROMPTS[key]
    for choice in range(fields["n"]):
        assert answer.text(choice) == whole[: fields["max_tokens"]]
    return "answered"


@pytest.mark.parametrize("shares_cells", [True, False])
async def test_thousands_of_requests_that_come_go_and_fail_leave_nothing_behind(
    start_engine: Start, chains: Callable[[], int], shares_cells: bool
) -> None:
    rng = random.Random(1)
    backend = ScriptedBackend(
        PROMPTS,
        n_slots=4,
        n_resident=9,
        n_ctx=100,
        n_cells=260,
        n_batch=64,
        n_outputs=7,
        shares_cells=shares_cells,
    )
    backend.failing_tokens.add(ord("~"))
    engine = start_engine(backend, max_queue=10_000)
    outcomes: list[str] = []

    async def client() -> None:
        for _ in range(40):
            asked = asyncio.create_task(ask_at_random(engine, rng))
            if rng.random() < 0.15:
                for _ in range(rng.randrange(20)):
                    await asyncio.sleep(0)
                asked.cancel()
            try:
                outcomes.append(await asked)
            except asyncio.CancelledError:
                outcomes.append("cancelled")
            if len(outcomes) % 100 == 0:
                backend.decodes.clear()

    await asyncio.wait_for(asyncio.gather(*(client() for _ in range(50))), 60)
    await settled(engine)
    assert len(outcomes) == 2000
    assert set(outcomes) == {"answered", "failed", "left", "cancelled"}
    assert engine._n_open == 0
    snapshot = engine.snapshot()
    assert (snapshot.n_running, snapshot.n_waiting) == (0, 0)
    assert snapshot.cells_used == backend.n_cells_used
    cache, scheduler = engine._loop._cache, engine._loop._scheduler
    assert cache.n_parked == len(cache._residents)
    left = [engine._loop._tasks, scheduler._leaders, scheduler._turns_waited]
    assert not any(left)
    assert cache.make_room(snapshot.n_cells)
    assert backend.n_cells_used == 0
    assert chains() == 0
