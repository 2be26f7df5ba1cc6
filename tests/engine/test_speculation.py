"""Guessed tokens: what is guessed, when it pays, and that answers stay what they were."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Seq
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenkit.backends.base import FloatArray, IntArray, Rows
from qwenkit.backends.scripted import ScriptedBackend, ScriptedTokenizer
from qwenkit.engine.draft_model import DraftModel
from qwenkit.engine.engine import Engine
from qwenkit.engine.grammar import regex
from qwenkit.engine.loop import EngineLoop
from qwenkit.engine.observer import SilentObserver
from qwenkit.engine.request import FinishReason, GenerationRequest, SamplingParams, Thinking
from qwenkit.engine.sampling import Sampler
from qwenkit.engine.sequence import Sequence
from qwenkit.engine.speculation import Luck, RowCosts, continuation
from qwenkit.engine.task import Task
from qwenkit.errors import DecodeFailed, InvalidGrammar, InvalidSettings

from .conftest import GREEDY, Answer, ask

TEXT = "the quick brown fox jumps over the lazy dog and the quick brown fox runs away again"


def ids(text: str) -> IntArray:
    return np.frombuffer(text.encode(), np.uint8).astype(np.int32)


def text(tokens: Seq[int]) -> str:
    return bytes(int(token) for token in tokens).decode()


@pytest.mark.parametrize(
    ("said", "guess"),
    [
        ("one two three four. one two", " thr"),
        ("abcX abcY abc", "Y ab"),  # the newest place
        ("xabcP yabcQ xabc", "P ya"),  # the longest match
        ("abcabc", "abc"),  # no further than what there is
        ("ab ab", ""),  # too short a match
        ("hello", ""),
        ("a", ""),
    ],
)
def test_a_guess_is_what_followed_the_longest_newest_match(said: str, guess: str) -> None:
    assert text(continuation(ids(said), 4)) == guess


@given(st.lists(st.integers(0, 2), min_size=1, max_size=60), st.integers(1, 8))
def test_a_guess_stands_behind_the_last_three_tokens_somewhere(said: list[int], n: int) -> None:
    tokens = np.array(said, np.int32)
    guess = continuation(tokens, n).tolist()
    places = [i for i in range(3, len(said)) if said[i - 3 : i] == said[-3:]]
    if not guess:
        assert not places
    else:
        assert any(said[i : i + len(guess)] == guess for i in places)


def test_costs_between_measured_row_counts_are_interpolated() -> None:
    costs = RowCosts()
    for _ in range(3):
        costs.observe(1, 1.0)
    assert costs.seconds(8) == 1.0  # never tried
    for _ in range(3):
        costs.observe(9, 5.0)
    assert [costs.seconds(n) for n in (1, 3, 5, 9, 20)] == [1, 2, 3, 5, 5]
    assert costs.n_tried == 9


def test_one_step_that_met_with_something_else_does_not_count() -> None:
    costs = RowCosts()
    for seconds in (1.0, 1.0, 50.0, 1.0):
        costs.observe(1, seconds)
    costs.observe(2, 50.0)
    assert (costs.seconds(1), costs.seconds(2)) == (1.0, 1.0)


def test_what_was_not_measured_for_long_is_tried_again() -> None:
    costs = RowCosts()
    for _ in range(3):
        costs.observe(4, 9.0)
    for _ in range(2000):
        costs.observe(1, 1.0)
    assert (costs.n_tried, costs.seconds(4)) == (1, 1.0)


def test_luck_turns_with_what_comes_true() -> None:
    luck = Luck()
    assert luck.rate == 0.5
    for _ in range(10):
        luck.count(5, missed=False)
    assert luck.rate > 0.95
    for _ in range(40):
        luck.count(0, missed=True)
    assert luck.rate < 0.15


class Guesses:
    """Guesses the right tokens, but for every `wrong`-th."""

    is_free = True
    token_s = 0.0

    def __init__(self, answer: str, *, wrong: int = 0, n: int = 6) -> None:
        self._answer = ids(answer)
        self._wrong = wrong
        self._n = n

    def propose(self, sequences: Seq[Sequence], n_most: int) -> Mapping[Sequence, IntArray]:
        made = {}
        for sequence in sequences:
            at = sequence.n_generated
            guess = self._answer[at : at + min(self._n, n_most)].copy()
            if self._wrong:
                guess[self._wrong - 1 :: self._wrong] = ord("!")
            if len(guess):
                made[sequence] = guess
        return made

    def close(self) -> None:
        """Nothing is held."""


class Counts(SilentObserver):
    def __init__(self) -> None:
        self.drafted = self.accepted = 0

    def on_draft(self, n_drafted: int, n_accepted: int) -> None:
        self.drafted += n_drafted
        self.accepted += n_accepted


# An open and a close that the script never says: the budget ends the block by force.
THINKING = Thinking(open=1, close=2, inside=True, budget=12, ending=(10, 2))


class Steady(ScriptedBackend):
    """Every step takes as long as any other, so that guessing always pays."""

    def decode(self, rows: Rows) -> FloatArray:
        ends = time.perf_counter() + 0.002
        logits = super().decode(rows)
        while time.perf_counter() < ends:
            pass
        return logits


Start = Callable[..., Engine]
anyio = pytest.mark.anyio


async def answer(
    start: Start, guesses: Any, counts: Counts | None = None, **fields: Any
) -> tuple[Answer, ScriptedBackend]:
    backend = Steady({"?": TEXT}, n_slots=2)
    drafters = () if guesses is None else (guesses,)
    engine = start(backend, drafters=drafters, observer=counts)
    return await ask(engine, "tell?", **fields), backend


@anyio
@pytest.mark.parametrize("wrong", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"max_tokens": 17},
        {"max_tokens": 1},
        {"stop": ("jumps over",)},
        {"logprobs": 2},
        {"n": 2},
        {"sampling": SamplingParams(temperature=0, repeat_penalty=1.3, seed=3)},
        {"sampling": SamplingParams(temperature=5.0, top_k=40, seed=5), "max_tokens": 60},
        {"grammar": regex("[a-y ]{30}"), "max_tokens": 40},
        {"thinking": THINKING, "max_tokens": 60},
    ],
)
async def test_answers_are_those_of_plain_decoding(
    start_engine: Start, wrong: int, fields: dict[str, Any]
) -> None:
    plain, _ = await answer(start_engine, None, **fields)
    counts = Counts()
    guessed, _ = await answer(start_engine, Guesses(TEXT, wrong=wrong), counts, **fields)
    assert counts.drafted > 0 or fields.get("max_tokens") == 1
    for choice in range(fields.get("n", 1)):
        assert guessed.tokens(choice) == plain.tokens(choice)
        assert guessed.text(choice) == plain.text(choice)
        assert guessed.finished(choice) == plain.finished(choice)
    tops = [
        [event.logprobs for event in each.events if hasattr(event, "logprobs")]
        for each in (plain, guessed)
    ]
    assert tops[0] == tops[1]


@anyio
async def test_right_guesses_save_steps_and_are_counted(start_engine: Start) -> None:
    _, plain = await answer(start_engine, None)
    counts = Counts()
    said, backend = await answer(start_engine, Guesses(TEXT), counts)
    assert said.text() == TEXT
    assert len(backend.decodes) < len(plain.decodes) / 2
    assert len(TEXT) / 2 < counts.accepted <= counts.drafted


@anyio
async def test_what_a_wrong_guess_computed_is_not_kept(start_engine: Start) -> None:
    backend = Steady({"?": TEXT, "more": "yes"}, n_slots=2)
    engine = start_engine(backend, drafters=(Guesses(TEXT, wrong=2),))
    await ask(engine, "tell?", max_tokens=40)
    following = await ask(engine, "tell?" + TEXT[:40] + "more")
    assert following.ready.n_cached >= len("tell?") + 39
    assert following.text() == "yes"


@anyio
async def test_guesses_never_take_more_logits_or_cells_than_there_are(start_engine: Start) -> None:
    backend = ScriptedBackend({"?": TEXT}, n_slots=3, n_outputs=4, n_ctx=160, n_cells=300)
    engine = start_engine(backend, drafters=(Guesses(TEXT, n=15),))
    said = await asyncio.gather(*(ask(engine, f"{i} tell?") for i in range(6)))
    assert [each.text() for each in said] == [TEXT] * 6
    assert all(each.finished().reason is FinishReason.STOP for each in said)


@anyio
async def test_the_prompt_is_looked_up_by_default(start_engine: Start) -> None:
    counts = Counts()
    backend = Steady({"?": TEXT}, n_slots=1)
    engine = start_engine(backend, observer=counts)
    said = await ask(engine, f"{TEXT} tell?")
    assert said.text() == TEXT
    assert counts.accepted > 20


# A model that guesses.


@anyio
@pytest.mark.parametrize("small_says", [TEXT, TEXT.replace("fox", "cat"), "", "x" * 90])
async def test_a_draft_model_changes_no_answer(start_engine: Start, small_says: str) -> None:
    small = ScriptedBackend({"?": small_says}, n_slots=4)
    backend = ScriptedBackend({"?": TEXT, "other": "something else entirely"}, n_slots=4)
    engine = start_engine(backend, drafters=(DraftModel(small, backend.tokenizer),))
    asked = ["tell?", "other", "and tell?", "tell?", "please tell?", "other"]
    said = await asyncio.gather(*(ask(engine, each) for each in asked))
    expected = ["something else entirely" if each == "other" else TEXT for each in asked]
    assert [each.text() for each in said] == expected


@anyio
async def test_a_good_draft_model_saves_steps_behind_a_long_prompt_too(start_engine: Start) -> None:
    counts = Counts()
    small = ScriptedBackend({"?": TEXT}, n_slots=2)
    backend = Steady({"?": TEXT}, n_slots=2)
    drafter = DraftModel(small, backend.tokenizer)
    engine = start_engine(backend, drafters=(drafter,), observer=counts)
    assert (await ask(engine, "w" * 400 + " tell?")).text() == TEXT
    n_before = len(backend.decodes)
    assert (await ask(engine, "please tell?")).text() == TEXT
    assert len(backend.decodes) - n_before < len(TEXT) / 2
    assert counts.accepted > len(TEXT) / 2
    # No step of the large model waits for more of a prompt than a chunk.
    assert max(len(rows.tokens) for rows in small.decodes) <= 64
    engine.close()
    assert small.closed


@anyio
async def test_a_draft_model_that_is_never_sure_is_soon_left_alone(start_engine: Start) -> None:
    class Unsure(ScriptedBackend):
        def decode(self, rows: Rows) -> FloatArray:
            return super().decode(rows) * np.float32(0.01)

    small = Unsure({"?": TEXT}, n_slots=2)
    backend = Steady({"?": TEXT}, n_slots=2)
    engine = start_engine(backend, drafters=(DraftModel(small, backend.tokenizer),))
    assert (await ask(engine, "tell?")).text() == TEXT
    assert len(small.decodes) < len(TEXT) / 3


@anyio
async def test_a_guess_that_can_t_be_computed_does_not_fail_the_answer(start_engine: Start) -> None:
    backend = Steady({"?": TEXT}, n_slots=2)
    backend.failing_tokens = {ord("!")}
    engine = start_engine(backend, drafters=(Guesses(TEXT, wrong=3),))
    assert (await ask(engine, "tell?")).text() == TEXT


class Ends:
    """A matcher that allows everything and meets a limit at its n-th token."""

    complete = False

    def __init__(self, n: int) -> None:
        self._n_left = n

    def allows(self, token: int) -> bool:
        return True

    def mask(self, row: FloatArray) -> None:
        """Mask nothing."""

    def accept(self, token: int) -> None:
        self._n_left -= 1
        if self._n_left == 0:
            raise InvalidGrammar("a limit")


@anyio
@pytest.mark.parametrize("n", range(9, 21))
async def test_an_error_in_a_guess_parks_only_what_was_computed(n: int) -> None:
    backend = Steady({"?": TEXT}, n_slots=2)
    guesses = Guesses(TEXT, wrong=2)
    loop = EngineLoop(
        backend,
        step_latency_s=1,
        shelf_bytes=0,
        drafters=(guesses,),
        observer=SilentObserver(),
    )
    prompt = tuple(backend.tokenizer.encode("tell?"))
    request = GenerationRequest(prompt=prompt, sampling=GREEDY, grammar=regex(".*"))
    task = Task(request, asyncio.get_running_loop())
    sampler = Sampler(GREEDY, n_vocab=backend.tokenizer.n_vocab, n_ctx=4096)
    matcher: Any = Ends(n)
    task.sequences = [
        Sequence(
            request,
            choice=0,
            n_ctx=4096,
            tokenizer=backend.tokenizer,
            sampler=sampler,
            new_matcher=lambda: matcher,
        )
    ]
    loop.start()
    loop.submit(task)
    try:
        while not isinstance(await task.events.get(), Exception):
            pass
        held = backend.tokens(0)
        assert len(held) >= len("tell?") + n - 2
        assert bytes(held).decode() == ("tell?" + TEXT)[: len(held)]
    finally:
        await asyncio.to_thread(loop.stop)


@anyio
async def test_a_draft_model_that_fails_or_is_full_is_done_without(start_engine: Start) -> None:
    small = ScriptedBackend({"?": TEXT}, n_slots=2, n_ctx=40, n_cells=40)
    small.failing_tokens = {ord("j")}
    backend = ScriptedBackend({"?": TEXT}, n_slots=2)
    engine = start_engine(backend, drafters=(DraftModel(small, backend.tokenizer),))
    said = await asyncio.gather(ask(engine, "tell?"), ask(engine, "do tell?"))
    assert [each.text() for each in said] == [TEXT] * 2


def test_a_draft_model_of_another_vocabulary_is_refused() -> None:
    class Other(ScriptedTokenizer):
        def piece(self, token: int, *, special: bool = True) -> bytes:
            return b"?" if token == 97 else super().piece(token, special=special)

    with pytest.raises(InvalidSettings):
        DraftModel(ScriptedBackend({}), Other())


class Breaks(Steady):
    """Computes no numbers in the third row of a guess."""

    broken = True

    def decode(self, rows: Rows) -> FloatArray:
        logits = super().decode(rows)
        if self.broken and len(logits) > 2:
            logits[2] = np.nan
        return logits


@anyio
async def test_a_request_that_fails_on_a_guess_leaves_nothing_wrong(start_engine: Start) -> None:
    backend = Breaks({"?": TEXT}, n_slots=2)
    engine = start_engine(backend, drafters=(Guesses(TEXT),))
    with pytest.raises(DecodeFailed):
        await ask(engine, "tell?")
    backend.broken = False
    again = await ask(engine, "tell?")
    assert again.text() == TEXT
    assert backend.n_cells_used == engine.snapshot().cells_used
