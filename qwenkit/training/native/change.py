"""What training changed: the difference to the base, reduced to a low rank and made an adapter.

Projects all matrices at a time and tells how much each keeps. The method is named in `low_rank`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qwenkit.adapters.base import gguf_name
from qwenkit.adapters.lora import Float32, Lora, LoraPair, make_lora
from qwenkit.errors import AdapterUnsupported, DecodeFailed
from qwenkit.training.native.base import Base
from qwenkit.training.native.low_rank import LowRank, truncate
from qwenkit.training.native.request import MatrixShare


@dataclass(frozen=True, slots=True)
class Projection:
    """All changes at a low rank.

    Args:
        matrices: By transformers' name.
        rank: Of each.
    """

    matrices: Mapping[str, LowRank] = field(repr=False)
    rank: int

    @property
    def share(self) -> float:
        """Part of the change's squared norm, over all matrices, that is kept."""
        total = sum(matrix.total for matrix in self.matrices.values())
        return sum(matrix.kept for matrix in self.matrices.values()) / total if total else 1.0

    def shares(self) -> Iterator[MatrixShare]:
        """How well each change survives."""
        for module, matrix in self.matrices.items():
            yield MatrixShare(module, matrix.share, math.sqrt(matrix.total))

    def lora(self, source: Path, *, template_hash: str) -> Lora:
        """The adapter: each pair is multiplied with 1, so its alpha is its rank.

        Raises:
            AdapterUnsupported: Training changed nothing.
        """
        if not any(matrix.total for matrix in self.matrices.values()):
            raise AdapterUnsupported(
                "training changed nothing", hint="set a higher learning rate or more steps"
            )
        pairs = [
            LoraPair(module=module, a=matrix.a, b=matrix.b, scale=1.0, stored_as="F32 F32")
            for module, matrix in self.matrices.items()
        ]
        return make_lora(source, pairs, float(self.rank), template_hash)


def project(
    base: Base, weights: Mapping[str, Float32], names: Mapping[str, str], rank: int
) -> Projection:
    """Reduce every change to `rank`, in the trained matrices themselves.

    Args:
        base: What they were.
        weights: What they are, by the file's names; written to.
        names: transformers' name of each.
        rank: What may be left of each change.

    Raises:
        DecodeFailed: Training went astray: a number is NaN or infinite.
    """
    matrices = {}
    for name, module in names.items():
        original = base.weights(name)
        change = weights[name] - original
        if not np.isfinite(change).all():
            raise DecodeFailed(
                f"training went astray: `{module}` holds NaN or infinity",
                hint="set a lower learning rate",
            )
        matrices[module] = low = truncate(change, rank)
        np.add(original, low.b @ low.a, out=weights[name])
    return Projection(matrices, rank)


def add_adapter(weights: Mapping[str, Float32], lora: Lora) -> None:
    """Begin from an adapter: add it to the matrices.

    Raises:
        AdapterUnsupported: It changes a matrix that isn't trained, or is no plain LoRA.
    """
    for pair in lora.pairs:
        matrix = weights.get(gguf_name(pair.module) or "")
        if matrix is None or pair.magnitude is not None:
            raise AdapterUnsupported(
                f"`{lora.source}` changes `{pair.module}` in a way that this training can't go on",
                hint="train all the kinds of matrices that it changes; DoRA can't be gone on with",
            )
        matrix += np.float32(pair.scale) * (pair.b @ pair.a)
