"""Whether a GGUF file may be handed to llama.cpp, which aborts the process on some bad ones.

What `gguf_header` finds in the file's layout, and beyond it what llama.cpp asserts instead of
reporting: numbers out of range, and a vocabulary with the same token twice.
"""

from __future__ import annotations

import math
from pathlib import Path

from qwenkit.errors import ModelCorrupt
from qwenkit.models.gguf_header import GgufHeader, read_header, split_parts

# LLAMA_MAX_LAYERS; more layers end in an assertion.
MAX_LAYERS = 512
MAX_COUNT = 2**24


def check_gguf(path: Path) -> GgufHeader:
    """Check a GGUF file, and every other part of it when it is split, without reading weights.

    Returns the header of the file itself.

    Raises:
        ModelNotFound: No such file.
        ModelCorrupt: Cut off, contradicting itself, a part missing, or a number out of range.
        ModelUnsupported: A version, byte order or tensor type that can't be read.
    """
    header = read_header(path)
    first = header if header.n_split == 1 else _check_parts(header)
    _check_shape(first)
    _check_vocabulary(first)
    return header


def _check_parts(header: GgufHeader) -> GgufHeader:
    parts = []
    for part, path in enumerate(split_parts(header.path)):
        if not path.exists():
            raise ModelCorrupt(
                f"`{header.path.name}` is one of {header.n_split} parts, `{path.name}` is missing",
                hint=f"put all {header.n_split} parts into `{header.path.parent}`",
            )
        parts.append(header if path == header.path else read_header(path))
        _check_part(parts[-1], part, header.n_split)
    return parts[0]


def _check_part(header: GgufHeader, part: int, n_split: int) -> None:
    claimed = int(header.number("split.no"))
    if (claimed, header.n_split) != (part, n_split):
        raise ModelCorrupt(
            f"`{header.path.name}` says it is part {claimed + 1} of {header.n_split}, "
            f"its place is part {part + 1} of {n_split}",
            hint="the parts come from different models, or were renamed",
        )


def _check_shape(header: GgufHeader) -> None:
    arch = header.text("general.architecture")
    if not arch:
        raise ModelCorrupt(f"`{header.path}` does not name its architecture")
    limits = {
        "block_count": MAX_LAYERS,
        "embedding_length": MAX_COUNT,
        "feed_forward_length": MAX_COUNT,
        "attention.head_count": MAX_COUNT,
        "attention.head_count_kv": header.metadata.get(f"{arch}.attention.head_count", MAX_COUNT),
        "attention.key_length": MAX_COUNT,
        "attention.value_length": MAX_COUNT,
    }
    for key, most in limits.items():
        value = header.metadata.get(f"{arch}.{key}")
        # Some architectures have a list here, one number a layer.
        if isinstance(value, int) and isinstance(most, int) and not 0 < value <= most:
            raise ModelCorrupt(f"`{header.path}` has {arch}.{key} = {value}, at most {most} can be")
    epsilon = header.number(f"{arch}.attention.layer_norm_rms_epsilon")
    if not 0 <= epsilon < math.inf:
        raise ModelCorrupt(f"`{header.path}` has the RMS epsilon {epsilon}")


def _check_vocabulary(header: GgufHeader) -> None:
    # llama.cpp reads each up to its first zero byte, and gives empty ones a name of their own.
    tokens = [token.partition("\0")[0] for token in header.strings("tokenizer.ggml.tokens")]
    named = [token for token in tokens if token]
    if len(set(named)) < len(named):
        raise ModelCorrupt(f"`{header.path}` has a vocabulary with the same token twice")
    for key in ("token_type", "scores"):
        values = header.metadata.get(f"tokenizer.ggml.{key}")
        if isinstance(values, list) and len(values) != len(tokens):
            raise ModelCorrupt(
                f"`{header.path}` has {len(tokens)} tokens and {len(values)} entries of `{key}`"
            )
