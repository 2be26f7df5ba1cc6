"""What llama.cpp will make of a model, read from its dry run, and what speaks against it.

Pure: a log and headers in, a plan out. It knows how `llama_model_quantize` words its log
(src/llama-quant.cpp) and what it would end the process over.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from qwenkit.errors import EngineError, InvalidRequest, ModelUnsupported
from qwenkit.models.gguf_header import GgufTensor
from qwenkit.quantize.imatrix import ImportanceMatrix
from qwenkit.quantize.types import FLOAT_TYPES, FileType, needs_imatrix

IMATRIX_HINT = "--imatrix TEXT computes one from your text, --imatrix builtin from ours"

_LAYERS = "blk."

TENSOR = re.compile(
    r"\[ *\d+/ *\d+\] (?P<name>\S+) +- \[[^\]]*\], type = +(?P<source>\S+), "
    r"(?:size = +[\d.]+ MiB(?: -> +[\d.]+ MiB \((?P<target>\S+)\))?)?"
)
_FALLBACK = re.compile(
    r"warning: (?P<name>\S+) +- ncols +(?P<columns>\d+) not divisible by +\d+ "
    r"\(required for type +(?P<wanted>\S+)\) (?:\(WARNING: [^)]*\) )?"
    r"-> falling back to +(?P<given>\S+)"
)

_PYTHON_ONLY = re.compile(r"\(\?[^:=!]")


@dataclass(frozen=True, slots=True)
class Fallback:
    """A matrix whose rows the wanted type's blocks don't fit.

    Args:
        tensor: Its name.
        n_columns: Numbers in a row.
        wanted: The type that the recipe has for it.
        given: The type that it gets.
    """

    tensor: str
    n_columns: int
    wanted: str
    given: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What each tensor will be stored as.

    Args:
        tensors: The source's.
        types: The target's type, by the tensor's name.
        fallbacks: Matrices that get another type than the recipe's.
    """

    tensors: tuple[GgufTensor, ...] = field(repr=False)
    types: Mapping[str, GGMLQuantizationType] = field(repr=False)
    fallbacks: tuple[Fallback, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes of all tensors as they will be written."""
        return sum(_n_bytes(tensor, self.types[tensor.name]) for tensor in self.tensors)


def read_plan(log: str, tensors: Sequence[GgufTensor]) -> Plan:
    """Read the log of a dry run.

    Args:
        log: All that llama.cpp said.
        tensors: The source's.

    Raises:
        EngineError: A tensor of the source is not in the log.
    """
    types = {}
    for found in TENSOR.finditer(log):
        kind = found["target"] or found["source"]
        types[found["name"]] = GGMLQuantizationType[kind.upper()]
    missing = [tensor.name for tensor in tensors if tensor.name not in types]
    if missing:
        raise EngineError(f"llama.cpp's dry run said nothing of `{missing[0]}`")
    fallbacks = tuple(
        Fallback(
            found["name"], int(found["columns"]), found["wanted"].upper(), found["given"].upper()
        )
        for found in _FALLBACK.finditer(log)
    )
    return Plan(tuple(tensors), types, fallbacks)


def check_source(tensors: Sequence[GgufTensor], source: str, *, allow_requantize: bool) -> None:
    """Refuse a source that is quantised already.

    Raises:
        ModelUnsupported: It is, and that is not allowed.
    """
    kinds = Counter(tensor.type.name for tensor in tensors if tensor.type not in FLOAT_TYPES)
    if kinds and not allow_requantize:
        [(kind, _)] = kinds.most_common(1)
        raise ModelUnsupported(
            f"`{source}` is quantised already, to {kind}: what was lost can't come back",
            hint="name the safetensors or a BF16 file, or insist with --allow-requantize",
        )


def check_overrides(overrides: Mapping[str, object], recipe: FileType, names: list[str]) -> None:
    """Refuse overrides that would change nothing.

    Raises:
        InvalidRequest: A pattern is no regular expression, matches no matrix, or the recipe
            quantises nothing, so that llama.cpp ignores overrides.
    """
    if overrides and recipe.main in FLOAT_TYPES:
        raise InvalidRequest(f"{recipe.name} quantises nothing, so single tensors can't differ")
    for pattern in overrides:
        if _PYTHON_ONLY.search(pattern):
            raise InvalidRequest(
                f"`{pattern}` has a group that ECMAScript's regular expressions don't know",
                hint="of groups that begin with `(?` only `(?:`, `(?=` and `(?!` are",
            )
        try:
            matches = any(re.search(pattern, name) for name in names)
        except re.error as exc:
            raise InvalidRequest(f"`{pattern}` is no regular expression: {exc}") from exc
        if not matches:
            raise InvalidRequest(
                f"`{pattern}` matches no matrix of the model",
                hint=f"matrices are called like {', '.join(names[:3])}",
            )


def check_plan(
    plan: Plan,
    recipe: FileType,
    matrix: ImportanceMatrix | None,
    *,
    imatrix_follows: bool = False,
) -> None:
    """Refuse what llama.cpp would refuse later, end the process over, or pass over in silence.

    Args:
        plan: What llama.cpp would do.
        recipe: The type asked for.
        matrix: The importance matrix, if there is one.
        imatrix_follows: Whether one of all layers is still to be computed.

    Raises:
        InvalidRequest: A type needs an importance matrix and there is none, a block does not fit
            a row, or the importance matrix is of another model.
    """
    for tensor in plan.tensors:
        kind = plan.types[tensor.name]
        if kind is tensor.type:
            continue
        _check_block(tensor, kind)
        if matrix is not None:
            _check_importance(tensor, matrix)
        known = (matrix is not None and tensor.name in matrix.usage) or (
            imatrix_follows and tensor.name.startswith(_LAYERS)
        )
        if not known and needs_imatrix(tensor.name, kind, recipe):
            raise InvalidRequest(
                f"{recipe.name} stores `{tensor.name}` as {kind.name}, "
                "which takes an importance matrix",
                hint=IMATRIX_HINT,
            )


def _check_block(tensor: GgufTensor, kind: GGMLQuantizationType) -> None:
    n_block, _ = GGML_QUANT_SIZES[kind]
    if tensor.shape[-1] % n_block:
        raise InvalidRequest(
            f"`{tensor.name}` has rows of {tensor.shape[-1]} and {kind.name} takes multiples "
            f"of {n_block}",
            hint="choose a type with smaller blocks for it, such as Q8_0",
        )


def _check_importance(tensor: GgufTensor, matrix: ImportanceMatrix) -> None:
    usage = matrix.usage.get(tensor.name)
    if usage is None:
        if tensor.name.startswith(_LAYERS):
            raise InvalidRequest(
                f"the importance matrix has nothing of `{tensor.name}`: it is of another model",
                hint="compute one with this model: --imatrix TEXT",
            )
        return
    n_matrices = tensor.n_elements // (tensor.shape[-1] * tensor.shape[-2])
    if usage.sums.size != tensor.shape[-1] * n_matrices:
        raise InvalidRequest(
            f"the importance matrix has {usage.sums.size} columns for `{tensor.name}`, which has "
            f"{tensor.shape[-1] * n_matrices}: it is of another model",
            hint="compute one with this model: --imatrix TEXT",
        )


def _n_bytes(tensor: GgufTensor, kind: GGMLQuantizationType) -> int:
    n_block, block_bytes = GGML_QUANT_SIZES[kind]
    n_bytes: int = tensor.n_elements // n_block * block_bytes
    return n_bytes
