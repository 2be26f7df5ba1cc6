"""What a model on disk is: its shape, its number formats, and the memory it will take.

Reads headers and configuration only, so that it is quick whatever the model's size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from qwenkit.errors import ModelCorrupt, ModelNotFound, ModelUnsupported
from qwenkit.models import qwen3
from qwenkit.models.checkpoint import open_checkpoint, read_json
from qwenkit.models.gguf_check import check_gguf
from qwenkit.models.gguf_header import GgufHeader, read_header, split_parts

Format: TypeAlias = Literal["gguf", "safetensors", "onnx"]

GENAI_CONFIG = "genai_config.json"
# Bytes a number takes in the KV cache; q8_0 keeps a half-precision scale for every 32.
KV_BYTES = {"f16": 2.0, "q8_0": 34 / 32}


@dataclass(frozen=True, slots=True)
class TypeShare:
    """How much of a model is stored in one number format."""

    type: str
    n_tensors: int
    n_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What a model on disk is.

    Args:
        n_parameters: Numbers in all tensors; None where no header tells.
        size_bytes: Size of the weights' files.
        n_ctx: Tokens of context the model was made for.
        rope_scaling: Such as `yarn 4x of 32768`; empty without any.
        types: Number formats, the largest share first.
        kv_bytes_per_token: Bytes of KV cache a token takes, by the cache's format.
    """

    path: Path
    format: Format
    name: str
    architecture: str
    n_parameters: int | None
    size_bytes: int
    n_files: int
    n_layers: int
    n_ctx: int
    rope_scaling: str
    n_vocab: int
    has_chat_template: bool
    types: tuple[TypeShare, ...]
    kv_bytes_per_token: dict[str, int]

    def memory_bytes(self, n_ctx: int, *, kv_type: str = "f16") -> int:
        """Memory for weights and a KV cache of `n_ctx` tokens; compute buffers come on top."""
        return self.size_bytes + n_ctx * self.kv_bytes_per_token[kv_type]


def inspect_model(path: Path) -> ModelInfo:
    """Say what lies at `path`: a GGUF file, a folder of safetensors, or an ONNX GenAI folder.

    Raises:
        ModelNotFound: Nothing there.
        ModelCorrupt: A file is truncated or contradicts itself.
        ModelUnsupported: Nothing that can be inspected.
    """
    if not path.exists():
        raise ModelNotFound(f"there is no `{path}`")
    if path.suffix == ".gguf":
        return _inspect_gguf(path)
    if (path / GENAI_CONFIG).exists():
        return _inspect_onnx(path)
    if path.is_dir() and any(path.glob("*.safetensors")):
        return _inspect_checkpoint(path)
    raise ModelUnsupported(
        f"`{path}` is no model that can be inspected",
        hint="name a .gguf file, a folder of safetensors or an ONNX GenAI folder",
    )


def _inspect_gguf(path: Path) -> ModelInfo:
    header = check_gguf(path)
    headers = [header]
    if header.n_split > 1:
        headers = [read_header(part) for part in split_parts(path)]
    first = headers[0]
    arch = first.text("general.architecture")
    n_heads = int(first.number(f"{arch}.attention.head_count"))
    head = first.number(f"{arch}.embedding_length") // max(1, n_heads)
    n_kv_heads = first.number(f"{arch}.attention.head_count_kv", n_heads)
    n_layers = int(first.number(f"{arch}.block_count"))
    width = n_kv_heads * (
        first.number(f"{arch}.attention.key_length", head)
        + first.number(f"{arch}.attention.value_length", head)
    )
    tensors = [tensor for header in headers for tensor in header.tensors]
    return ModelInfo(
        path=path,
        format="gguf",
        name=first.text("general.name", path.stem),
        architecture=arch,
        n_parameters=sum(tensor.n_elements for tensor in tensors),
        size_bytes=sum(header.size_bytes for header in headers),
        n_files=len(headers),
        n_layers=n_layers,
        n_ctx=int(first.number(f"{arch}.context_length")),
        rope_scaling=_gguf_rope_scaling(first, arch),
        n_vocab=len(first.strings("tokenizer.ggml.tokens")),
        has_chat_template=bool(first.text("tokenizer.chat_template")),
        types=_shares((tensor.type.name, tensor.n_bytes) for tensor in tensors),
        kv_bytes_per_token=_kv_bytes(n_layers, int(width)),
    )


