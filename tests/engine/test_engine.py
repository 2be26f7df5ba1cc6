"""The engine as a whole, over scripted answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from qwenkit.backends.scripted import ScriptedBackend, ScriptedTokenizer
from qwenkit.engine import grammar
from qwenkit.engine.engine import Engine
from qwenkit.engine.request import (
    Finished,
    FinishReason,
    PromptReady,
    RequestDone,
    SamplingParams,
    Thinking,
    Token,
)
from qwenkit.errors import (
    ContextOverflow,
    DecodeFailed,
    EngineBusy,
    EngineStopped,
    InvalidGrammar,
    InvalidRequest,
)

from .conftest import Answer, ask, request

pytestmark = pytest.mark.anyio
Start = Callable[..., Engine]
ABC = {"abc": "defghi", "one": "111", "two": "222", "three": "333", "long": "x" * 400}
TOKENS = ScriptedTokenizer()
OPEN, CLOSE = TOKENS.added_tokens["<think>"], TOKENS.added_tokens["</think>"]


async def settled(engine: Engine) -> None:
    """Wait until nothing runs and nothing waits."""
    assert await asyncio.to_thread(engine._loop.wait_idle, 10)


async def test_an_answer_comes_token_by_token_between_its_first_and_last_event(
    start_engine: Start,
) -> None:
    answer = await ask(start_engine(ScriptedBackend(ABC)), "abc")
    kinds = [type(event) for event in answer.events]
    assert kinds == [PromptReady, *[Token] * 7, Finished, RequestDone]
    assert answer.text() == "defghi"
    assert answer.finished().reason is FinishReason.STOP
    assert answer.finished().n_tokens == 7


async def test_many_requests_at_once_get_each_its_own_answer(start_engine: Start) -> None:
    engine = start_engine(ScriptedBackend(ABC, n_slots=4))
    prompts = ["one", "two", "three"] * 7
    answers = await asyncio.gather(*(ask(engine, prompt) for prompt in prompts))
    assert [a.text() for a in answers] == [ABC[prompt] for prompt in prompts]


async def test_running_answers_share_one_decode(start_engine: Start) -> None:
    backend = ScriptedBackend(ABC, n_slots=4)
    engine = start_engine(backend)
    backend.hold()
    asked = [asyncio.create_task(ask(engine, prompt)) for prompt in ("one", "two", "three")]
    await asyncio.to_thread(backend.wait_until_held)
    while engine._n_open < 3:  # the first is held in its prefill; the others are queued behind it
        await asyncio.sleep(0)
    backend.release()
    await asyncio.gather(*asked)
    assert max(len(set(rows.slots.tolist())) for rows in backend.decodes) == 3


async def test_max_tokens_ends_an_answer_with_length(start_engine: Start) -> None:
    answer = await ask(start_engine(ScriptedBackend(ABC)), "abc", max_tokens=3)
    assert answer.text() == "def"
    assert answer.finished().reason is FinishReason.LENGTH


async def test_the_context_s_end_ends_an_answer_with_length(start_engine: Start) -> None:
    answer = await ask(start_engine(ScriptedBackend(ABC, n_ctx=10)), "long")
    assert answer.finished().n_tokens == 6
    assert answer.finished().reason is FinishReason.LENGTH


async def test_a_prompt_over_the_context_is_refused_with_both_numbers(start_engine: Start) -> None:
    engine = start_engine(ScriptedBackend(ABC, n_ctx=8))
    with pytest.raises(ContextOverflow) as caught:
        await ask(engine, "abc" * 5)
    assert (caught.value.n_prompt, caught.value.n_ctx) == (15, 8)


async def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(start_engine: Start) -> None:
    answer = await ask(start_engine(ScriptedBackend(ABC)), "abc", stop=("gh", "zz"))
    assert answer.text() == "def"
    assert answer.finished().stop == "gh"


async def test_text_that_only_began_like_a_stop_string_is_given_back(start_engine: Start) -> None:
    answer = await ask(start_engine(ScriptedBackend(ABC)), "abc", stop=("hix",))
    assert answer.text() == "defghi"
    assert answer.finished().text == "hi"


async def test_a_stop_token_ends_the_answer(start_engine: Start) -> None:
    answer = await ask(start_engine(ScriptedBackend(ABC)), "abc", stop_tokens=frozenset({ord("g")}))
    assert answer.text() == "def"
    assert answer.finished().reason is FinishReason.STOP


async def test_ignoring_the_end_of_text_goes_on_to_max_tokens(start_engine: Start) -> None:
    answer = await ask(start_engine(ScriptedBackend(ABC)), "abc", ignore_eos=True, max_tokens=20)
    assert answer.finished().n_tokens == 20
    assert not set(answer.tokens()) & TOKENS.eos_tokens


async def test_max_tokens_of_zero_computes_the_prompt_alone(start_engine: Start) -> None:
    answer = await ask(start_engine(ScriptedBackend(ABC)), "abc", max_tokens=0)
    assert [type(event) for event in answer.events] == [PromptReady, Finished, RequestDone]


async def test_a_second_request_reuses_the_first_one_s_prefix(start_engine: Start) -> None:
    backend = ScriptedBackend({"?": "z"})
    engine = start_engine(backend)
    await ask(engine, "a" * 50 + "b?")
    before = sum(len(rows.tokens) for rows in backend.decodes)
    answer = await ask(engine, "a" * 50 + "c?")
    computed = sum(len(rows.tokens) for rows in backend.decodes) - before
    assert answer.ready.n_cached == 50
    assert computed == 3  # the prompt's two last tokens and the answer's first


async def test_choices_share_one_prefill(start_engine: Start) -> None:
    backend = ScriptedBackend({"?": "yes"}, n_slots=4)
    answer = await ask(start_engine(backend), "q" * 100 + "?", n=3)
    assert [answer.text(choice) for choice in range(3)] == ["yes"] * 3
    n_rows = sum(len(rows.tokens) for rows in backend.decodes)
    assert n_rows < 100 + 3 * 5


async def test_requests_with_a_common_head_compute_it_once(start_engine: Start) -> None:
    backend = ScriptedBackend({"?": "k"}, n_slots=8, n_batch=64)
    engine = start_engine(backend)
    head = "h" * 200
    await asyncio.gather(*(ask(engine, head + letter + "?") for letter in "abcdefgh"))
    assert sum(len(rows.tokens) for rows in backend.decodes) < 200 + 8 * 6


async def test_more_choices_than_slots_all_end(start_engine: Start) -> None:
    answer = await ask(start_engine(ScriptedBackend(ABC, n_slots=2)), "abc", n=5)
    assert [answer.text(choice) for choice in range(5)] == ["defghi"] * 5


async def test_closing_a_stream_frees_its_slot(start_engine: Start) -> None:
    engine = start_engine(ScriptedBackend(ABC))
    async with aclosing(engine.stream(request(engine, "long"))) as events:
        async for event in events:
            if isinstance(event, Token):
                break
    await settled(engine)
    assert engine.snapshot().n_running == 0


async def test_closing_a_stream_in_its_prefill_ends_the_decode_at_once(start_engine: Start) -> None:
    backend = ScriptedBackend(ABC)
    engine = start_engine(backend)
    backend.hold()
    asked = asyncio.create_task(ask(engine, "abc" * 40))
    assert await asyncio.to_thread(backend.wait_until_held)
    asked.cancel()
    await settled(engine)  # though the decode was never released
    backend.release()
    assert (await ask(engine, "abc")).text() == "defghi"


async def test_a_waiting_request_can_be_cancelled(start_engine: Start) -> None:
    backend = ScriptedBackend(ABC, n_slots=1)
    engine = start_engine(backend)
    backend.hold()
    running = asyncio.create_task(ask(engine, "one"))
    await asyncio.to_thread(backend.wait_until_held)
    waiting = asyncio.create_task(ask(engine, "two"))
    while engine._n_open < 2:
        await asyncio.sleep(0)
    waiting.cancel()
    backend.release()
    assert (await running).text() == "111"
    await settled(engine)
    assert engine.snapshot().n_waiting == 0


async def test_a_full_queue_is_busy_and_says_when_to_come_back(start_engine: Start) -> None:
    backend = ScriptedBackend(ABC, n_slots=1)
    engine = start_engine(backend, max_queue=1)
    backend.hold()
    asked = [asyncio.create_task(ask(engine, "one")) for _ in range(2)]
    while engine._n_open < 2:
        await asyncio.sleep(0)
    with pytest.raises(EngineBusy) as caught:
        await ask(engine, "two")
    assert caught.value.retry_after_s >= 1
    backend.release()
    assert [a.text() for a in await asyncio.gather(*asked)] == ["111", "111"]


async def test_a_failed_decode_fails_that_request_alone(start_engine: Start) -> None:
    backend = ScriptedBackend(ABC, n_slots=4)
    backend.failing_tokens.add(ord("!"))
    engine = start_engine(backend)
    answers = await asyncio.gather(
        ask(engine, "one"), ask(engine, "bad!"), ask(engine, "two"), return_exceptions=True
    )
    assert isinstance(answers[1], DecodeFailed)
    assert [a.text() for a in (answers[0], answers[2]) if isinstance(a, Answer)] == ["111", "222"]


async def test_a_bug_in_the_backend_fails_the_running_requests_and_not_the_engine(
    start_engine: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backend = ScriptedBackend(ABC)
    engine = start_engine(backend)

    def broken(rows: Any) -> Any:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(backend, "decode", broken)
        with pytest.raises(DecodeFailed):
            await ask(engine, "abc")
    assert "ZeroDivisionError" in caplog.text
    assert (await ask(engine, "abc")).text() == "defghi"


async def test_a_pool_too_small_for_all_preempts_the_newest_and_loses_nothing(
    start_engine: Start,
) -> None:
    backend = ScriptedBackend({"?": "y" * 60}, n_slots=4, n_ctx=100, n_cells=160)
    engine = start_engine(backend)
    answers = await asyncio.gather(*(ask(engine, letter * 8 + "?") for letter in "abcd"))
    assert [a.text() for a in answers] == ["y" * 60] * 4
    assert engine.snapshot().n_preempted > 0
    assert engine.snapshot().cells_used == backend.n_cells_used


async def test_a_backend_whose_copies_take_cells_gives_the_same_answers(
    start_engine: Start,
) -> None:
    backend = ScriptedBackend(ABC, n_slots=3, n_resident=3, shares_cells=False, n_ctx=64)
    engine = start_engine(backend)
    prompts = ["one", "two", "three", "abc"] * 5
    answers = await asyncio.gather(*(ask(engine, prompt) for prompt in prompts))
    assert [a.text() for a in answers] == [ABC[prompt] for prompt in prompts]
    assert (await ask(engine, "abc")).ready.n_cached == 2


async def test_a_backend_that_copies_nothing_gives_the_same_answers(start_engine: Start) -> None:
    backend = ScriptedBackend(
        ABC, n_slots=3, n_resident=3, shares_cells=False, copies=False, n_ctx=64
    )
    engine = start_engine(backend)
    prompts = ["one", "two", "three", "abc"] * 5
    answers = await asyncio.gather(*(ask(engine, prompt) for prompt in prompts))
    assert [a.text() for a in answers] == [ABC[prompt] for prompt in prompts]
    again = await asyncio.gather(*(ask(engine, "p" * 40 + "abc") for _ in range(3)))
    assert [a.text() for a in again] == [ABC["abc"]] * 3
    assert (await ask(engine, "p" * 40 + "abc")).ready.n_cached == 42


async def test_a_long_prompt_is_computed_in_chunks_beside_a_running_answer(
    start_engine: Start,
) -> None:
    backend = ScriptedBackend(ABC | {"p": "."}, n_slots=2, n_batch=256)
    engine = start_engine(backend)
    async with aclosing(engine.stream(request(engine, "long"))) as running:
        async for event in running:
            if isinstance(event, Token):
                break
        await ask(engine, "p" * 1000)
        mixed = [rows for rows in backend.decodes if len(set(rows.slots.tolist())) == 2]
        assert len(mixed) > 3


async def test_logprobs_are_those_of_the_model_and_the_likeliest_come_first(
    start_engine: Start,
) -> None:
    answer = await ask(start_engine(ScriptedBackend(ABC)), "abc", logprobs=3)
    first = next(e for e in answer.events if isinstance(e, Token)).logprobs
    assert first is not None
    assert first.chosen == first.top[0]
    assert first.chosen.bytes == b"d"
    assert [top.logprob for top in first.top] == sorted(
        (top.logprob for top in first.top), reverse=True
    )


async def test_prompt_logprobs_cover_every_token_but_the_first(start_engine: Start) -> None:
    engine = start_engine(ScriptedBackend(ABC, n_slots=2, n_outputs=8))
    await ask(engine, "abcdef")  # what is cached has no logits, and must be computed again
    answer = await ask(engine, "abcdef", max_tokens=0, prompt_logprobs=True, logprobs=1)
    logprobs = answer.ready.logprobs
    assert logprobs[0] is None
    assert b"".join(entry.chosen.bytes for entry in logprobs[1:] if entry) == b"bcdef"


async def test_the_thinking_budget_closes_the_block_with_its_sentence(start_engine: Start) -> None:
    engine = start_engine(ScriptedBackend({"q": "<think>" + "hm " * 50 + "</think>fine"}))
    ending = (*engine.tokenizer.encode("Stop now."), CLOSE)
    thinking = Thinking(open=OPEN, close=CLOSE, budget=6, ending=ending)
    answer = await ask(engine, "q", thinking=thinking, max_tokens=40)
    assert answer.text().startswith("<think>hm hm Stop now.</think>")
    assert answer.finished().n_thinking == 6 + len(ending)


async def test_a_budget_of_zero_closes_the_block_at_once(start_engine: Start) -> None:
    engine = start_engine(ScriptedBackend({"q": "<think>hm</think>fine"}))
    thinking = Thinking(open=OPEN, close=CLOSE, budget=0, ending=(CLOSE,))
    assert (await ask(engine, "q", thinking=thinking)).text() == "<think></think>fine"


async def test_a_stop_string_in_the_thinking_does_not_end_the_answer(start_engine: Start) -> None:
    engine = start_engine(ScriptedBackend({"q": "<think>a END b</think>c END d"}))
    thinking = Thinking(open=OPEN, close=CLOSE)
    answer = await ask(engine, "q", thinking=thinking, stop=("END",))
    assert answer.text() == "<think>a END b</think>c "


async def test_a_grammar_binds_the_answer_and_not_the_thinking(start_engine: Start) -> None:
    engine = start_engine(ScriptedBackend({"q": "<think>hm</think>maybe"}))
    thinking = Thinking(open=OPEN, close=CLOSE)
    answer = await ask(engine, "q", thinking=thinking, grammar=grammar.choice(["yes", "no"]))
    assert answer.text() in ("<think>hm</think>yes", "<think>hm</think>no")
    assert answer.finished().reason is FinishReason.STOP


async def test_a_grammar_binds_the_first_token_when_the_model_does_not_think(
    start_engine: Start,
) -> None:
    engine = start_engine(ScriptedBackend({"q": "maybe"}))
    thinking = Thinking(open=OPEN, close=CLOSE)
    answer = await ask(engine, "q", thinking=thinking, grammar=grammar.choice(["yes", "no"]))
    assert answer.text() in ("yes", "no")


async def test_a_triggered_grammar_binds_only_what_follows_its_token(start_engine: Start) -> None:
    call = TOKENS.added_tokens["<tool_call>"]
    lark = grammar.lark('start: <tool_call> "[" /[0-9]/ "]"', trigger=call)
    engine = start_engine(ScriptedBackend({"q": "free <tool_call>bound<tool_call>x"}))
    answer = await ask(engine, "q", grammar=lark, max_tokens=10)
    assert answer.text().startswith("free <tool_call>[")


async def test_a_grammar_that_does_not_compile_is_refused_before_any_event(
    start_engine: Start,
) -> None:
    engine = start_engine(ScriptedBackend(ABC))
    with pytest.raises(InvalidGrammar):
        await ask(engine, "abc", grammar=grammar.lark("start: nothing_of_that_name"))
    assert (await ask(engine, "abc")).text() == "defghi"


async def test_a_token_outside_the_vocabulary_is_refused(start_engine: Start) -> None:
    engine = start_engine(ScriptedBackend(ABC))
    for sampling in (SamplingParams(logit_bias=((10**6, 1.0),)),):
        with pytest.raises(InvalidRequest) as caught:
            await ask(engine, "abc", sampling=sampling)
        assert caught.value.param == "logit_bias"


async def test_draining_lets_running_answers_end_and_takes_no_new_ones(
    start_engine: Start,
) -> None:
    backend = ScriptedBackend(ABC)
    engine = start_engine(backend)
    backend.hold()
    running = asyncio.create_task(ask(engine, "abc"))
    await asyncio.to_thread(backend.wait_until_held)
    draining = asyncio.create_task(engine.drain(10))
    while engine._accepting:
        await asyncio.sleep(0)
    with pytest.raises(EngineStopped):
        await ask(engine, "one")
    backend.release()
    assert await draining
    assert (await running).text() == "defghi"


async def test_what_has_not_ended_when_draining_does_gets_an_error(start_engine: Start) -> None:
    backend = ScriptedBackend(ABC)
    engine = start_engine(backend)
    backend.hold()
    running = asyncio.create_task(ask(engine, "abc"))
    await asyncio.to_thread(backend.wait_until_held)
    assert not await engine.drain(0)
    backend.release()
    with pytest.raises(EngineStopped):
        await running


async def test_closing_an_engine_ends_its_streams_and_frees_its_backend() -> None:
    backend = ScriptedBackend(ABC)
    engine = Engine(backend).start()
    backend.hold()
    running = asyncio.create_task(ask(engine, "abc"))
    await asyncio.to_thread(backend.wait_until_held)
    await asyncio.to_thread(engine.close)
    with pytest.raises(EngineStopped):
        await running
    assert backend.closed


async def test_a_prompt_warmed_while_idle_is_found_by_the_request_that_begins_so(
    start_engine: Start,
) -> None:
    engine = start_engine(ScriptedBackend({"?": "z"}))
    engine.warm(tuple(engine.tokenizer.encode("a" * 90)))
    await settled(engine)
    while engine.snapshot().cells_used < 90:
        await asyncio.sleep(0)
    assert (await ask(engine, "a" * 90 + "?")).ready.n_cached == 90


async def test_warming_gives_way_to_a_request_at_once(start_engine: Start) -> None:
    backend = ScriptedBackend(ABC)
    engine = start_engine(backend)
    backend.hold()
    engine.warm(tuple(engine.tokenizer.encode("w" * 90)))
    await asyncio.to_thread(backend.wait_until_held)
    asked = asyncio.create_task(ask(engine, "abc"))
    while engine._n_open < 1:
        await asyncio.sleep(0)
    await asyncio.to_thread(backend.wait_until_held)
    backend.release()
    assert (await asked).text() == "defghi"
    assert not any((rows.tokens == ord("w")).any() for rows in backend.decodes[1:])
