"""Whether there is enough to learn from, and what is missing. Pure: counts in, sentences out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from qwenkit.improve.options import ImproveOptions

Method: TypeAlias = Literal["dpo", "kto"]

CONTRADICTED = 0.3
"""From this share on the people who judged disagree too much to go on without a word."""
ONE_SIDED = 0.9
"""From this share of pairs on, of which the preferred answer is the longer one, or the shorter one,
length may be all that is learned."""
LOPSIDED = 10
"""So many times as many answers of one kind leave the other hardly seen."""
UNSEEN_LOSS = 0.1
"""From this share on it is said how much of what was good may be lost without being seen."""
CHANCE = 0.05
FEW_PAIRS = 10
"""Too few pairs to look for a pattern in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the judgements came to.

    Args:
        n_pairs: Pairs to learn from.
        n_held_out_pairs: Pairs that are only measured on.
        n_liked: Liked answers to learn from.
        n_disliked: Disliked ones.
        n_held_out_liked: Liked answers that are only measured on.
        n_held_out_disliked: Disliked ones.
        n_held_out_alone: Prompts with liked answers only, held out: what should stay as it is.
        n_alone: The same outside of what is held out, where there is no pair: measured on too where
            pairs are learned from, since those don't teach it.
        n_chosen_longer: Pairs to learn from of which the preferred answer is the longer one.
        n_contradicted: Judgements that became nothing because others say the opposite.
        left_out: What became no row, by method and reason.
    """

    n_pairs: int
    n_held_out_pairs: int
    n_liked: int
    n_disliked: int
    n_held_out_liked: int
    n_held_out_disliked: int
    n_held_out_alone: int
    n_alone: int
    n_chosen_longer: int
    n_contradicted: int
    left_out: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Whether a round can go on.

    Args:
        method: What is learned by; None where there is too little.
        counts: What the judgements came to.
        missing: What it takes to go on, a sentence for each method that was tried.
        cautions: What a person should know, without it stopping anything.
    """

    method: Method | None
    counts: Counts
    missing: tuple[str, ...]
    cautions: tuple[str, ...]


def check(counts: Counts, options: ImproveOptions) -> Check:
    """Choose the method that the judgements allow."""
    lacks = {
        "dpo": _lacking_pairs(counts, options),
        "kto": _lacking_labels(counts, options),
    }
    tried: tuple[Method, ...] = ("dpo", "kto") if options.method == "auto" else (options.method,)
    method = next((each for each in tried if not lacks[each]), None)
    return Check(
        method=method,
        counts=counts,
        missing=() if method else tuple(f"{each}: {lacks[each]}" for each in tried),
        cautions=tuple(_cautions(counts, method)) if method else (),
    )


def _lacking_pairs(counts: Counts, options: ImproveOptions) -> str:
    needs = [
        _need(counts.n_pairs, options.min_pairs, "pairs to learn from"),
        _need(counts.n_held_out_pairs, options.min_held_out, "held-out pairs"),
    ]
    return _sentence(needs, "rate two answers to one prompt differently, compare or correct some")


def _lacking_labels(counts: Counts, options: ImproveOptions) -> str:
    needs = [
        _need(counts.n_liked, options.min_labels, "liked answers to learn from"),
        _need(counts.n_disliked, options.min_labels, "disliked answers to learn from"),
        _need(counts.n_held_out_liked, options.min_held_out, "held-out liked answers"),
        _need(counts.n_held_out_disliked, options.min_held_out, "held-out disliked answers"),
    ]
    return _sentence(needs, "rate more answers, good ones and bad ones")


def _need(found: int, least: int, what: str) -> str:
    return f"{found} of {least} {what}" if found < least else ""


def _sentence(needs: list[str], way_out: str) -> str:
    lacking = ", ".join(filter(None, needs))
    return f"there are {lacking}; {way_out}" if lacking else ""


def _cautions(counts: Counts, method: Method) -> list[str]:
    found = []
    n_rows = counts.n_pairs + counts.n_held_out_pairs
    if method == "kto":
        n_rows = counts.n_liked + counts.n_disliked
        few, many = sorted((counts.n_liked, counts.n_disliked))
        if many > LOPSIDED * few:
            found.append(f"{counts.n_liked} answers are liked and {counts.n_disliked} are not")
    elif counts.n_pairs >= FEW_PAIRS:
        share = counts.n_chosen_longer / counts.n_pairs
        if not 1 - ONE_SIDED < share < ONE_SIDED:
            which = "longer" if share > 0.5 else "shorter"
            found.append(
                f"of {max(share, 1 - share):.0%} of the pairs the preferred answer is the {which} "
                "one: length may be all that is learned"
            )
    found += _risk_of_loss(counts.n_held_out_alone + counts.n_alone * (method == "dpo"))
    if counts.n_contradicted > CONTRADICTED * (n_rows + counts.n_contradicted):
        found.append(f"{counts.n_contradicted} judgements contradict each other and were left out")
    return found


def _risk_of_loss(n_alone: int) -> Iterator[str]:
    """What answers that should stay as they are can't show, there being so few."""
    if not n_alone:
        yield (
            "no liked answers to other questions are there to measure on, so what gets lost "
            "elsewhere is not seen: rate good answers to other questions too"
        )
        return
    unseen = 1 - CHANCE ** (1 / n_alone)  # as much may be lost, and by chance each of them stays
    if unseen >= UNSEEN_LOSS:
        yield (
            f"{n_alone} liked answers stand for all that should stay: where all of them do, up to "
            f"{unseen:.0%} of the others may still be lost; rate more good answers to other "
            "questions"
        )
