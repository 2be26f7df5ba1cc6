"""How much memory native training takes, before it takes it: without it the process would die."""

from __future__ import annotations

from qwenkit.errors import OutOfMemory
from qwenkit.models.gguf_header import GgufHeader
from qwenkit.training.native.context import Optimizer

_FLOAT = 4
# What the library takes whatever the model's size.
_N_FIXED = 8 * 2**20
# Arrays of a trained matrix's size: the sum of its gradients and, for AdamW, two running means.
_STATES: dict[Optimizer, int] = {"adamw": 3, "sgd": 1}


def training_bytes(header: GgufHeader, *, n_trained: int, n_ctx: int, optimizer: Optimizer) -> int:
    """Bytes for weights, optimizer, gradients and everything the backward pass goes back to.

    Args:
        header: The model's.
        n_trained: Numbers in the trained matrices.
        n_ctx: Tokens of a window.
        optimizer: Whose state is kept.
    """
    n_weights = sum(tensor.n_elements for tensor in header.tensors)
    n_state = _STATES[optimizer] * n_trained
    return _FLOAT * (n_weights + n_state + _activations(header, n_ctx))


def require_memory(needed: int, available: int, *, n_ctx: int) -> None:
    """Refuse a training that would not fit.

    Raises:
        OutOfMemory: It needs more than is free.
    """
    if needed > available:
        raise OutOfMemory(
            f"training by llama.cpp with windows of {n_ctx} tokens needs {needed / 1e9:.1f} GB "
            f"and {available / 1e9:.1f} GB of memory are free",
            hint="train with a shorter context, fewer targets, the optimizer `sgd` or "
            "--trainer peft",
        )


def _activations(header: GgufHeader, n_ctx: int) -> int:
    """Numbers that a forward and a backward pass hold at once."""

    def number(key: str, default: int = 0) -> int:
        return int(header.number(f"qwen3.{key}", default))

    width, hidden = number("embedding_length"), number("feed_forward_length")
    n_heads = number("attention.head_count")
    head = number("attention.key_length", width // max(1, n_heads))
    queries, keys = n_heads * head, number("attention.head_count_kv", n_heads) * head
    n_vocab = len(header.strings("tokenizer.ggml.tokens"))
    per_layer = n_ctx * (6 * width + 5 * queries + 8 * keys + 3 * hidden)
    n_layers = number("block_count")
    # Each layer's attention weights are kept for the way back, where two more are needed at once.
    attention = (n_layers + 2) * n_heads * n_ctx * n_ctx
    logits = 3 * n_ctx * n_vocab
    return n_layers * per_layer + attention + logits + _N_FIXED
