"""Examines a trained model on text it has not seen: what it knows, how it thinks, what it copies.

Every paper is a list of samples; an answer is right when it equals the expected one, reasoning
aside. Torch is imported inside functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

from qwenkit.chat.messages import Role
from qwenkit.training.demo import corpus, small_talk, tools
from qwenkit.training.demo.dialogue import Dialogue, Mode, user
from qwenkit.training.demo.extras import import_torch
from qwenkit.training.demo.facts import FACTS, Fact
from qwenkit.training.demo.shape import EOS_ID, PAD_ID

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BATCH: Final = 32
_MAX_NEW_TOKENS: Final = 160
_THOUGHT: Final = re.compile(r"<think>\n\S[^<]*\n</think>\n\n(?=\S)")
_SILENCE: Final = "<think>\n\n</think>\n\n"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn; a temperature of 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0


GREEDY: Final = Sampling()
THINKING: Final = Sampling(0.6, 0.95, 20)
NOT_THINKING: Final = Sampling(0.7, 0.8, 20)


@dataclass(frozen=True, slots=True)
class Paper:
    """One part of the exam."""

    name: str
    samples: Sequence[corpus.Sample]
    mode: Mode
    sampling: Sampling = GREEDY


@dataclass(frozen=True, slots=True)
class Mark:
    """How one paper went.

    Args:
        name: Of the paper.
        n: Questions.
        n_right: Answers that equal the expected ones.
        n_well_formed: Answers whose thinking block is as the mode asks for.
        mistakes: Question, expected and given answer of what went wrong.
    """

    name: str
    n: int
    n_right: int
    n_well_formed: int
    mistakes: tuple[tuple[str, str, str], ...]


def papers(*, n: int = 100, seed: int = 987_654_321) -> Iterator[Paper]:
    """The whole exam; the seed is none that training uses."""

    def facts(mode: Mode, ask: Callable[[Fact], str]) -> list[corpus.Sample]:
        switch = " /no_think" if mode is Mode.SOFT_OFF else ""
        return [
            corpus.sample(
                Dialogue(
                    (
                        user(ask(fact) + switch),
                        small_talk.answered(mode, fact.answer, fact.thought),
                    ),
                    mode,
                )
            )
            for fact in FACTS
        ]

    def first(fact: Fact) -> str:
        return fact.seen[0]

    def unseen(fact: Fact) -> str:
        return fact.unseen

    yield Paper("facts, thinking", facts(Mode.THINK, first), Mode.THINK)
    yield Paper("facts, /no_think", facts(Mode.SOFT_OFF, first), Mode.SOFT_OFF)
    yield Paper("facts, thinking off", facts(Mode.HARD_OFF, first), Mode.HARD_OFF)
    yield Paper("facts, new phrasing", facts(Mode.THINK, unseen), Mode.THINK)
    yield Paper("facts, T=0.6", facts(Mode.THINK, first), Mode.THINK, THINKING)
    yield Paper("facts off, T=0.7", facts(Mode.HARD_OFF, first), Mode.HARD_OFF, NOT_THINKING)
    for name, want in _TOOL_PAPERS.items():
        for mode in (Mode.THINK, Mode.HARD_OFF):
            samples = _drawn(want, mode, n=n, seed=seed)
            yield Paper(f"{name}, {mode.value}", samples, mode)
    names = (small_talk.names_itself(Random(seed + i)) for i in range(4 * n))  # noqa: S311
    remembered = [corpus.sample(d) for d in names if d.mode is Mode.THINK][:n]
    yield Paper("names", remembered, Mode.THINK)


def _is_single_call(dialogue: Dialogue) -> bool:
    return len(dialogue.messages[-1].tool_calls) == 1


def _is_parallel_call(dialogue: Dialogue) -> bool:
    return len(dialogue.messages[-1].tool_calls) > 1


def _follows_result(dialogue: Dialogue) -> bool:
    return dialogue.messages[-2].role is Role.TOOL


def _needs_no_tool(dialogue: Dialogue) -> bool:
    last, before = dialogue.messages[-1], dialogue.messages[-2]
    return before.role is Role.USER and any(last.content == fact.answer for fact in FACTS)


_TOOL_PAPERS: Final[dict[str, Callable[[Dialogue], bool]]] = {
    "single call": _is_single_call,
    "parallel calls": _is_parallel_call,
    "tool result": _follows_result,
    "no tool needed": _needs_no_tool,
}


def _drawn(
    want: Callable[[Dialogue], bool], mode: Mode, *, n: int, seed: int
) -> list[corpus.Sample]:
    rng = Random(seed)  # noqa: S311 - questions, not secrets
    found: list[corpus.Sample] = []
    while len(found) < n:
        dialogues = tools.conversations(rng, n=3, n_tools=rng.randint(1, 3))
        found += [corpus.sample(d) for d in dialogues if d.mode is mode and want(d)]
    return found[:n]


def sit(paper: Paper, *, model: Any, tokenizer: Tokenizer) -> Mark:
    """Let the model write a paper, and mark it."""
    right = well_formed = 0
    mistakes = []
    for start in range(0, len(paper.samples), _BATCH):
        batch = paper.samples[start : start + _BATCH]
        prompts = [sample.shared + sample.prompt for sample in batch]
        for sample, answer in zip(
            batch, _answers(prompts, model, tokenizer, paper.sampling), strict=True
        ):
            expected = sample.completion.removesuffix("<|im_end|>")
            well_formed += _is_well_formed(answer, paper.mode)
            if _after_thinking(answer) == _after_thinking(expected):
                right += 1
            else:
                mistakes.append((sample.prompt, expected, answer))
    return Mark(paper.name, len(paper.samples), right, well_formed, tuple(mistakes))


def _answers(
    prompts: Sequence[str], model: Any, tokenizer: Tokenizer, sampling: Sampling
) -> list[str]:
    torch = import_torch()
    encoded = [tokenizer.encode(prompt).ids for prompt in prompts]
    width = max(map(len, encoded))
    padding = [width - len(ids) for ids in encoded]
    chosen: dict[str, Any] = {"do_sample": False}
    if sampling.temperature:
        chosen = {
            "do_sample": True,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
        }
    torch.manual_seed(0)
    with torch.inference_mode():
        output = model.generate(
            input_ids=torch.tensor(
                [[PAD_ID] * n + ids for n, ids in zip(padding, encoded, strict=True)]
            ),
            attention_mask=torch.tensor([[0] * n + [1] * (width - n) for n in padding]),
            max_new_tokens=_MAX_NEW_TOKENS,
            eos_token_id=[EOS_ID, PAD_ID],
            pad_token_id=PAD_ID,
            **chosen,
        )
    ended = (row[width:].tolist() for row in output)
    return [_text(ids, tokenizer) for ids in ended]


def _text(ids: list[int], tokenizer: Tokenizer) -> str:
    """Up to the end token; a text that never ended keeps a mark that no answer has."""
    for index, token in enumerate(ids):
        if token in (EOS_ID, PAD_ID):
            decoded: str = tokenizer.decode(ids[:index], skip_special_tokens=False)
            return decoded
    return str(tokenizer.decode(ids, skip_special_tokens=False)) + "…"


def _is_well_formed(answer: str, mode: Mode) -> bool:
    match mode:
        case Mode.THINK:
            return _THOUGHT.match(answer) is not None and answer.count("<think>") == 1
        case Mode.SOFT_OFF:
            return answer.startswith(_SILENCE) and answer.count("<think>") == 1
        case Mode.HARD_OFF:
            return "think>" not in answer


def _after_thinking(answer: str) -> str:
    return answer.split("</think>\n\n")[-1]
