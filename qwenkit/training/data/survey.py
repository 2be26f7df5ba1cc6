"""Looks at prepared data before a run: lengths, padding, an example, what it will cost. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from random import Random
from typing import Literal, TypeAlias

import numpy as np

from qwenkit.models.qwen3 import Qwen3Config
from qwenkit.training.data.cost import Duration, Memory, Plan, Speed, duration_of, memory_of
from qwenkit.training.data.packing import packed_row_lengths
from qwenkit.training.data.renderer import Renderer
from qwenkit.training.data.samples import (
    AnySample,
    BadRow,
    LabelSample,
    PreferenceSample,
    PreparedData,
    PromptSample,
    Sample,
)
from qwenkit.training.methods import Method

SpanKind: TypeAlias = Literal["given", "learned", "chosen", "rejected"]

_PERCENTILES = (50, 90, 99)
_N_SHOWN_BAD = 10
_SHUFFLE_SEED = 0
_EMPTY_BLOCK = "<think>\n\n</think>\n\n"


@dataclass(frozen=True, slots=True)
class Bucket:
    """Texts of at most `n_tokens`, and of more than the bucket before."""

    n_tokens: int
    n_texts: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long texts are, in tokens.

    Args:
        n_texts: How many; a preference is two, each with the prompt in front.
        shortest: The least.
        mean: On average.
        median: Half are at most so long.
        p90: Nine in ten are.
        p99: 99 in a hundred are.
        longest: The most.
        histogram: Buckets whose bounds double.
    """

    n_texts: int
    shortest: int
    mean: float
    median: int
    p90: int
    p99: int
    longest: int
    histogram: tuple[Bucket, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Batches:
    """What one pass over the data computes.

    Args:
        n_rows: Rows; samples, or packed ones.
        n_tokens: Tokens in them, padding included.
        n_pairs: Sum of the squared lengths over which attention is computed.
        efficiency: Share of the tokens that is no padding.
        n_largest: Tokens of the largest batch, padding included.
    """

    n_rows: int
    n_tokens: int
    n_pairs: int
    efficiency: float
    n_largest: int


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of an example's text, and what training does with it."""

    text: str
    kind: SpanKind


@dataclass(frozen=True, slots=True)
class Example:
    """One sample as text.

    Args:
        place: Its row.
        spans: Its text, in order; joined, all that the model sees.
    """

    place: str
    spans: tuple[Span, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a run would learn from, and what it would take.

    Args:
        method: What the data is for.
        n_rows: Rows that were read.
        n_samples: What they became.
        n_skipped: Bad rows that were passed over.
        n_dropped: Samples that were left out for their length.
        n_truncated: Samples of which the end was cut off.
        bad_rows: The first bad rows.
        n_tokens: Tokens of all texts.
        n_learned: Tokens that are targets.
        n_unthinking: Answers that begin with an empty thinking block to be learned, so that the
            model learns to answer at once.
        lengths: How long the texts are.
        padded: One pass over samples as they are.
        packed: One pass over packed rows; None where samples can't be packed, or are not to be.
        n_steps: Changes of the weights in the whole run.
        example: A sample to look at.
        memory: Of one step; None where the model is not known.
        duration: Of the run; None where the speed is not known.
        template_hash: Of the chat template.
        fingerprint: Short hash of all samples.
    """

    method: Method
    n_rows: int
    n_samples: int
    n_skipped: int
    n_dropped: int
    n_truncated: int
    bad_rows: tuple[BadRow, ...]
    n_tokens: int
    n_learned: int
    n_unthinking: int
    lengths: Lengths
    padded: Batches
    packed: Batches | None
    n_steps: int
    example: Example
    memory: Memory | None
    duration: Duration | None
    template_hash: str
    fingerprint: str


def make_survey(
    data: PreparedData,
    *,
    method: Method,
    renderer: Renderer,
    plan: Plan,
    config: Qwen3Config | None = None,
    speed: Speed | None = None,
    example: int = 0,
) -> Survey:
    """Look at prepared data.

    Args:
        data: At least one sample.
        method: What it is for.
        renderer: What it was prepared with.
        plan: How it would be trained with.
        config: The model, for the estimates.
        speed: The machine, for the time.
        example: Index of the sample to show.

    Raises:
        InvalidSettings: A sample is longer than a packed row.
    """
    texts = [_text_lengths(sample) for sample in data.samples]
    padded = _padded(texts, plan.batch_size)
    packs = plan.row_length is not None and all(isinstance(each, Sample) for each in data.samples)
    packed = _packed(texts, plan) if packs else None
    batches = packed or padded
    n_steps = plan.n_steps or _n_steps(batches, plan)
    return Survey(
        method=method,
        n_rows=data.n_rows,
        n_samples=len(data.samples),
        n_skipped=data.n_skipped,
        n_dropped=data.n_dropped,
        n_truncated=data.n_truncated,
        bad_rows=data.skipped[:_N_SHOWN_BAD],
        n_tokens=data.n_tokens,
        n_learned=data.n_learned,
        n_unthinking=_n_unthinking(data.samples, renderer),
        lengths=_lengths([length for lengths in texts for length in lengths]),
        padded=padded,
        packed=packed,
        n_steps=n_steps,
        example=_example(data.samples[example], renderer),
        memory=memory_of(config, plan, n_tokens=batches.n_largest) if config else None,
        duration=_duration(config, plan, speed, batches, n_steps),
        template_hash=data.template_hash,
        fingerprint=data.fingerprint,
    )


def _n_unthinking(samples: Sequence[AnySample], renderer: Renderer) -> int:
    empty = renderer.encode_text(_EMPTY_BLOCK)
    return sum(
        ids[: len(empty)] == empty
        for sample in samples
        for kind, ids in _stretches(sample)
        if kind != "given"
    )


def _text_lengths(sample: AnySample) -> tuple[int, ...]:
    """Lengths of the texts that are computed for a sample."""
    if isinstance(sample, PreferenceSample):
        n_prompt = len(sample.prompt)
        return n_prompt + len(sample.chosen), n_prompt + len(sample.rejected)
    return (sample.n_tokens,)


def _lengths(lengths: list[int]) -> Lengths:
    median, p90, p99 = np.percentile(lengths, _PERCENTILES, method="inverted_cdf").tolist()
    return Lengths(
        n_texts=len(lengths),
        shortest=min(lengths),
        mean=sum(lengths) / len(lengths),
        median=int(median),
        p90=int(p90),
        p99=int(p99),
        longest=max(lengths),
        histogram=_histogram(lengths),
    )


def _histogram(lengths: list[int]) -> tuple[Bucket, ...]:
    def bound(length: int) -> int:
        return 1 << max(0, length - 1).bit_length()

    counts = {key: len(list(group)) for key, group in groupby(sorted(lengths), key=bound)}
    first, last = min(counts), max(counts)
    bounds = [1 << n for n in range(first.bit_length() - 1, last.bit_length())]
    return tuple(Bucket(each, counts.get(each, 0)) for each in bounds)


def _padded(texts: Sequence[tuple[int, ...]], batch_size: int) -> Batches:
    """Samples in random order, as many at a time as a batch has, all as long as its longest."""
    order = list(texts)
    Random(_SHUFFLE_SEED).shuffle(order)  # noqa: S311 - an estimate, no secret
    batches = [
        [length for lengths in order[start : start + batch_size] for length in lengths]
        for start in range(0, len(order), batch_size)
    ]
    sizes = [len(batch) * max(batch) for batch in batches]
    return Batches(
        n_rows=len(order),
        n_tokens=sum(sizes),
        n_pairs=sum(len(batch) * max(batch) ** 2 for batch in batches),
        efficiency=sum(map(sum, order)) / sum(sizes),
        # In another order the longest samples may meet.
        n_largest=_n_largest(texts, batch_size),
    )


def _n_largest(texts: Sequence[tuple[int, ...]], batch_size: int) -> int:
    n_texts = max(map(len, texts)) * min(batch_size, len(texts))
    return n_texts * max(map(max, texts))


def _packed(texts: Sequence[tuple[int, ...]], plan: Plan) -> Batches:
    lengths = [length for (length,) in texts]
    row_length = plan.row_length or max(lengths)
    rows = packed_row_lengths(lengths, length=row_length)
    return Batches(
        n_rows=len(rows),
        n_tokens=len(rows) * row_length,
        # With a mask torch computes whole rows, also what no sample may look at.
        n_pairs=len(rows) * row_length**2,
        efficiency=sum(rows) / (len(rows) * row_length),
        n_largest=min(plan.batch_size, len(rows)) * row_length,
    )


def _n_steps(batches: Batches, plan: Plan) -> int:
    return max(1, math.ceil(_steps_an_epoch(batches, plan) * plan.n_epochs))


def _steps_an_epoch(batches: Batches, plan: Plan) -> int:
    return math.ceil(math.ceil(batches.n_rows / plan.batch_size) / plan.accumulate)


def _duration(
    config: Qwen3Config | None, plan: Plan, speed: Speed | None, batches: Batches, n_steps: int
) -> Duration | None:
    if config is None or speed is None:
        return None
    # An epoch's last step may be of fewer rows.
    share = n_steps / _steps_an_epoch(batches, plan)
    return duration_of(
        config,
        plan,
        speed,
        n_tokens=round(batches.n_tokens * share),
        n_pairs=round(batches.n_pairs * share),
    )


def _example(sample: AnySample, renderer: Renderer) -> Example:
    return Example(
        sample.place,
        tuple(Span(renderer.decode(ids), kind) for kind, ids in _stretches(sample) if ids),
    )


def _stretches(sample: AnySample) -> list[tuple[SpanKind, tuple[int, ...]]]:
    match sample:
        case Sample():
            pairs = zip(sample.ids, sample.learned, strict=True)
            return [
                ("learned" if learned else "given", tuple(token for token, _ in group))
                for learned, group in groupby(pairs, key=lambda pair: pair[1])
            ]
        case PreferenceSample():
            return [
                ("given", sample.prompt),
                ("chosen", sample.chosen),
                ("rejected", sample.rejected),
            ]
        case LabelSample():
            return [
                ("given", sample.prompt),
                ("chosen" if sample.label else "rejected", sample.completion),
            ]
        case PromptSample():
            return [("given", sample.prompt)]
