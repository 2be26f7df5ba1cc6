"""Makes a GGUF file with random weights in the shape of a real Qwen3, to measure speed with.

It says nothing sensible, but costs what the real one costs: same tensors, same vocabulary size.
The scales keep its text lively: every layer adds more to the residual stream than the embedding
brought, so no token predicts itself, and the logits spread about as a trained model's do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from gguf.constants import GGMLQuantizationType
from numpy.typing import NDArray

from qwenkit.models.gguf_file import Metadata, PlannedTensor, write_gguf
from qwenkit.models.gguf_header import read_header
from qwenkit.models.progress import Advance

ShapeName: TypeAlias = Literal["tiny", "0.6B"]

N_VOCAB = 151_936
N_PIECES = 151_643
CHUNK_ROWS = 8192
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
ADDED_TOKENS = {
    "<|endoftext|>": CONTROL,
    "<|im_start|>": CONTROL,
    "<|im_end|>": CONTROL,
    "<|object_ref_start|>": CONTROL,
    "<|object_ref_end|>": CONTROL,
    "<|box_start|>": CONTROL,
    "<|box_end|>": CONTROL,
    "<|quad_start|>": CONTROL,
    "<|quad_end|>": CONTROL,
    "<|vision_start|>": CONTROL,
    "<|vision_end|>": CONTROL,
    "<|vision_pad|>": CONTROL,
    "<|image_pad|>": CONTROL,
    "<|video_pad|>": CONTROL,
    "<tool_call>": USER_DEFINED,
    "</tool_call>": USER_DEFINED,
    "<|fim_prefix|>": CONTROL,
    "<|fim_middle|>": CONTROL,
    "<|fim_suffix|>": CONTROL,
    "<|fim_pad|>": CONTROL,
    "<|repo_name|>": CONTROL,
    "<|file_sep|>": CONTROL,
    "<tool_response>": USER_DEFINED,
    "</tool_response>": USER_DEFINED,
    "<think>": USER_DEFINED,
    "</think>": USER_DEFINED,
}


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a Qwen3 model with tied embeddings."""

    n_layers: int
    n_embd: int
    n_ff: int
    n_heads: int
    n_kv_heads: int
    head_dim: int = 128
    n_ctx: int = 40960


SHAPES: dict[ShapeName, Shape] = {
    "tiny": Shape(n_layers=2, n_embd=256, n_ff=512, n_heads=2, n_kv_heads=1),
    "0.6B": Shape(n_layers=28, n_embd=1024, n_ff=3072, n_heads=16, n_kv_heads=8),
}


def write_random_gguf(
    path: Path,
    *,
    shape: ShapeName = "0.6B",
    seed: int = 0,
    vocab_from: Path | None = None,
    chat_template: str = "",
    advance: Advance = lambda _: None,
) -> None:
    """Write an F16 GGUF of random weights.

    Args:
        path: File to make; replaced when it is there.
        shape: Which model's sizes to take.
        seed: The same seed gives the same file.
        vocab_from: GGUF whose pieces and merges to take; without it, made-up ones.
        chat_template: Jinja template to embed.
        advance: Told the bytes written.
    """
    sizes = SHAPES[shape]
    write_gguf(
        path,
        architecture="qwen3",
        metadata=_metadata(sizes, shape, vocab_from, chat_template),
        tensors=plan_tensors(sizes, np.random.default_rng(seed)),
        advance=advance,
    )


def synthetic_vocabulary() -> tuple[list[str], list[str]]:
    """Byte-level pieces and merges as many as Qwen's: all bytes, all pairs, then triples."""
    letters = _byte_letters()
    pairs = [(a, b) for a in letters for b in letters]
    n_triples = N_PIECES - len(letters) - len(pairs)
    triples = itertools.islice(((a + b, c) for a, b in pairs for c in letters), n_triples)
    merges = [*pairs, *triples]
    return [*letters, *(a + b for a, b in merges)], [f"{a} {b}" for a, b in merges]


def _byte_letters() -> list[str]:
    # GPT-2 spells each of the 256 bytes as one printable character.
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = itertools.count(256)
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]


def _metadata(
    sizes: Shape, shape: ShapeName, vocab_from: Path | None, chat_template: str
) -> Metadata:
    data = Metadata()
    data.string("general.name", f"random {shape}")
    data.uint("general.file_type", 1)
    data.uint("qwen3.block_count", sizes.n_layers)
    data.uint("qwen3.context_length", sizes.n_ctx)
    data.uint("qwen3.embedding_length", sizes.n_embd)
    data.uint("qwen3.feed_forward_length", sizes.n_ff)
    data.uint("qwen3.attention.head_count", sizes.n_heads)
    data.uint("qwen3.attention.head_count_kv", sizes.n_kv_heads)
    data.uint("qwen3.attention.key_length", sizes.head_dim)
    data.uint("qwen3.attention.value_length", sizes.head_dim)
    data.float("qwen3.attention.layer_norm_rms_epsilon", 1e-6)
    data.float("qwen3.rope.freq_base", 1e6)
    _add_vocabulary(data, vocab_from)
    data.string("tokenizer.chat_template", chat_template)
    return data


