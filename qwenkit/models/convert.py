"""Safetensors to GGUF, for dense Qwen3 models.

Plans everything first (names, shapes, types, sizes), so that what can be refused is refused before
a byte is written; then streams rows, so that memory stays at a few dozen megabytes whatever the
model's size.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gguf.constants import (
    GGML_QUANT_SIZES,
    GGML_QUANT_VERSION,
    GGMLQuantizationType,
    LlamaFileType,
)
from gguf.utility import size_label
from numpy.typing import NDArray

from qwenkit.errors import InvalidSettings, ModelCorrupt, ModelUnsupported
from qwenkit.models import qwen3, vocabulary
from qwenkit.models.atomic import require_space
from qwenkit.models.checkpoint import (
    Checkpoint,
    StoredTensor,
    open_checkpoint,
    read_json,
    to_float32,
)
from qwenkit.models.gguf_file import Metadata, PlannedTensor, encode, write_gguf
from qwenkit.models.progress import ProgressFactory, silent

_TYPES = {
    "f32": GGMLQuantizationType.F32,
    "f16": GGMLQuantizationType.F16,
    "bf16": GGMLQuantizationType.BF16,
    "q8_0": GGMLQuantizationType.Q8_0,
}
DTYPES = ("auto", *_TYPES)
_STORED_TYPES = {
    "F32": GGMLQuantizationType.F32,
    "F64": GGMLQuantizationType.F32,
    "F16": GGMLQuantizationType.F16,
    "BF16": GGMLQuantizationType.BF16,
}
_FILE_TYPES = {
    GGMLQuantizationType.F32: LlamaFileType.ALL_F32,
    GGMLQuantizationType.F16: LlamaFileType.MOSTLY_F16,
    GGMLQuantizationType.BF16: LlamaFileType.MOSTLY_BF16,
    GGMLQuantizationType.Q8_0: LlamaFileType.MOSTLY_Q8_0,
}


@dataclass(frozen=True, slots=True)
class Conversion:
    """A conversion that is known to fit: what will be written."""

    metadata: Metadata = field(repr=False)
    tensors: tuple[PlannedTensor, ...] = field(repr=False)

    @property
    def n_bytes(self) -> int:
        """Size of all tensors as they will be written."""
        return sum(tensor.n_bytes for tensor in self.tensors)


def convert_checkpoint(
    folder: Path,
    target: Path,
    *,
    dtype: str = "auto",
    name: str = "",
    progress: ProgressFactory = silent,
) -> None:
    """Convert a folder of safetensors into one GGUF file.

    Args:
        folder: Checkpoint of a Qwen3ForCausalLM with its tokenizer.
        target: File to write; it appears whole or not at all.
        dtype: Type of the matrices; `auto` keeps each as it is stored. Vectors become F32.
        name: Written as the model's name; the folder's when empty.
        progress: Told the bytes written.

    Raises:
        ModelError: The checkpoint is damaged, or of a kind that can't be converted.
        InvalidSettings: No such dtype, or too little space on the disk.
    """
    name = name or folder.resolve().name
    conversion = plan_conversion(folder, dtype=dtype, name=name)
    require_space(target.parent, conversion.n_bytes, purpose=f"converting `{name}`")
    with progress(f"Converting {name}", total=conversion.n_bytes) as advance:
        write_gguf(
            target,
            architecture=qwen3.ARCHITECTURE,
            metadata=conversion.metadata,
            tensors=conversion.tensors,
            advance=advance,
        )


def plan_conversion(folder: Path, *, dtype: str = "auto", name: str = "model") -> Conversion:
    """Read everything but the weights, and decide what the GGUF file will hold.

    Raises as `convert_checkpoint` does.
    """
    if dtype not in DTYPES:
        raise InvalidSettings(f"there is no dtype `{dtype}`", hint=f"one of {', '.join(DTYPES)}")
    config = qwen3.parse_config(read_json(folder / "config.json"))
    checkpoint = open_checkpoint(folder)
    words = vocabulary.read_vocabulary(
        folder, n_vocab=config.n_vocab, default_ids=config.special_ids
    )
    tensors = tuple(
        _plan(expected.gguf_name, stored, dtype) for expected, stored in _match(config, checkpoint)
    )
    data = Metadata()
    _add_general(data, name, tensors, dtype)
    qwen3.add_metadata(data, config)
    vocabulary.add_metadata(data, words)
    return Conversion(data, tensors)


def _add_general(data: Metadata, name: str, tensors: tuple[PlannedTensor, ...], dtype: str) -> None:
    n_parameters = sum(math.prod(tensor.shape) for tensor in tensors)
    kind = _prevailing_type(tensors) if dtype == "auto" else _TYPES[dtype]
    data.string("general.type", "model")
    data.string("general.name", name)
    data.string("general.size_label", size_label(n_parameters, n_parameters, 0, 0))
    data.uint("general.file_type", int(_FILE_TYPES[kind]))
    data.uint("general.quantization_version", GGML_QUANT_VERSION)


def _prevailing_type(tensors: tuple[PlannedTensor, ...]) -> GGMLQuantizationType:
    weight = Counter[GGMLQuantizationType]()
    for tensor in tensors:
        weight[tensor.type] += math.prod(tensor.shape)
    return weight.most_common(1)[0][0]


def _match(
    config: qwen3.Qwen3Config, checkpoint: Checkpoint
) -> list[tuple[qwen3.ExpectedTensor, StoredTensor]]:
    left = dict(checkpoint.tensors)
    pairs = []
    for expected in qwen3.expected_tensors(config):
        stored = left.pop(expected.hf_name, None)
        if stored is None:
            raise ModelCorrupt(f"`{checkpoint.folder}` lacks the tensor `{expected.hf_name}`")
        if stored.shape != expected.shape:
            raise ModelCorrupt(
                f"`{expected.hf_name}` has the shape {list(stored.shape)}, "
                f"config.json asks for {list(expected.shape)}"
            )
        pairs.append((expected, stored))
    if config.tied and qwen3.OUTPUT in left:
        _check_tied(left.pop(qwen3.OUTPUT), checkpoint.tensors[qwen3.EMBEDDING])
    unexpected = [name for name in left if not name.endswith(".rotary_emb.inv_freq")]
    if unexpected:
        raise ModelUnsupported(
            f"`{checkpoint.folder}` holds {len(unexpected)} tensors that Qwen3 has no place for, "
            f"such as `{unexpected[0]}`"
        )
    return pairs


def _check_tied(output: StoredTensor, embedding: StoredTensor) -> None:
    same = (output.dtype, output.shape) == (embedding.dtype, embedding.shape) and all(
        a.tobytes() == b.tobytes() for a, b in zip(output.chunks(), embedding.chunks(), strict=True)
    )
    if not same:
        raise ModelUnsupported(
            f"config.json ties input and output embeddings, and `{output.name}` differs",
            hint="set `tie_word_embeddings` in config.json to what the model was trained with",
        )


def _plan(gguf_name: str, stored: StoredTensor, dtype: str) -> PlannedTensor:
    if stored.dtype not in _STORED_TYPES:
        raise ModelUnsupported(
            f"the tensor `{stored.name}` is stored as {stored.dtype}; F16, BF16 and F32 can be read"
        )
    kind = _target_type(stored, dtype)

    def chunks() -> Iterator[NDArray[Any]]:
        for rows in stored.chunks():
            try:
                yield (
                    rows
                    if stored.dtype == kind.name
                    else encode(to_float32(rows, stored.dtype), kind)
                )
            except OverflowError as exc:
                raise ModelUnsupported(
                    f"the tensor `{stored.name}` holds numbers too large for F16",
                    hint="convert to bf16",
                ) from exc

    return PlannedTensor(gguf_name, stored.shape, kind, chunks)


def _target_type(stored: StoredTensor, dtype: str) -> GGMLQuantizationType:
    if len(stored.shape) == 1:
        return GGMLQuantizationType.F32
    kind = _STORED_TYPES[stored.dtype] if dtype == "auto" else _TYPES[dtype]
    n_block, _ = GGML_QUANT_SIZES[kind]
    # As upstream: rows that no block fits stay at F16.
    return kind if stored.shape[-1] % n_block == 0 else GGMLQuantizationType.F16
