"""From sources to all samples of a run. Bad rows are told apart here, and nowhere else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import islice
from random import Random

from qwenkit.chat.messages import JsonValue
from qwenkit.errors import InvalidData, InvalidMessages, InvalidSettings
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.training.data.options import DataOptions
from qwenkit.training.data.renderer import Renderer
from qwenkit.training.data.rendering import Cuts, make_samples
from qwenkit.training.data.rows import parse_row
from qwenkit.training.data.samples import AnySample, BadRow, PreparedData, Sample
from qwenkit.training.data.sources import SourceRow, read_source
from qwenkit.training.methods import Method

MAX_LISTED = 10
"""Bad rows that one error names."""
MAX_KEPT = 1000
"""Bad rows that are remembered when they are passed over."""
N_HEX = 16


def prepare_data(
    sources: Sequence[str],
    *,
    method: Method,
    renderer: Renderer,
    options: DataOptions,
    progress: ProgressFactory = silent,
) -> PreparedData:
    """Read, check, render and tokenise all rows. Only the samples are held in memory.

    Args:
        sources: Files, folders, Hub datasets, or `-`; as `read_source` takes them.
        method: What they are for.
        renderer: The model's template and tokens.
        options: The choices of the run.
        progress: Counts rows.

    Raises:
        InvalidData: A source is not there or can't be read; a row is bad and bad rows are not
            skipped (the first ten are listed); or nothing is left to learn.
        MissingExtra: Parquet or a Hub dataset is named and `datasets` isn't installed.
        DownloadFailed: The Hub or the network said no.
    """
    gathered = _Gathered(method, renderer, options)
    with progress("reading training data", total=None, unit="rows") as advance:
        for source in sources:
            for row in read_source(source):
                gathered.add(row)
                advance(1)
    return gathered.result()


def hold_out(data: PreparedData, share: float, *, seed: int) -> tuple[PreparedData, PreparedData]:
    """Split samples by their rows: those to train with, and a random share to evaluate with.

    Args:
        data: What to split.
        share: Of the rows, between 0 and 1.
        seed: Decides which.

    Raises:
        InvalidSettings: One of the two would be empty.
    """
    places = list(dict.fromkeys(sample.place for sample in data.samples))
    n_held_out = round(share * len(places))
    if not 0 < n_held_out < len(places):
        raise InvalidSettings(f"a share of {share} of {len(places)} rows leaves one side empty")
    held_out = set(Random(seed).sample(places, n_held_out))  # noqa: S311 - a split, no secret
    train, rest = (
        tuple(sample for sample in data.samples if (sample.place in held_out) is wanted)
        for wanted in (False, True)
    )
    return _part(data, train, len(places) - n_held_out), _part(data, rest, n_held_out)


def fingerprint(samples: Iterable[AnySample]) -> str:
    """Short hash of samples: their tokens, what is learned of them, and their order."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(repr(_content(sample)).encode())
    return digest.hexdigest()[:N_HEX]


class _Gathered:
    """What has come of the rows so far."""

    def __init__(self, method: Method, renderer: Renderer, options: DataOptions) -> None:
        self._method = method
        self._renderer = renderer
        self._options = options
        self._samples: list[AnySample] = []
        self._bad: list[BadRow] = []
        self._cuts = Cuts()
        self._n_rows = self._n_bad = 0

    def add(self, row: SourceRow) -> None:
        """Take one more row.

        Raises:
            InvalidData: It is the last straw.
        """
        self._n_rows += 1
        try:
            self._samples += self._made_of(row)
        except (InvalidData, InvalidMessages) as exc:
            self._note(BadRow(row.place, exc.message))

    def result(self) -> PreparedData:
        """All of it.

        Raises:
            InvalidData: There were bad rows, or nothing is left to learn.
        """
        if self._bad and not self._options.skip_bad:
            raise self._refusal()
        if not self._n_rows:
            raise InvalidData("the data holds no row")
        if not self._samples:
            first = f"; the first bad one: {_sentence(self._bad[0])}" if self._bad else ""
            raise InvalidData(f"none of {self._n_rows} rows can be learned from{first}")
        return PreparedData(
            samples=tuple(self._samples),
            skipped=tuple(self._bad),
            n_rows=self._n_rows,
            template_hash=self._renderer.template_hash,
            fingerprint=fingerprint(self._samples),
            n_skipped=self._n_bad,
            n_dropped=self._cuts.n_dropped,
            n_truncated=self._cuts.n_truncated,
        )

    def _made_of(self, row: SourceRow) -> list[AnySample]:
        options = self._options
        parsed = parse_row(
            _value(row), method=self._method, strings=options.strings, turns=options.turns
        )
        return [
            sample
            for each in parsed
            for sample in make_samples(
                each, row.place, renderer=self._renderer, options=options, cuts=self._cuts
            )
        ]

    def _note(self, bad: BadRow) -> None:
        self._n_bad += 1
        if len(self._bad) < MAX_KEPT:
            self._bad.append(bad)
        if not self._options.skip_bad and self._n_bad == MAX_LISTED:
            raise self._refusal()

    def _refusal(self) -> InvalidData:
        listed = "\n".join(f"  {_sentence(bad)}" for bad in islice(self._bad, MAX_LISTED))
        first = "the first " if self._n_bad == MAX_LISTED else ""
        rows = "1 row" if self._n_bad == 1 else f"{first}{self._n_bad} rows"
        return InvalidData(
            f"{rows} can't be learned from:\n{listed}",
            hint="mend them, or pass over all such rows with --skip-bad",
        )


def _value(row: SourceRow) -> JsonValue:
    if row.failure:
        raise InvalidData(row.failure)
    return row.value


def _sentence(bad: BadRow) -> str:
    return f"{bad.place}: {bad.reason}"


def _content(sample: AnySample) -> tuple[object, ...]:
    if isinstance(sample, Sample):
        return sample.ids, "".join("01"[flag] for flag in sample.learned)
    return tuple(getattr(sample, name) for name in sample.__slots__ if name != "place")


def _part(data: PreparedData, samples: tuple[AnySample, ...], n_rows: int) -> PreparedData:
    return PreparedData(samples, (), n_rows, data.template_hash, fingerprint(samples))
