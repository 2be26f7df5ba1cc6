"""One choice, token by token: thinking, budgets, grammars and stops, without any backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from qwenkit.backends.base import FloatArray
from qwenkit.backends.scripted import ScriptedTokenizer
from qwenkit.engine import grammar
from qwenkit.engine.grammar import GrammarCompiler
from qwenkit.engine.request import (
    Event,
    Finished,
    FinishReason,
    GenerationRequest,
    Grammar,
    SamplingParams,
    Thinking,
    Token,
)
from qwenkit.engine.sampling import Sampler
from qwenkit.engine.sequence import Sequence
from qwenkit.errors import DecodeFailed

TOKENIZER = ScriptedTokenizer()
COMPILER = GrammarCompiler(TOKENIZER)
N_VOCAB = TOKENIZER.n_vocab
OPEN, CLOSE = TOKENIZER.added_tokens["<think>"], TOKENIZER.added_tokens["</think>"]
CALL = TOKENIZER.added_tokens["<tool_call>"]
EOS = TOKENIZER.control_tokens["<|im_end|>"]


def spell(text: str) -> list[int]:
    return TOKENIZER.encode(text, special=True)


def row(*wanted: int) -> FloatArray:
    """A row that wants these tokens most, the first one before the others."""
    logits = np.zeros(N_VOCAB, np.float32)
    for rank, token in enumerate(wanted):
        logits[token] = 20 - rank
    return logits


def sequence(*, n_ctx: int = 200, grammar: Grammar | None = None, **fields: Any) -> Sequence:
    fields.setdefault("sampling", SamplingParams(temperature=0))
    request = GenerationRequest(prompt=tuple(spell("prompt")), grammar=grammar, **fields)
    made = Sequence(
        request,
        choice=0,
        n_ctx=n_ctx,
        tokenizer=TOKENIZER,
        sampler=Sampler(request.sampling, n_vocab=N_VOCAB, n_ctx=n_ctx),
        new_matcher=None if grammar is None else COMPILER.prepare(grammar),
    )
    made.n_computed = made.n_prompt
    return made


class Run:
    """What a sequence says while a model wants the tokens of a text."""

    def __init__(self, made: Sequence, wants: str | Callable[[list[int]], int]) -> None:
        self.events: list[Event] = []
        self.n_steps = 0
        script = iter([*spell(wants), *[EOS] * 100]) if isinstance(wants, str) else None
        while not made.finished:
            self.n_steps += 1
            said = made.tokens[made.n_prompt : made.n_tokens].tolist()
            wanted = next(script) if script is not None else wants(said)  # type: ignore[operator]
            self.events += made.advance(row(wanted, EOS))

    @property
    def tokens(self) -> list[int]:
        return [event.id for event in self.events if isinstance(event, Token)]

    @property
    def text(self) -> str:
        return "".join(e.text for e in self.events if isinstance(e, Token | Finished))

    @property
    def end(self) -> Finished:
        last = self.events[-1]
        assert isinstance(last, Finished)
        return last


def thinking(**fields: Any) -> Thinking:
    return Thinking(open=OPEN, close=CLOSE, **fields)


def test_the_text_is_what_the_model_wanted_and_the_end_is_counted() -> None:
    run = Run(sequence(), "héllo")
    assert run.text == "héllo"
    assert run.end.reason is FinishReason.STOP
    assert run.end.n_tokens == len("héllo".encode()) + 1


def test_every_event_but_the_last_is_a_token() -> None:
    run = Run(sequence(), "ab")
    assert [type(event) for event in run.events] == [Token, Token, Token, Finished]


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_max_tokens_is_a_limit(limit: int) -> None:
    run = Run(sequence(max_tokens=limit), "abcdef")
    assert run.text == "abcdef"[:limit]
    assert run.end.reason is FinishReason.LENGTH


def test_the_context_is_a_limit_too() -> None:
    assert Run(sequence(n_ctx=len("prompt") + 4, max_tokens=50), "abcdef").text == "abcd"


def test_the_end_of_text_just_in_time_is_no_length() -> None:
    assert Run(sequence(max_tokens=3), "ab").end.reason is FinishReason.STOP


@pytest.mark.parametrize(
    ("text", "stop", "left"),
    [("abcd", "bc", "a"), ("xéy", "é", "x"), ("aab", "ab", "a"), ("ab", "abc", "ab")],
)
def test_a_stop_string_ends_the_text_before_it(text: str, stop: str, left: str) -> None:
    run = Run(sequence(stop=(stop,)), text)
    assert run.text == left
    assert run.end.stop == (stop if stop in text else None)


def test_a_stop_token_ends_the_answer_and_has_no_text() -> None:
    run = Run(sequence(stop_tokens=frozenset({CALL})), "ab<tool_call>cd")
    assert run.text == "ab"
    assert run.tokens[-1] == CALL


def test_neither_stop_string_nor_stop_token_counts_in_the_thinking() -> None:
    made = sequence(
        stop=("END",), stop_tokens=frozenset({ord("!")}), thinking=thinking(inside=True)
    )
    run = Run(made, "a END! b</think>c! d")
    assert run.text == "a END! b</think>c"


def test_thinking_is_counted_from_behind_its_opening_to_its_close() -> None:
    assert Run(sequence(thinking=thinking()), "<think>abc</think>de").end.n_thinking == 4
    assert Run(sequence(thinking=thinking(inside=True)), "abc</think>de").end.n_thinking == 4
    assert Run(sequence(thinking=thinking()), "abc").end.n_thinking == 0


def test_a_block_opened_later_than_at_the_start_is_no_thinking() -> None:
    run = Run(sequence(thinking=thinking(budget=1, ending=(CLOSE,))), "a<think>bcd")
    assert run.text == "a<think>bcd"
    assert run.end.n_thinking == 0


def test_a_block_is_not_awaited_where_the_prompt_had_one() -> None:
    made = sequence(thinking=thinking(expected=False), stop=("k>a",))
    assert Run(made, "<think>ab").text == "<thin"


@pytest.mark.parametrize("budget", [0, 1, 5])
def test_the_budget_is_kept_and_the_answer_follows(budget: int) -> None:
    ending = (*spell("\nso."), CLOSE, *spell("\n\n"))
    made = sequence(thinking=thinking(inside=True, budget=budget, ending=ending))

    def wants(said: list[int]) -> int:
        if CLOSE not in said:
            return ord("h")
        return ord("A") if said[-1] == ord("\n") else EOS

    run = Run(made, wants)
    assert run.text == "h" * budget + "\nso.</think>\n\nA"
    assert run.end.n_thinking == budget + len("\nso.") + 1


def test_a_block_that_ends_within_the_budget_is_left_alone() -> None:
    made = sequence(thinking=thinking(inside=True, budget=4, ending=(ord("!"), CLOSE)))
    assert Run(made, "abc</think>d").text == "abc</think>d"


def test_the_ending_comes_in_one_step_to_be_computed_together() -> None:
    ending = (*spell("stop"), CLOSE)
    made = sequence(thinking=thinking(inside=True, budget=0, ending=ending))
    events = made.advance(row(ord("h")))
    assert [event.id for event in events if isinstance(event, Token)] == list(ending)
    assert made.n_pending == len(ending)


def test_the_ending_stops_at_max_tokens() -> None:
    ending = (*spell("stop"), CLOSE)
    short = sequence(max_tokens=2, thinking=thinking(inside=True, budget=0, ending=ending))
    assert Run(short, "h").text == "st"


def test_of_the_ending_the_grammar_takes_only_what_it_allows() -> None:
    ending = (CLOSE, *spell("\n\n"))
    made = sequence(
        thinking=thinking(inside=True, budget=0, ending=ending), grammar=grammar.choice(["yes"])
    )
    assert Run(made, "hm").text == "</think>yes"
    free = sequence(
        thinking=thinking(inside=True, budget=0, ending=ending), grammar=grammar.regex(r"\s*yes")
    )
    assert Run(free, lambda said: ord("y")).text == "</think>\n\nyes"


def test_a_grammar_binds_only_behind_the_thinking() -> None:
    made = sequence(thinking=thinking(), grammar=grammar.choice(["no"]))
    run = Run(made, "<think>maybe</think>maybe")
    assert run.text == "<think>maybe</think>no"
    assert run.end.reason is FinishReason.STOP


def test_a_grammar_binds_the_first_token_where_the_block_is_not_opened() -> None:
    made = sequence(thinking=thinking(), grammar=grammar.choice(["no"]))
    assert Run(made, "maybe").text == "no"


def test_in_place_of_a_refused_token_the_allowed_ones_are_drawn_by_their_chances() -> None:
    n_best = 0
    for seed in range(400):
        sampling = SamplingParams(seed=seed)
        made = sequence(grammar=grammar.choice(["a", "b"]), sampling=sampling)
        wanted = row()
        wanted[[ord("m"), ord("a"), ord("b")]] = [20, 10 + np.log(3), 10]
        made.advance(wanted)
        n_best += int(made.tokens[made.n_prompt] == ord("a"))
    assert 0.68 < n_best / 400 < 0.82


def test_a_grammar_that_can_end_or_go_on_leaves_it_to_the_model() -> None:
    made = grammar.regex("[0-9]+")
    assert Run(sequence(grammar=made), "12").text == "12"
    assert Run(sequence(grammar=made), "123x").text.startswith("123")


def test_a_trigger_arms_its_grammar_each_time_and_disarms_it_behind() -> None:
    call = grammar.lark('start: <tool_call> "(" /[0-9]/ ")"', trigger=CALL)
    run = Run(sequence(grammar=call), "a<tool_call>(1)bx<tool_call>xxxcd")
    assert run.text.startswith("a<tool_call>(1)bx<tool_call>(")
    assert run.text.endswith(")cd")


def test_a_trigger_in_the_thinking_arms_nothing() -> None:
    call = grammar.lark('start: <tool_call> "(" /[0-9]/ ")"', trigger=CALL)
    run = Run(sequence(grammar=call, thinking=thinking()), "<think><tool_call>x</think>y")
    assert run.text == "<think><tool_call>x</think>y"


def test_ignoring_the_end_goes_on_with_the_next_best_token() -> None:
    made = sequence(ignore_eos=True, max_tokens=3)
    made.advance(row(EOS, ord("z")))
    assert made.tokens[made.n_prompt] == ord("z")


def test_where_the_grammar_wants_the_end_and_the_end_is_ignored_it_is_an_error() -> None:
    made = sequence(grammar=grammar.regex("a{0,3}"), ignore_eos=True, logprobs=1)
    for _ in range(3):
        made.advance(row(ord("a")))
        if made.finished:
            return
    with pytest.raises(DecodeFailed):
        made.advance(row(ord("a")))


@pytest.mark.parametrize("where", [0, 100, N_VOCAB - 1])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_an_error_wherever_they_are(
    where: int, value: float
) -> None:
    broken = row(ord("a"))
    broken[where] = value
    with pytest.raises(DecodeFailed):
        sequence().advance(broken)


def test_log_probabilities_are_of_the_row_before_any_mask() -> None:
    made = sequence(grammar=grammar.choice(["no"]), logprobs=1)
    first = made.advance(row(ord("m"), ord("n")))[0]
    assert isinstance(first, Token)
    assert first.id == ord("n")
    assert first.logprobs is not None
    assert first.logprobs.top[0].token == ord("m")
    assert first.logprobs.chosen.logprob == pytest.approx(first.logprobs.top[0].logprob - 1)


def test_penalties_count_the_prompt() -> None:
    def first(tokens: Iterable[int], presence: float) -> int:
        sampling = SamplingParams(temperature=0, presence_penalty=presence)
        request = GenerationRequest(prompt=tuple(tokens), sampling=sampling)
        made = Sequence(
            request,
            choice=0,
            n_ctx=50,
            tokenizer=TOKENIZER,
            sampler=Sampler(sampling, n_vocab=N_VOCAB, n_ctx=50),
        )
        return next(e.id for e in made.advance(row(ord("a"), ord("b"))) if isinstance(e, Token))

    assert first(spell("xa"), 0) == ord("a")
    assert first(spell("xa"), 2) == ord("b")
    assert first(spell("xy"), 2) == ord("a")
