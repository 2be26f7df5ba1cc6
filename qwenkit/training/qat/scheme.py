"""What a model can be trained for: grids, and which matrices lie on which. Names only, no numbers.

A scheme covers every matrix of the model, so that a file can hold exactly what training saw. The
embedding and the head of a GGUF lie on an 8-bit grid, since both are more sensitive than the rest;
an ONNX export quantises the head as any other product, and looks rows up in it where it is the
embedding too.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, get_args

from qwenkit.errors import InvalidSettings

BLOCK: Final = 32
"""Weights that share a scale, in every scheme."""

GridName: TypeAlias = Literal["int4", "int8", "q4_0", "q8_0", "nbits4"]
SchemeName: TypeAlias = Literal["int4", "int8", "q4_0", "q8_0", "onnx-int4"]
Runtime: TypeAlias = Literal["llama.cpp", "onnxruntime"]
Role: TypeAlias = Literal["linear", "head", "embedding"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """One choice of `--qat`.

    Args:
        name: As it is asked for.
        runtime: What runs the result.
        linears: Grid of the seven linears of every layer.
        head: Grid of the matrix that makes the logits.
        embedding: Grid of the embedding; None leaves one that is no head as floats.
        about: One sentence.
    """

    name: SchemeName
    runtime: Runtime
    linears: GridName
    head: GridName
    embedding: GridName | None
    about: str

    def grid(self, role: Role, *, tied: bool) -> GridName | None:
        """The grid of a kind of matrix; `tied` says that embedding and head are one."""
        if role == "linear":
            return self.linears
        if role == "head" or tied:
            return self.head
        return self.embedding


_ALL: Final = (
    Scheme("int4", "llama.cpp", "int4", "q8_0", "q8_0", "torchao's symmetric 4 bits, as Q4_0."),
    Scheme("int8", "llama.cpp", "int8", "int8", "int8", "torchao's symmetric 8 bits, as Q8_0."),
    Scheme("q4_0", "llama.cpp", "q4_0", "q8_0", "q8_0", "The grid of llama.cpp's own Q4_0."),
    Scheme("q8_0", "llama.cpp", "q8_0", "q8_0", "q8_0", "The grid of llama.cpp's own Q8_0."),
    Scheme(
        "onnx-int4", "onnxruntime", "nbits4", "nbits4", None, "The 4-bit blocks of export-onnx."
    ),
)
SCHEMES: Final = MappingProxyType({scheme.name: scheme for scheme in _ALL})
NAMES: Final[tuple[SchemeName, ...]] = get_args(SchemeName)


def find_scheme(name: str) -> Scheme:
    """The scheme of that name.

    Raises:
        InvalidSettings: There is none.
    """
    for scheme in _ALL:
        if scheme.name == name:
            return scheme
    raise InvalidSettings(
        f"there is no scheme `{name}` of quantisation-aware training",
        hint=f"one of {', '.join(NAMES)}",
    )
