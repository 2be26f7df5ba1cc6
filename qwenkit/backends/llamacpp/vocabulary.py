"""A vocabulary without a model: a GGUF that holds no weights, written and loaded."""

from __future__ import annotations

import os
from pathlib import Path

import llama_cpp.llama_cpp as native

from qwenkit.backends.llamacpp import capi
from qwenkit.errors import ModelCorrupt
from qwenkit.models import qwen3
from qwenkit.models.gguf_file import Metadata, write_gguf
from qwenkit.models.vocabulary import Vocabulary, add_metadata


def write_vocabulary(words: Vocabulary, target: Path) -> None:
    """Write a vocabulary as a GGUF file, whole or not at all."""
    data = Metadata()
    data.string("general.type", "vocab")
    add_metadata(data, words)
    write_gguf(
        target, architecture=qwen3.ARCHITECTURE, metadata=data, tensors=(), advance=lambda _: None
    )


def load_vocabulary(path: Path, *, hint: str = "") -> int:
    """Load the vocabulary of a GGUF file, and none of its weights.

    Returns:
        A `llama_model` pointer, to be freed by the caller.

    Raises:
        ModelCorrupt: llama.cpp can't read it; `hint` says what to do then.
    """
    capi.initialise()
    params = native.llama_model_default_params()
    params.vocab_only = True
    capi.log.clear()
    model: int | None = native.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise ModelCorrupt(
            f"llama.cpp could not load the vocabulary {path}: "
            f"{capi.log.errors() or 'no reason given'}",
            hint=hint,
        )
    return model
