"""Checkpoints of native training: the trained matrices, the optimizer's state, and the metrics.

A checkpoint is a folder that is whole or not there. The order of the data needs no saving: it
follows from the seed and the step.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qwenkit.adapters.lora import Float32
from qwenkit.errors import InvalidSettings, ModelCorrupt
from qwenkit.models.atomic import atomic_folder, require_space
from qwenkit.models.checkpoint import StoredTensor, read_json, read_tensors
from qwenkit.models.safetensors_file import TensorToWrite, write_safetensors
from qwenkit.training.native.request import MatrixShare, Record

_WEIGHTS = "weights.safetensors"
_STATE = "state.json"
_PREFIX = "step-"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """Where a run is.

    Args:
        step: Steps of the optimizer that were taken.
        key: Hash of everything that decides how it goes on.
        records: Metrics so far.
        matrices: How well each change survived the last projection.
        weights: The trained matrices, by the file's names.
        moments: AdamW's running means of each; empty for others.
    """

    step: int
    key: str
    records: list[Record] = field(repr=False)
    matrices: tuple[MatrixShare, ...] = field(repr=False)
    weights: Mapping[str, Float32] = field(repr=False)
    moments: Mapping[str, tuple[Float32, ...]] = field(repr=False)


def save_checkpoint(folder: Path, state: TrainingState, *, keep: int) -> Path:
    """Write a checkpoint, then delete all but the newest `keep`.

    Raises:
        InvalidSettings: The disk is full.
    """
    tensors = [_planned(f"w.{name}", array) for name, array in state.weights.items()]
    for name, arrays in state.moments.items():
        tensors += [_planned(f"m{i}.{name}", array) for i, array in enumerate(arrays)]
    require_space(folder, sum(tensor.n_bytes for tensor in tensors), purpose="a checkpoint")
    target = folder / f"{_PREFIX}{state.step:08d}"
    with atomic_folder(target) as partial:
        write_safetensors(partial / _WEIGHTS, tensors, lambda _: None)
        facts = {
            "step": state.step,
            "key": state.key,
            "records": state.records,
            "matrices": [[each.module, each.share, each.norm] for each in state.matrices],
        }
        (partial / _STATE).write_text(json.dumps(facts), encoding="utf-8")
    for old in _all(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_checkpoint(folder: Path, *, key: str) -> TrainingState | None:
    """The newest checkpoint of a run; None where there is none.

    Raises:
        InvalidSettings: It is of a run with another model, data or settings.
        ModelCorrupt: It is damaged.
    """
    found = _all(folder)
    if not found:
        return None
    step, saved, records, matrices = _facts(found[-1] / _STATE)
    if saved != key:
        raise InvalidSettings(
            f"`{found[-1]}` is of a run with another model, data or settings",
            hint="resume with the settings of that run, or train into another folder",
        )
    weights: dict[str, Float32] = {}
    moments: dict[str, tuple[Float32, ...]] = {}
    for stored in read_tensors(found[-1] / _WEIGHTS).values():
        kind, _, name = stored.name.partition(".")
        if kind == "w":
            weights[name] = _numbers(stored)
        else:
            moments[name] = (*moments.get(name, ()), _numbers(stored))
    return TrainingState(
        step=step, key=saved, records=records, matrices=matrices, weights=weights, moments=moments
    )


def _facts(path: Path) -> tuple[int, str, list[Record], tuple[MatrixShare, ...]]:
    match read_json(path):
        case {
            "step": int(step),
            "key": str(key),
            "records": list(records),
            "matrices": list(matrices),
        }:
            return step, key, records, tuple(MatrixShare(*each) for each in matrices)
        case _:
            raise ModelCorrupt(f"`{path}` is not the state of a training")


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_PREFIX}{'[0-9]' * 8}"))


def _numbers(stored: StoredTensor) -> Float32:
    return np.concatenate(list(stored.chunks()))


def _planned(name: str, array: Float32) -> TensorToWrite:
    def chunks() -> Iterator[NDArray[Any]]:
        yield array

    return TensorToWrite(name, "F32", array.shape, chunks)
