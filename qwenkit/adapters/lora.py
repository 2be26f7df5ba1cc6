"""What a LoRA adapter is, whatever file it came from: two small matrices for each large one.

Knows numbers and shapes; no file format and no base model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from qwenkit.errors import AdapterUnsupported, ModelCorrupt

Float32: TypeAlias = npt.NDArray[np.float32]
Float64: TypeAlias = npt.NDArray[np.float64]

N_HEX = 16


@dataclass(frozen=True, slots=True)
class LoraPair:
    """How one matrix is changed: by `scale · B · A`.

    Args:
        module: The matrix, as transformers names it: `model.layers.0.self_attn.q_proj`.
        a: Float32 `[rank, in]`.
        b: Float32 `[out, rank]`.
        scale: What PEFT multiplies with, `alpha / rank` as a rule.
        stored_as: Number format in the file.
        magnitude: Length of each row of the changed matrix, float32 `[out]`; DoRA only.
    """

    module: str
    a: Float32 = field(repr=False)
    b: Float32 = field(repr=False)
    scale: float
    stored_as: str
    magnitude: Float32 | None = field(default=None, repr=False)

    @property
    def rank(self) -> int:
        """Rows of A, columns of B."""
        return int(self.a.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the matrix it changes: (out, in)."""
        return int(self.b.shape[0]), int(self.a.shape[1])

    @property
    def target(self) -> str:
        """The kind of matrix: `q_proj`."""
        return self.module.rpartition(".")[2]

    def arrays(self) -> Iterator[tuple[str, Float32]]:
        """All numbers, by what they are called in messages."""
        yield "A", self.a
        yield "B", self.b
        if self.magnitude is not None:
            yield "magnitude", self.magnitude


@dataclass(frozen=True, slots=True)
class Lora:
    """A whole adapter.

    Args:
        source: Where it was read from.
        pairs: What it changes, by module.
        alpha: As it was configured; 0 where the file doesn't tell.
        template_hash: Of the chat template that it was trained with; None where that is not known.
    """

    source: Path
    pairs: tuple[LoraPair, ...] = field(repr=False)
    alpha: float
    template_hash: str | None = None

    @property
    def rank(self) -> int:
        """The largest rank."""
        return max(pair.rank for pair in self.pairs)

    @property
    def targets(self) -> tuple[str, ...]:
        """The kinds of matrices that it changes."""
        return tuple(sorted({pair.target for pair in self.pairs}))

    @property
    def n_params(self) -> int:
        """Numbers in it."""
        return sum(array.size for pair in self.pairs for _, array in pair.arrays())

    @property
    def is_dora(self) -> bool:
        """Whether it also sets the lengths of rows, which nothing can do while serving."""
        return any(pair.magnitude is not None for pair in self.pairs)

    def version(self) -> str:
        """Short hash of what it does: modules, numbers, how they are stored, and scales."""
        digest = hashlib.sha256()
        for pair in self.pairs:
            facts = f"{pair.module} {pair.scale!r} {pair.stored_as}"
            digest.update(facts.encode())
            for name, array in pair.arrays():
                digest.update(f" {name} {array.shape} ".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:N_HEX]


def make_lora(
    source: Path, pairs: list[LoraPair], alpha: float, template_hash: str | None = None
) -> Lora:
    """Put pairs together, once each is known to be sound.

    Raises:
        AdapterUnsupported: There are none, a rank is 0, or nothing is changed by them.
        ModelCorrupt: The halves of a pair don't fit, or a number is NaN or infinite.
    """
    if not pairs:
        raise AdapterUnsupported(f"`{source}` holds no LoRA matrices")
    for pair in pairs:
        _check(source, pair)
    if not any(pair.scale for pair in pairs):
        raise AdapterUnsupported(
            f"`{source}` changes nothing: it was configured with an alpha of 0"
        )
    ordered = tuple(sorted(pairs, key=lambda pair: pair.module))
    return Lora(source, ordered, alpha, template_hash)


def _check(source: Path, pair: LoraPair) -> None:
    for name, array in (("A", pair.a), ("B", pair.b)):
        if array.ndim != 2:
            raise ModelCorrupt(
                f"`{source}`: {name} of `{pair.module}` has the shape {list(array.shape)}, "
                "it should be a matrix"
            )
    if pair.rank == 0 or pair.b.shape[1] == 0:
        raise AdapterUnsupported(f"`{source}`: `{pair.module}` has rank 0")
    if pair.b.shape[1] != pair.rank:
        raise ModelCorrupt(
            f"`{source}`: A of `{pair.module}` has rank {pair.rank} ({list(pair.a.shape)}) "
            f"and B rank {pair.b.shape[1]} ({list(pair.b.shape)})"
        )
    if pair.magnitude is not None and pair.magnitude.shape != pair.shape[:1]:
        raise ModelCorrupt(
            f"`{source}`: the magnitudes of `{pair.module}` have the shape "
            f"{list(pair.magnitude.shape)}, {[pair.shape[0]]} is needed"
        )
    for name, array in pair.arrays():
        if not np.isfinite(array).all():
            raise ModelCorrupt(f"`{source}`: {name} of `{pair.module}` holds NaN or infinity")
