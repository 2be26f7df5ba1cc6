"""The random model of `random_model` as a folder of safetensors, for what starts from one.

The same seed holds the same numbers as the GGUF file, in F16. No torch: rows are written as they
are drawn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qwenkit.bench.random_model import (
    ADDED_TOKENS,
    CONTROL,
    N_PIECES,
    N_VOCAB,
    SHAPES,
    Shape,
    ShapeName,
    plan_tensors,
    synthetic_vocabulary,
)
from qwenkit.models import qwen3
from qwenkit.models.atomic import atomic_file, exclusive
from qwenkit.models.checkpoint import SINGLE_NAME
from qwenkit.models.gguf_file import PlannedTensor
from qwenkit.models.progress import Advance
from qwenkit.models.safetensors_file import TensorToWrite, encode_as, write_safetensors
from qwenkit.models.vocabulary import QWEN2_SPLIT

_EOS, _PAD = "<|im_end|>", "<|endoftext|>"


def write_random_checkpoint(
    folder: Path,
    *,
    shape: ShapeName = "0.6B",
    seed: int = 0,
    chat_template: str = "",
    advance: Advance = lambda _: None,
) -> None:
    """Write a checkpoint of random weights in Hugging Face's layout.

    Args:
        folder: Folder to make; its files are replaced when they are there.
        shape: Which model's sizes to take.
        seed: The same seed gives the same files.
        chat_template: Jinja template to put into the tokenizer's configuration.
        advance: Told the bytes of weights written.
    """
    config = config_of(SHAPES[shape])
    texts = {
        "config.json": config,
        "generation_config.json": {"eos_token_id": [_id(_EOS), _id(_PAD)]},
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": _tokenizer_config(config, chat_template),
    }
    with exclusive(folder):
        for name, value in texts.items():
            with atomic_file(folder / name) as path:
                path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
        with atomic_file(folder / SINGLE_NAME) as path:
            write_safetensors(path, _weights(SHAPES[shape], config, seed), advance)


def config_of(sizes: Shape) -> dict[str, Any]:
    """A `config.json` as Qwen3 spells it."""
    return {
        "architectures": [qwen3.HF_ARCHITECTURE],
        "attention_bias": False,
        "bos_token_id": None,
        "eos_token_id": _id(_EOS),
        "head_dim": sizes.head_dim,
        "hidden_act": "silu",
        "hidden_size": sizes.n_embd,
        "intermediate_size": sizes.n_ff,
        "max_position_embeddings": sizes.n_ctx,
        "model_type": qwen3.ARCHITECTURE,
        "num_attention_heads": sizes.n_heads,
        "num_hidden_layers": sizes.n_layers,
        "num_key_value_heads": sizes.n_kv_heads,
        "pad_token_id": _id(_PAD),
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "vocab_size": N_VOCAB,
    }


def _weights(sizes: Shape, config: dict[str, Any], seed: int) -> list[TensorToWrite]:
    expected = qwen3.expected_tensors(qwen3.parse_config(config))
    names = {tensor.gguf_name: tensor.hf_name for tensor in expected}
    planned = plan_tensors(sizes, np.random.default_rng(seed))
    return [TensorToWrite(names[t.name], "F16", t.shape, partial(_halves, t)) for t in planned]


def _halves(tensor: PlannedTensor) -> Iterator[NDArray[Any]]:
    return (encode_as(rows, "F16") for rows in tensor.chunks())


def _tokenizer() -> dict[str, Any]:
    pieces, merges = synthetic_vocabulary()
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    split = {"type": "Split", "pattern": {"Regex": QWEN2_SPLIT}, "behavior": "Isolated"}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": _id(text), **_added(text)} for text in ADDED_TOKENS],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{**split, "invert": False}, byte_level],
        },
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {piece: index for index, piece in enumerate(pieces)},
            "merges": [pair.split(" ") for pair in merges],
        },
    }


def _tokenizer_config(config: dict[str, Any], chat_template: str) -> dict[str, Any]:
    return {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(_id(text)): _added(text) for text in ADDED_TOKENS},
        "bos_token": None,
        "chat_template": chat_template,
        "clean_up_tokenization_spaces": False,
        "eos_token": _EOS,
        "errors": "replace",
        "model_max_length": config["max_position_embeddings"],
        "pad_token": _PAD,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def _added(text: str) -> dict[str, Any]:
    return {
        "content": text,
        "lstrip": False,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
        "special": ADDED_TOKENS[text] == CONTROL,
    }


def _id(text: str) -> int:
    return N_PIECES + list(ADDED_TOKENS).index(text)