def _add_vocabulary(data: Metadata, vocab_from: Path | None) -> None:
    pieces, merges = _vocabulary(vocab_from)
    added = list(ADDED_TOKENS)
    n_unused = N_VOCAB - N_PIECES - len(added)
    unused = [f"[PAD{N_VOCAB - n_unused + i}]" for i in range(n_unused)]
    types = [NORMAL] * N_PIECES + list(ADDED_TOKENS.values()) + [UNUSED] * n_unused
    data.string("tokenizer.ggml.model", "gpt2")
    data.string("tokenizer.ggml.pre", "qwen2")
    data.array("tokenizer.ggml.tokens", pieces + added + unused)
    data.array("tokenizer.ggml.token_type", types)
    data.array("tokenizer.ggml.merges", merges)
    data.uint("tokenizer.ggml.eos_token_id", N_PIECES + added.index("<|im_end|>"))
    data.uint("tokenizer.ggml.padding_token_id", N_PIECES + added.index("<|endoftext|>"))
    data.bool("tokenizer.ggml.add_bos_token", False)


def _vocabulary(vocab_from: Path | None) -> tuple[list[str], list[str]]:
    if vocab_from is None:
        return synthetic_vocabulary()
    header = read_header(vocab_from)
    pieces = header.strings("tokenizer.ggml.tokens")[:N_PIECES]
    return pieces, header.strings("tokenizer.ggml.merges")


def plan_tensors(sizes: Shape, rng: np.random.Generator) -> list[PlannedTensor]:
    """Every tensor of a random model, in the order in which its rows are drawn."""
    n_embd, n_ff = sizes.n_embd, sizes.n_ff
    n_query, n_kv = sizes.n_heads * sizes.head_dim, sizes.n_kv_heads * sizes.head_dim
    unit = n_embd**-0.5

    def matrix(name: str, rows: int, columns: int, scale: float) -> PlannedTensor:
        return _matrix(f"{name}.weight", (rows, columns), _normal(rng, rows, columns, scale))

    tensors = [_embedding(rng, n_embd), _norm("output_norm.weight", n_embd)]
    for i in range(sizes.n_layers):
        block = f"blk.{i}."
        tensors += [
            _norm(f"{block}attn_norm.weight", n_embd),
            matrix(f"{block}attn_q", n_query, n_embd, unit),
            matrix(f"{block}attn_k", n_kv, n_embd, unit),
            matrix(f"{block}attn_v", n_kv, n_embd, unit),
            matrix(f"{block}attn_output", n_embd, n_query, n_query**-0.5),
            _norm(f"{block}attn_q_norm.weight", sizes.head_dim),
            _norm(f"{block}attn_k_norm.weight", sizes.head_dim),
            _norm(f"{block}ffn_norm.weight", n_embd),
            matrix(f"{block}ffn_gate", n_ff, n_embd, unit),
            matrix(f"{block}ffn_up", n_ff, n_embd, unit),
            matrix(f"{block}ffn_down", n_embd, n_ff, n_ff**-0.5),
        ]
    return tensors


def _embedding(rng: np.random.Generator, n_embd: int) -> PlannedTensor:
    def chunks() -> Iterator[NDArray[Any]]:
        first = 0
        # Logits spread by 2; control and unused tokens stay near 0, so no sampler ever picks them.
        for rows in _normal(rng, N_VOCAB, n_embd, 2 * n_embd**-0.5)():
            rows[max(0, N_PIECES - first) :] *= 0.05
            first += len(rows)
            yield rows

    return _matrix("token_embd.weight", (N_VOCAB, n_embd), chunks)


def _normal(
    rng: np.random.Generator, rows: int, columns: int, scale: float
) -> Callable[[], Iterator[NDArray[Any]]]:
    def chunks() -> Iterator[NDArray[Any]]:
        for first in range(0, rows, CHUNK_ROWS):
            size = (min(CHUNK_ROWS, rows - first), columns)
            yield rng.standard_normal(size, dtype=np.float32) * np.float32(scale)

    return chunks


def _matrix(
    name: str, shape: tuple[int, int], chunks: Callable[[], Iterator[NDArray[Any]]]
) -> PlannedTensor:
    return PlannedTensor(name, shape, GGMLQuantizationType.F16, chunks)


def _norm(name: str, size: int) -> PlannedTensor:
    ones = np.ones(size, dtype=np.float32)
    return PlannedTensor(name, (size,), GGMLQuantizationType.F32, lambda: iter([ones]))
