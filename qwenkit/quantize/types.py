"""The file types that llama.cpp quantises to, and the types of single tensors. Names and numbers.

A file type is a recipe: most matrices get its main type, some a better one, by their place in the
model. So the bits of a weight depend on the model; here they are Qwen3-8B's, as llama.cpp's own
dry run counts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gguf.constants import GGMLQuantizationType

from qwenkit.errors import UsageError


@dataclass(frozen=True, slots=True)
class FileType:
    """One of llama.cpp's recipes.

    Args:
        name: As `llama-quantize` spells it.
        code: Its `llama_ftype`.
        main: Type of most matrices.
        bits: Bits a weight of Qwen3-8B takes.
        needs_imatrix: Whether llama.cpp refuses it without an importance matrix.
        about: One sentence.
    """

    name: str
    code: int
    main: GGMLQuantizationType
    bits: float
    needs_imatrix: bool
    about: str


def _type(
    name: str, code: int, main: str, bits: float, about: str, *, needs_imatrix: bool = False
) -> FileType:
    return FileType(name, code, GGMLQuantizationType[main], bits, needs_imatrix, about)


FILE_TYPES: Final = (
    _type("F32", 0, "F32", 32.0, "Full precision: for training and for checking."),
    _type("BF16", 32, "BF16", 16.0, "What Qwen3 was published in; nothing is lost of it."),
    _type("F16", 1, "F16", 16.0, "Half precision: finer than BF16, for numbers up to 65,504."),
    _type("Q8_0", 7, "Q8_0", 8.5, "Hardly to be told from the source."),
    _type("Q6_K", 18, "Q6_K", 6.56, "Near the source at two fifths of F16's size."),
    _type("Q5_K_M", 17, "Q5_K", 5.71, "Better than Q4_K_M where a fifth more memory is there."),
    _type("Q5_K_S", 16, "Q5_K", 5.58, "Q5_K_M with fewer 6-bit matrices."),
    _type("Q5_1", 9, "Q5_1", 6.04, "Older 5-bit blocks with an offset; Q5_K_M is better."),
    _type("Q5_0", 8, "Q5_0", 5.58, "Older 5-bit blocks; Q5_K_S is better."),
    _type("Q4_K_M", 15, "Q4_K", 4.9, "The usual choice: small, and hard to tell from the source."),
    _type("Q4_K_S", 14, "Q4_K", 4.68, "Q4_K_M with fewer 6-bit matrices."),
    _type("Q4_1", 3, "Q4_1", 5.12, "Older 4-bit blocks with an offset; Q4_K_M is better."),
    _type("Q4_0", 2, "Q4_0", 4.66, "Older 4-bit blocks, repacked at load for fast CPU kernels."),
    _type("IQ4_NL", 25, "IQ4_NL", 4.7, "4-bit blocks of 32 on a non-linear grid."),
    _type("IQ4_XS", 30, "IQ4_XS", 4.48, "The non-linear 4-bit grid at its smallest."),
    _type("MXFP4_MOE", 38, "MXFP4", 8.5, "MXFP4 for experts, Q8_0 for the rest."),
    _type("Q3_K_L", 13, "Q3_K", 4.32, "3 bits, with the more sensitive matrices at 5."),
    _type("Q3_K_M", 12, "Q3_K", 4.02, "3 bits, with the more sensitive matrices at 4 and 5."),
    _type("Q3_K_S", 11, "Q3_K", 3.68, "3 bits throughout: the loss shows."),
    _type("IQ3_M", 27, "IQ3_S", 3.8, "3 bits from a code book, with some matrices at 4."),
    _type("IQ3_S", 26, "IQ3_S", 3.7, "3 bits from a code book: better than Q3_K_S, and slower."),
    _type("IQ3_XS", 22, "IQ3_S", 3.54, "Between IQ3_S and IQ3_XXS.", needs_imatrix=True),
    _type("IQ3_XXS", 23, "IQ3_XXS", 3.29, "The smallest 3 bits.", needs_imatrix=True),
    _type("Q2_K", 10, "Q2_K", 3.2, "2 and 3 bits: answers suffer."),
    _type("Q2_K_S", 21, "Q2_K", 3.01, "2 bits nearly throughout.", needs_imatrix=True),
    _type("IQ2_M", 29, "IQ2_S", 2.98, "2 bits from a code book, some at 3.", needs_imatrix=True),
    _type("IQ2_S", 28, "IQ2_XS", 2.79, "2 bits from a code book.", needs_imatrix=True),
    _type("IQ2_XS", 20, "IQ2_XS", 2.63, "2 bits from a smaller code book.", needs_imatrix=True),
    _type("IQ2_XXS", 19, "IQ2_XXS", 2.43, "The smallest 2 bits.", needs_imatrix=True),
    _type("IQ1_M", 31, "IQ1_M", 2.2, "For models of 70B and more.", needs_imatrix=True),
    _type("IQ1_S", 24, "IQ1_S", 2.06, "The least there is.", needs_imatrix=True),
    _type("TQ2_0", 37, "TQ2_0", 2.59, "Ternary, 2 bits: for models that were trained ternary."),
    _type("TQ1_0", 36, "TQ1_0", 2.27, "Ternary, packed tighter: for models that were trained so."),
    _type("Q1_0", 40, "Q1_0", 1.54, "One bit and a scale: for models that were trained binary."),
)
"""All of them, better ones first within each family of bits."""

ALIASES: Final = MappingProxyType({"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"})

_NO_TARGETS = frozenset({"Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64", "NVFP4"})
TENSOR_TYPES: Final = tuple(kind for kind in GGMLQuantizationType if kind.name not in _NO_TARGETS)
"""What a single tensor can be stored as."""

FLOAT_TYPES: Final = frozenset(GGMLQuantizationType[name] for name in ("F32", "F16", "BF16"))

_IMATRIX_TYPES = frozenset(
    GGMLQuantizationType[name]
    for name in ("IQ3_XXS", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_M", "IQ1_S")
)
# llama.cpp lets embeddings be anything without one, and then ends the process on these.
_ALWAYS_IMATRIX_TYPES = frozenset(
    GGMLQuantizationType[name] for name in ("IQ2_XXS", "IQ2_XS", "IQ1_S")
)
_EMBEDDINGS = ("token_embd.weight", "output.weight")


def file_type(name: str) -> FileType:
    """The file type of that name, in upper or lower case.

    Raises:
        UsageError: There is none.
    """
    wanted = ALIASES.get(name.upper(), name.upper())
    for each in FILE_TYPES:
        if each.name == wanted:
            return each
    raise UsageError(f"there is no type `{name}`", hint="qwenkit quantize --list")


def tensor_type(name: str) -> GGMLQuantizationType:
    """The type of that name for a single tensor, in upper or lower case.

    Raises:
        UsageError: There is none, or nothing can be quantised to it.
    """
    for kind in TENSOR_TYPES:
        if kind.name == name.upper():
            return kind
    raise UsageError(
        f"there is no tensor type `{name}`",
        hint=f"one of {', '.join(kind.name for kind in TENSOR_TYPES)}",
    )


def needs_imatrix(tensor: str, kind: GGMLQuantizationType, recipe: FileType) -> bool:
    """Whether a tensor can be stored so only with an importance matrix for it."""
    if tensor in _EMBEDDINGS:
        return kind in _ALWAYS_IMATRIX_TYPES
    smallest_q2 = recipe.name == "Q2_K_S" and kind is GGMLQuantizationType.Q2_K
    return smallest_q2 or kind in _IMATRIX_TYPES
