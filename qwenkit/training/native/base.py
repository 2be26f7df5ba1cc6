"""The model that native training starts from: its float32 matrices, read from its file when needed.

Reads what the weights were; what they have become is in the training context's memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from gguf.constants import GGMLQuantizationType

from qwenkit.adapters.base import BaseShapes, base_of_gguf, module_of
from qwenkit.adapters.lora import Float32
from qwenkit.errors import InvalidSettings, ModelUnsupported
from qwenkit.models.gguf_header import GgufHeader, GgufTensor, read_header
from qwenkit.models.qwen3 import native_ctx
from qwenkit.models.resolve import ResolvedModel


@dataclass(frozen=True, slots=True)
class Base:
    """A dense Qwen3 of float32 in GGUF.

    Args:
        path: What llama.cpp loads.
        header: Of the first file: the one with the metadata.
        shapes: The matrices that adapters may change.
        n_vocab: Tokens of its vocabulary.
        n_ctx: Tokens of context it was made for.
    """

    path: Path
    header: GgufHeader
    shapes: BaseShapes = field(repr=False)
    n_vocab: int
    n_ctx: int
    _tensors: dict[str, tuple[GgufHeader, GgufTensor]] = field(repr=False)

    def matrices(self, kinds: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Shape (out, in) of each matrix of these kinds, by transformers' name, in order."""
        names = (name for name in self.shapes.layers if name.rpartition(".")[2] in kinds)
        return {name: self.shapes.layers[name] for name in sorted(names)}

    def weights(self, gguf_name: str) -> Float32:
        """A matrix as it is in the file, `[out, in]`; mapped, not read."""
        header, tensor = self._tensors[gguf_name]
        return np.memmap(
            header.path,
            np.float32,
            mode="r",
            offset=header.data_offset + tensor.offset,
            shape=tensor.shape,
        )


def open_base(model: ResolvedModel) -> Base:
    """Read the headers of a model and make sure that it can be trained.

    Raises:
        ModelUnsupported: Not a GGUF file of a dense Qwen3 in float32.
        ModelError: A file is missing or damaged.
    """
    if model.format != "gguf":
        raise ModelUnsupported(
            f"`{model.source}` is no GGUF file, which llama.cpp's trainer needs",
            hint="name the model's safetensors: they are converted",
        )
    shapes = base_of_gguf(model.path)
    headers = [read_header(path) for path in model.paths]
    tensors = {tensor.name: (header, tensor) for header in headers for tensor in header.tensors}
    for _, tensor in tensors.values():
        if tensor.type is not GGMLQuantizationType.F32:
            raise ModelUnsupported(
                f"`{model.source}` stores `{tensor.name}` as {tensor.type.name}, and llama.cpp "
                "trains float32 only",
                hint="name the model's safetensors, such as Qwen/Qwen3-8B: they are converted",
            )
    first = headers[0]
    return Base(
        path=model.path,
        header=first,
        shapes=shapes,
        n_vocab=len(first.strings("tokenizer.ggml.tokens")),
        n_ctx=native_ctx(int(first.number("qwen3.context_length"))),
        _tensors=tensors,
    )


def check_fits(base: Base, *, kinds: Sequence[str], rank: int, n_ctx: int) -> None:
    """Refuse ranks and windows that the model can't have.

    Raises:
        InvalidSettings: The rank is more than a matrix has, or the window more than its context.
    """
    for name, shape in base.matrices(kinds).items():
        if rank > min(shape):
            raise InvalidSettings(
                f"rank {rank} is more than `{name}` of {shape[0]} x {shape[1]} can have",
                hint=f"set the rank to {min(shape)} or less",
            )
    if n_ctx > base.n_ctx:
        raise InvalidSettings(
            f"a window of {n_ctx} tokens is longer than the model's context of {base.n_ctx}",
            hint=f"train with a context of {base.n_ctx} or less",
        )


def gguf_names(base: Base, kinds: Sequence[str]) -> dict[str, str]:
    """transformers' name of each matrix of these kinds, by the file's."""
    wanted = base.matrices(kinds)
    return {
        name: module for name in base._tensors if (module := module_of(name)) and module in wanted
    }