def _inspect_checkpoint(path: Path) -> ModelInfo:
    checkpoint = open_checkpoint(path)
    config = qwen3.parse_config(read_json(path / "config.json"))
    scaling = config.rope_scaling
    original = scaling.get("original_max_position_embeddings", config.n_ctx)
    return ModelInfo(
        path=path,
        format="safetensors",
        name=path.resolve().name,
        architecture=qwen3.ARCHITECTURE,
        n_parameters=sum(math.prod(t.shape) for t in checkpoint.tensors.values()),
        size_bytes=sum(file.stat().st_size for file in checkpoint.files),
        n_files=len(checkpoint.files),
        n_layers=config.n_layers,
        n_ctx=config.n_ctx,
        rope_scaling=_scaling_text(scaling.get("type", ""), scaling.get("factor", 1), original),
        n_vocab=config.n_vocab,
        has_chat_template=_has_template(path),
        types=_shares((tensor.dtype, tensor.n_bytes) for tensor in checkpoint.tensors.values()),
        kv_bytes_per_token=_kv_bytes(config.n_layers, 2 * config.n_kv_heads * config.head_dim),
    )


def _inspect_onnx(path: Path) -> ModelInfo:
    model = read_json(path / GENAI_CONFIG).get("model")
    try:
        decoder: dict[str, Any] = model["decoder"]  # type: ignore[index]
        n_layers = int(decoder["num_hidden_layers"])
        width = 2 * int(decoder["num_key_value_heads"]) * int(decoder["head_size"])
        graph = path / str(decoder["filename"])
        n_ctx, n_vocab = int(model["context_length"]), int(model["vocab_size"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError) as exc:
        raise ModelCorrupt(f"`{path / GENAI_CONFIG}` lacks or garbles {exc}") from exc
    if not graph.exists():
        raise ModelCorrupt(f"`{path}` lacks `{graph.name}`, which its {GENAI_CONFIG} names")
    files = [graph, *path.glob(f"{graph.name}*.data"), *path.glob(f"{graph.stem}.data")]
    return ModelInfo(
        path=path,
        format="onnx",
        name=path.resolve().name,
        architecture=str(model.get("type", "")),  # type: ignore[union-attr]
        n_parameters=None,
        size_bytes=sum(file.stat().st_size for file in set(files)),
        n_files=len(set(files)),
        n_layers=n_layers,
        n_ctx=n_ctx,
        rope_scaling="",
        n_vocab=n_vocab,
        has_chat_template=_has_template(path),
        types=(),
        kv_bytes_per_token=_kv_bytes(n_layers, width),
    )


def _kv_bytes(n_layers: int, width: int) -> dict[str, int]:
    return {kind: int(n_layers * width * n_bytes) for kind, n_bytes in KV_BYTES.items()}


def _shares(tensors: Iterable[tuple[str, int]]) -> tuple[TypeShare, ...]:
    sums: dict[str, tuple[int, int]] = {}
    for kind, n_bytes in tensors:
        n, total = sums.get(kind, (0, 0))
        sums[kind] = (n + 1, total + n_bytes)
    shares = [TypeShare(kind, n, total) for kind, (n, total) in sums.items()]
    return tuple(sorted(shares, key=lambda share: -share.n_bytes))


def _gguf_rope_scaling(header: GgufHeader, arch: str) -> str:
    kind = header.text(f"{arch}.rope.scaling.type")
    factor = header.number(f"{arch}.rope.scaling.factor", 1)
    original = header.number(f"{arch}.rope.scaling.original_context_length")
    return _scaling_text(kind, factor, int(original))


def _scaling_text(kind: str, factor: float, original: int) -> str:
    if kind in ("", "none"):
        return ""
    return f"{kind} {factor:g}x" + (f" of {original}" if original else "")


def _has_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").exists():
        return True
    config = folder / "tokenizer_config.json"
    return config.exists() and bool(read_json(config).get("chat_template"))
