"""Learning by imitation: TRL's SFTTrainer on ids and targets as they were prepared.

Knows how samples become rows and rows become tensors. A packed row is several samples side by side;
position ids that begin anew with each tell transformers to let none attend to another, which it
does for every kind of attention that masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Literal, TypeAlias

from qwenkit.extras import import_extra
from qwenkit.training.data.packing import pack
from qwenkit.training.data.samples import PreparedData, Sample
from qwenkit.training.job import Job
from qwenkit.training.tokenised import IGNORED, Columns, build_trainer, samples_of, tokenised

SftLoss: TypeAlias = Literal["nll", "dft"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SftOptions:
    """Imitation.

    Args:
        loss: `nll` is the likelihood of the targets; `dft` weighs each by its own probability, so
            that what the model finds unlikely pulls less (arXiv 2508.05629).
    """

    loss: SftLoss = "nll"


def make_trainer(job: Job, options: SftOptions) -> Any:
    """A trainer that imitates, LoRA attached; not yet run.

    Raises:
        InvalidData: The samples are of another method.
        InvalidSettings: A sample is longer than a packed row.
        MissingExtra: The training packages are not installed.
    """
    trl = import_extra("trl", extra="train")

    config = trl.SFTConfig(
        **job.arguments,
        loss_type=options.loss,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    return build_trainer(
        tokenised(trl.SFTTrainer),
        config,
        job,
        partial(row_columns, length=job.max_length if job.packing else None),
        drops_out=True,
        data_collator=RowCollator(pad_id=job.tokenizer.pad_token_id or 0),
    )


def row_columns(data: PreparedData, *, length: int | None) -> Columns:
    """Rows as the collator takes them: ids, labels, and how long each sample in them is.

    Args:
        data: Samples to imitate.
        length: Most tokens of a packed row; None makes a row of each sample.

    Raises:
        InvalidData: The samples are of another method.
        InvalidSettings: A sample is longer than a row.
    """
    samples = samples_of(data, Sample)
    if length is None:
        rows: Sequence[Any] = samples
        lengths = [[sample.n_tokens] for sample in samples]
    else:
        rows = packed = pack(samples, length=length)
        lengths = [list(row.lengths) for row in packed]
    return {
        "input_ids": [list(row.ids) for row in rows],
        "labels": [_labels(row.ids, row.learned) for row in rows],
        "seq_lengths": lengths,
    }


@dataclass(frozen=True, slots=True)
class RowCollator:
    """Makes tensors `[n_rows, n_tokens]` of rows, filled up on the right.

    There is no attention mask: what fills up comes last, so that no real token sees it.

    Args:
        pad_id: What fills up.
    """

    pad_id: int

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The tensors of a batch."""
        torch = import_extra("torch", extra="train")
        width = max(len(row["input_ids"]) for row in rows)
        filled = {
            "input_ids": [_filled(row["input_ids"], width, self.pad_id) for row in rows],
            "labels": [_filled(row["labels"], width, IGNORED) for row in rows],
            "position_ids": [_positions(row["seq_lengths"], width) for row in rows],
        }
        return {name: torch.tensor(values) for name, values in filled.items()}


def _labels(ids: Sequence[int], learned: Sequence[bool]) -> list[int]:
    return [token if flag else IGNORED for token, flag in zip(ids, learned, strict=True)]


def _filled(values: list[int], width: int, filler: int) -> list[int]:
    return values + [filler] * (width - len(values))


def _positions(lengths: Sequence[int], width: int) -> list[int]:
    """Position of each token in its own sample; what fills up goes on from the last one."""
    *before, last = lengths
    last += width - sum(lengths)
    return list(chain.from_iterable(map(range, (*before, last))))
