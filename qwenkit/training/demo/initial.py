"""The weights a run starts from: random embeddings, silent blocks, and an induction circuit.

Copying from the context needs two layers that work together: heads that carry the previous tokens
along, and heads that look for what followed the last occurrence of the present ones (Olsson et
al., 2022, "In-context Learning and Induction Heads"). A small model spends most of its training
before it stumbles on them, so the first two layers start with them, and training only refines them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from qwenkit.training.demo.extras import import_torch
from qwenkit.training.demo.shape import CONFIG

if TYPE_CHECKING:
    from torch import Tensor

_CONSTANT_CHANNEL: Final = 0
_CONSTANT: Final = 8.0
"""Every embedding holds this, so that a head can look at a position whatever the token is."""

_SHARPNESS: Final = 2.0
"""Gain of the query and key norms in the two layers of the circuit."""

_N_FAST: Final = 4
"""Rotary frequencies, from the fastest, that tell neighbours apart."""

_CARRIED: Final = 2.0
"""How loud carried tokens are beside the embeddings."""

_CONFIDENCE: Final = 0.05
"""How much of a found token the output starts with."""


def initialise(model: Any) -> None:
    """Set the first weights of a `Qwen3ForCausalLM`, from torch's current random state."""
    torch = import_torch()
    with torch.no_grad():
        embedding = model.model.embed_tokens.weight.normal_()
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        width = embedding.shape[1]
        basis = torch.linalg.qr(torch.randn(width, width)).Q
        basis[:, _CONSTANT_CHANNEL] = 0
        embedding[:, _CONSTANT_CHANNEL] = _CONSTANT
        # Four parts of the residual stream: the token, the one before, the one before that, and
        # what the circuit found.
        token, before, second, found = basis.split(width // 4)
        carry, seek = model.model.layers[0].self_attn, model.model.layers[1].self_attn
        _carry_previous_tokens(carry, token, (before, second))
        _seek_occurrences(seek, token, before, second, found)
        model.lm_head.weight.copy_(_CONFIDENCE * embedding @ token.T @ found)


def _carry_previous_tokens(attention: Any, token: Tensor, targets: tuple[Tensor, Tensor]) -> None:
    """Heads 0 and 1 look one and two positions back and write what they see into `targets`."""
    torch = import_torch()
    size = CONFIG["head_dim"]
    fast = torch.arange(_N_FAST)
    speed = CONFIG["rope_theta"] ** (-2.0 * fast / size)
    _sharpen(attention)
    attention.k_proj.weight[:size] = 0
    attention.k_proj.weight[fast, _CONSTANT_CHANNEL] = 1
    attention.v_proj.weight[:size] = token
    for head, target in enumerate(targets):
        # A query turned back by n positions meets the keys n positions before it face to face.
        angle, start = speed * (head + 1), head * size
        attention.q_proj.weight[start : start + size] = 0
        attention.q_proj.weight[start + fast, _CONSTANT_CHANNEL] = torch.cos(angle)
        attention.q_proj.weight[start + size // 2 + fast, _CONSTANT_CHANNEL] = -torch.sin(angle)
        attention.o_proj.weight[:, start : start + size] = _CARRIED * target.T


def _seek_occurrences(
    attention: Any, token: Tensor, before: Tensor, second: Tensor, found: Tensor
) -> None:
    """Head 0 looks behind earlier occurrences of the token, head 2 behind those of the last two."""
    torch = import_torch()
    size = CONFIG["head_dim"]
    # The slow half of the rotary frequencies hardly turns within a prompt: it can compare content.
    quarter = size // 4
    slow = torch.cat([torch.arange(quarter, 2 * quarter), torch.arange(3 * quarter, size)])
    code = torch.linalg.qr(torch.randn(size, len(slow))).Q.T
    half = code[: len(slow) // 2]
    _sharpen(attention)
    wanted = {0: code @ token, 2 * size: torch.cat([half @ token, half @ before])}
    offered = {0: code @ before, size: torch.cat([half @ before, half @ second])}
    for weight, rows in ((attention.q_proj.weight, wanted), (attention.k_proj.weight, offered)):
        for start, values in rows.items():
            weight[start : start + size] = 0
            weight[start + slow] = values
    for start in offered:
        attention.v_proj.weight[start : start + size] = token
    for start in wanted:
        attention.o_proj.weight[:, start : start + size] = _CARRIED * found.T


def _sharpen(attention: Any) -> None:
    attention.q_norm.weight.fill_(_SHARPNESS)
    attention.k_norm.weight.fill_(_SHARPNESS)
