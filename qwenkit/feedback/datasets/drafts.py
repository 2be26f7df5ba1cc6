"""What the answers to one prompt come to: rows, not yet compared with those of others. Pure.

dpo, reward   a row for each preference
kto           a row for each answer that is liked or disliked
ppo, trlx     a row for each answer that has a reward
sft           a row for each liked answer to which no other is preferred
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from qwenkit.errors import InvalidMessages
from qwenkit.feedback.datasets.answers import UNREADABLE, Answers, Candidate, digest
from qwenkit.feedback.datasets.labels import Verdict, labels, rewards
from qwenkit.feedback.datasets.options import ExportOptions, Format
from qwenkit.feedback.datasets.rows import Source, answered, given, sampled
from qwenkit.feedback.datasets.votes import Preference, Ranking, rank

ALONE = "judged, with no answer to the same prompt to set it against"
CROWDED = "beyond the most pairs of one prompt"
DISLIKED = "not liked"
SURPASSED = "another answer is preferred to it"


_PAIRED = ("dpo", "reward")


@dataclass(frozen=True, slots=True)
class Draft:
    """A row, unless another one says the same or the contrary.

    Args:
        key: Short hash of what it is about; drafts of one key are one row at most.
        value: What it says of that: the reward, or 1 and -1 for one thing and its contrary.
        origin: The kind of judgement that it comes from.
        data: Its fields.
        prompt: What stands before the answer, where the format lists prompts too.
    """

    key: bytes
    value: float
    origin: str
    data: dict[str, Any]
    prompt: dict[str, Any] | None = None


def drafts(answers: Answers, options: ExportOptions, left_out: Counter[str]) -> Iterator[Draft]:
    """Make the rows of one prompt's answers, in an order of their own.

    Args:
        answers: All of one prompt.
        options: The choices of the export.
        left_out: Counts what becomes no row.
    """
    ranking = rank(answers.votes, min_gap=options.min_gap, min_margin=options.min_margin)
    left_out.update(ranking.left_out if options.format in _PAIRED else answers.votes.left_out)
    yield from _OF_FORMAT[options.format](answers, ranking, options, left_out)


def _pairs(
    answers: Answers,
    ranking: Ranking,
    options: ExportOptions,
    left_out: Counter[str],
) -> Iterator[Draft]:
    met = {each for pair in ranking.pairs for each in pair}
    _leave_out(left_out, ALONE, len(answers.votes.judged - met))
    sound = [each for each in ranking.preferences if not _note_flaw(answers, each, left_out)]
    for preference in _best(answers, sound, options, left_out):
        yield from _made(_pair, answers, preference, options, left_out)


def _best(
    answers: Answers, found: Sequence[Preference], options: ExportOptions, left_out: Counter[str]
) -> list[Preference]:
    """Those with the best ground, no more than are wanted; chance decides between equals."""

    def ground(each: Preference) -> tuple[int, int, bytes]:
        keys = [answers.candidates[number].key.hex() for number in (each.winner, each.loser)]
        return each.level, -each.margin, digest([options.seed, *keys])

    _leave_out(left_out, CROWDED, len(found) - options.max_pairs)
    best = sorted(found, key=ground)[: options.max_pairs]
    return sorted(best, key=lambda each: (each.winner, each.loser))


def _pair(answers: Answers, preference: Preference, options: ExportOptions) -> Draft | str:
    chosen, rejected = (answers.candidates[each] for each in (preference.winner, preference.loser))
    texts = [answered(each, options) for each in (chosen, rejected)]
    before = given(chosen, options)
    source = Source(preference.origin, (chosen.name, rejected.name), preference.rating_ids)
    data = before | {"chosen": texts[0], "rejected": texts[1]} | _source_columns(chosen, source)
    first, second = sorted((chosen.key, rejected.key))
    return Draft(
        digest([before, first.hex(), second.hex()]),
        1.0 if first == chosen.key else -1.0,
        source.origin,
        data,
    )


def _labelled(
    answers: Answers,
    ranking: Ranking,
    options: ExportOptions,
    left_out: Counter[str],
) -> Iterator[Draft]:
    found = labels(
        answers.votes, ranking.preferences, min_margin=options.min_margin, left_out=left_out
    )
    for verdict in found:
        yield from _checked(_label, answers, verdict, options, left_out)


def _label(answers: Answers, verdict: Verdict, options: ExportOptions) -> Draft | str:
    return _completion(answers, verdict, options, {"label": verdict.value > 0})


def _imitated(
    answers: Answers,
    ranking: Ranking,
    options: ExportOptions,
    left_out: Counter[str],
) -> Iterator[Draft]:
    found = labels(
        answers.votes, ranking.preferences, min_margin=options.min_margin, left_out=left_out
    )
    liked = [each for each in found if each.value > 0]
    surpassed = {each.loser for each in ranking.preferences}
    best = [each for each in liked if each.answer not in surpassed]
    _leave_out(left_out, DISLIKED, len(found) - len(liked))
    _leave_out(left_out, SURPASSED, len(liked) - len(best))
    for verdict in best:
        yield from _checked(_imitation, answers, verdict, options, left_out)


def _imitation(answers: Answers, verdict: Verdict, options: ExportOptions) -> Draft | str:
    return _completion(answers, verdict, options, {})


def _completion(
    answers: Answers, verdict: Verdict, options: ExportOptions, fields: dict[str, Any]
) -> Draft:
    candidate = answers.candidates[verdict.answer]
    before = given(candidate, options)
    data = before | {"completion": answered(candidate, options)} | fields
    return _draft(candidate, verdict, before, data)


def _rewarded(
    answers: Answers, _: Ranking, options: ExportOptions, left_out: Counter[str]
) -> Iterator[Draft]:
    make = _query if options.format == "ppo" else _sample
    for verdict in rewards(answers.votes, left_out=left_out):
        yield from _checked(make, answers, verdict, options, left_out)


def _query(answers: Answers, verdict: Verdict, options: ExportOptions) -> Draft | str:
    candidate = answers.candidates[verdict.answer]
    before = given(candidate, options, "query")
    data = before | {"response": answered(candidate, options), "reward": verdict.value}
    prompt = {"prompt": before["query"]} | {
        name: value for name, value in before.items() if name != "query"
    }
    return _draft(candidate, verdict, before, data, prompt)


def _sample(answers: Answers, verdict: Verdict, options: ExportOptions) -> Draft | str:
    candidate = answers.candidates[verdict.answer]
    texts = sampled(candidate, options)
    if isinstance(texts, str):
        return texts
    data = {"sample": list(texts), "reward": verdict.value}
    return _draft(candidate, verdict, {"prompt": texts[0]}, data)


def _draft(
    candidate: Candidate,
    verdict: Verdict,
    before: dict[str, Any],
    data: dict[str, Any],
    prompt: dict[str, Any] | None = None,
) -> Draft:
    source = Source(verdict.origin, (candidate.name,), verdict.rating_ids)
    return Draft(
        digest([before, candidate.key.hex()]),
        verdict.value,
        source.origin,
        data | _source_columns(candidate, source),
        prompt,
    )


def _source_columns(candidate: Candidate, source: Source) -> dict[str, Any]:
    return source.columns(candidate.origin.prompt_hash)


def _checked(
    make: Callable[[Answers, Verdict, ExportOptions], Draft | str],
    answers: Answers,
    verdict: Verdict,
    options: ExportOptions,
    left_out: Counter[str],
) -> Iterator[Draft]:
    flaw = answers.candidates[verdict.answer].flaw
    if flaw:
        left_out[flaw] += 1
    else:
        yield from _made(make, answers, verdict, options, left_out)


def _made(
    make: Callable[[Answers, Any, ExportOptions], Draft | str],
    answers: Answers,
    of: Preference | Verdict,
    options: ExportOptions,
    left_out: Counter[str],
) -> Iterator[Draft]:
    """The row, or its reason counted."""
    try:
        made = make(answers, of, options)
    except InvalidMessages:
        made = UNREADABLE
    if isinstance(made, Draft):
        yield made
    else:
        left_out[made] += 1


def _note_flaw(answers: Answers, preference: Preference, left_out: Counter[str]) -> bool:
    """Whether one of both answers can't be in a row."""
    flaws = [answers.candidates[each].flaw for each in (preference.winner, preference.loser)]
    flaw = next(filter(None, flaws), "")
    if flaw:
        left_out[flaw] += 1
    return bool(flaw)


def _leave_out(left_out: Counter[str], reason: str, n: int) -> None:
    if n > 0:
        left_out[reason] += n


_OF_FORMAT: dict[
    Format,
    Callable[[Answers, Ranking, ExportOptions, Counter[str]], Iterator[Draft]],
] = {
    "dpo": _pairs,
    "reward": _pairs,
    "kto": _labelled,
    "ppo": _rewarded,
    "trlx": _rewarded,
    "sft": _imitated,
}
