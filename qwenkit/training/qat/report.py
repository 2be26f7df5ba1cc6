"""What quantising costs a model, and how much of that training on the grid gives back.

All models read the same tokens in the same windows in the runtime that will run them: llama.cpp, or
onnxruntime for exports. A comparison is fair when the model that is quantised after training was
taught the same, in full precision: the quantised base would also lack what was taught.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from qwenkit.backends.base import IntArray
from qwenkit.errors import InvalidData
from qwenkit.models.progress import ProgressFactory, silent
from qwenkit.quality import measure
from qwenkit.quality.metrics import Perplexity
from qwenkit.training.data.samples import LabelSample, PreferenceSample, PreparedData, Sample
from qwenkit.training.qat import onnx_perplexity
from qwenkit.training.qat.finish import size_bytes
from qwenkit.training.qat.scheme import Runtime, SchemeName, find_scheme

Part: TypeAlias = Literal["base", "trained", "ptq", "qat"]
PARTS: tuple[Part, ...] = ("base", "trained", "ptq", "qat")


@dataclass(frozen=True, slots=True)
class QatRow:
    """One model of a report.

    Args:
        part: `base` is what training started from; `trained` was taught in full precision; `ptq` is
            that one, or else the base, quantised after training; `qat` was taught on the grid.
        path: Its file or folder; None of one that was there for the comparison only.
        size_bytes: Size of it.
        perplexity: Of the held-out tokens.
        ratio: Its perplexity over that of the full-precision model that `ptq` was made of.
    """

    part: Part
    path: Path | None
    size_bytes: int
    perplexity: Perplexity
    ratio: float


@dataclass(frozen=True, slots=True)
class QatReport:
    """Perplexities in full precision, quantised after training, and trained on the grid.

    Args:
        scheme: The grid of `ptq` and `qat`.
        runtime: What computed them.
        n_ctx: Tokens of a window; the second half of each was scored.
        rows: `base`, `trained` where there is one, `ptq`, `qat`.
    """

    scheme: SchemeName
    runtime: Runtime
    n_ctx: int
    rows: tuple[QatRow, ...]

    def row(self, part: Part) -> QatRow:
        """The row of one model.

        Raises:
            KeyError: The report has none.
        """
        for row in self.rows:
            if row.part == part:
                return row
        raise KeyError(part)

    @property
    def is_fair(self) -> bool:
        """Whether `ptq` was taught the same as `qat`."""
        return any(row.part == "trained" for row in self.rows)

    @property
    def is_better(self) -> bool:
        """Whether `qat` has a lower perplexity than `ptq`."""
        return self.row("qat").perplexity.value < self.row("ptq").perplexity.value

    @property
    def recovered(self) -> float | None:
        """Share of what quantising after training costs that training on the grid gives back.

        Of log-perplexity: 1 is all of it, below 0 is a further loss. None where the comparison is
        not fair, or where quantising cost nothing.
        """
        if not self.is_fair:
            return None
        lost = math.log(self.row("ptq").ratio)
        return (lost - math.log(self.row("qat").ratio)) / lost if lost > 0 else None

    def to_json(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "scheme": self.scheme,
            "runtime": self.runtime,
            "n_ctx": self.n_ctx,
            "fair": self.is_fair,
            "better": self.is_better,
            "recovered": self.recovered,
            "models": [
                {
                    "part": row.part,
                    "path": str(row.path) if row.path else None,
                    "size_bytes": row.size_bytes,
                    "perplexity": row.perplexity.value,
                    "standard_error": row.perplexity.standard_error,
                    "n_tokens": row.perplexity.n_tokens,
                    "ratio": row.ratio,
                }
                for row in self.rows
            ],
        }


def qat_report(
    scheme: str,
    tokens: IntArray,
    *,
    base: Path,
    ptq: Path,
    qat: Path,
    trained: Path | None = None,
    n_ctx: int = measure.N_CTX,
    n_windows: int | None = None,
    n_threads: int = 0,
    progress: ProgressFactory = silent,
) -> QatReport:
    """Measure all models on held-out tokens, one after the other.

    Args:
        scheme: A name in `SCHEMES`; the models are what its runtime runs, `.gguf` or ONNX folders.
        tokens: What no model was trained on; `held_out_tokens` makes them of samples.
        base: What training started from, in full precision.
        ptq: `trained`, or without that one the base, quantised after training.
        qat: What learned on the grid.
        trained: The same training in full precision; without it the comparison is not fair.
        n_ctx: Tokens of a window, or all where they are fewer; the second half of each is scored.
        n_windows: Most windows to read; None reads them all.
        n_threads: Threads; 0 leaves it to the runtime.
        progress: Told the windows read.

    Raises:
        InvalidRequest: Too few tokens for any window.
        ModelError: A model can't be loaded.
        EngineError: The runtime failed.
    """
    chosen, n_ctx = find_scheme(scheme), min(n_ctx, len(tokens))
    measured = onnx_perplexity if chosen.runtime == "onnxruntime" else measure
    paths: dict[Part, Path | None] = {"base": base, "trained": trained, "ptq": ptq, "qat": qat}
    rows = []
    for part in PARTS:
        path = paths[part]
        if path is not None:
            found = measured.perplexity(
                path,
                tokens,
                n_ctx=n_ctx,
                n_windows=n_windows,
                n_threads=n_threads,
                progress=progress,
            )
            rows.append(QatRow(part, path, size_bytes(path), found, 1.0))
    return QatReport(chosen.name, chosen.runtime, n_ctx, _with_ratios(rows))


def held_out_tokens(data: PreparedData) -> IntArray:
    """All samples' tokens in a row: of pairs the chosen answers, of labels the liked ones.

    Raises:
        InvalidData: There are none, or only prompts.
    """
    texts = [text for sample in data.samples if (text := _text(sample))]
    if not texts:
        raise InvalidData(
            "the held-out samples hold no answers to measure a perplexity on",
            hint="give held-out data with answers",
        )
    return np.concatenate([np.array(text, np.int32) for text in texts])


def _text(sample: object) -> tuple[int, ...]:
    if isinstance(sample, Sample):
        return sample.ids
    if isinstance(sample, PreferenceSample):
        return sample.prompt + sample.chosen
    if isinstance(sample, LabelSample) and sample.label:
        return sample.prompt + sample.completion
    return ()


def _with_ratios(rows: list[QatRow]) -> tuple[QatRow, ...]:
    # `trained` follows `base`, so the last of the two is what `ptq` was made of.
    full = [row for row in rows if row.part in ("base", "trained")][-1].perplexity.value
    return tuple(replace(row, ratio=row.perplexity.value / full) for row in rows)
